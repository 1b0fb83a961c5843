"""The teacher of Trust Your Teacher: what it says of rows, read before training and kept on disk, or in each batch."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from numpy import ndarray
from PIL.Image import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import BatchFeature, PreTrainedConfig

from hf_mner.models.base.modeling_base import EncodingCache, MnerPreTrainedModel
from hf_mner.models.base.processing_base import MnerProcessor, Row

logger = logging.getLogger(__name__)

TeacherMode = Literal["offline", "online"]
TEACHER_MODES: tuple[TeacherMode, ...] = get_args(TeacherMode)
TEACHER_SCORES = "teacher_scores.safetensors"
PREFIX = "teacher_"  # of the fields of rows and batches that hold what a teacher said

Scores = dict[str, Tensor]  # what a teacher says of one row, or of a batch, by the names of `teacher_fields`


def check_teacher_mode(teacher_mode: str) -> None:
    """Raise a `ValueError` that lists the choices if `teacher_mode` is none of them."""
    if teacher_mode not in TEACHER_MODES:
        raise ValueError(f"`teacher_mode={teacher_mode!r}` is not known; choose one of {', '.join(TEACHER_MODES)}.")


def check_distillable(model: MnerPreTrainedModel, distillation: str) -> None:
    """Refuse a model that has no answers to compare with a teacher's."""
    if not model.teacher_fields:
        raise ValueError(
            f"`distillation={distillation!r}` compares answers with a teacher's, and {type(model).__name__} gives none"
            " that Eq. 4 could compare (grounding never sees a teacher); train it with `distillation='none'`."
        )


def load_teacher(
    teacher: MnerPreTrainedModel | str | Path | None,
    student: MnerPreTrainedModel,
    distillation: str,
    device: torch.device,
) -> MnerPreTrainedModel:
    """Return the teacher in evaluation mode, checked against the student's labels.

    Args:
        teacher: the model or its folder.
        student: the model that is trained.
        distillation: for the error.
        device: where to.

    Raises:
        ValueError: if there is none, or it has other labels, or reads rows in another way.
    """
    if teacher is None:
        raise ValueError(
            f"`distillation={distillation!r}` needs a teacher; pass `teacher=` a trained model or its folder,"
            " or train one first with `distillation='none'`."
        )
    model: Any = teacher
    if isinstance(teacher, str | Path):
        model = type(student).from_pretrained(teacher, dtype=torch.float32)
    if model.class_names != student.class_names:
        raise ValueError(
            f"The teacher's labels are {model.class_names} and the student's {student.class_names};"
            " use a teacher trained with the same labels in the same order."
        )
    for name in student.teacher_shares:
        if (its := getattr(model.config, name)) != (mine := getattr(student.config, name)):
            raise ValueError(
                f"The teacher has `{name}={its!r}` and the student {mine!r}, and rows are made for one of them; use a"
                " teacher trained on the same data."
            )
    return model.to(device).eval()


def check_same_images(
    teacher: MnerPreTrainedModel, student: MnerPreTrainedModel, processor: MnerProcessor, rows: Sequence[Row]
) -> None:
    """Refuse an online teacher that would read what another image encoder than its own made of the images.

    A frozen image encoder reads each image once, before training, and rows hold what it made of them. (An offline
    teacher reads the images of such rows itself, see `encode_shared`.)
    """
    with_image = next((row for row in rows if row.get("image") is not None), None)
    mine, its = (getattr(model, "vision_model", None) for model in (student, teacher))
    if with_image is None or mine is None or its is None or "pixel_values" in processor.pad([with_image]):
        return
    weights, others = mine.state_dict(), its.state_dict()
    is_same = weights.keys() == others.keys() and all(
        value.shape == others[name].shape and torch.equal(value.cpu(), others[name].cpu())
        for name, value in weights.items()
    )
    if not is_same:
        raise ValueError(
            "`teacher_mode='online'`: the teacher has another image encoder than the student, whose frozen one read"
            " the images before training; use `teacher_mode='offline'`, or a teacher with the same image encoder."
        )


def ask_online(teacher: MnerPreTrainedModel, inputs: Mapping[str, Any]) -> Scores:
    """Return what the teacher says of a batch (fields of `b ...`)."""
    with torch.no_grad():
        return teacher.read_as_teacher(inputs)


# ------------------------------------------------------------------------------------------------------------- offline


def with_teacher_scores(
    rows: Sequence[Row], teacher: MnerPreTrainedModel, processor: MnerProcessor, batch_size: int, path: Path
) -> list[Row]:
    """Return copies of the rows that hold what the teacher says of them, `teacher_<field>`, without padding.

    Args:
        rows: training rows with `labels`.
        teacher: a model in evaluation mode.
        processor: pads rows.
        batch_size: rows in one forward pass.
        path: a safetensors file with the scores of an earlier call, which is read where teacher and rows are the same,
            and written otherwise: whole or not at all.

    Raises:
        ValueError: if rows change from epoch to epoch.
    """
    if any(row.get("is_distorted") for row in rows):
        raise ValueError(
            "`teacher_mode='offline'`: the teacher reads each row once, and with `is_distorted` the images change in"
            " every epoch; use `teacher_mode='online'` (in a recipe `teacher_mode: online`)."
        )
    key = fingerprint(teacher, processor, rows)
    scores = load_scores(path, key, len(rows))
    if scores is None:
        logger.info("The teacher reads %d training rows.", len(rows))
        scores = read_rows(teacher, processor, rows, batch_size)
        save_scores(path, key, scores)
    else:
        logger.info("%s holds what the teacher says of the %d training rows.", path, len(rows))
    return [
        {**row, **{f"{PREFIX}{name}": value for name, value in said.items()}}
        for row, said in zip(rows, scores, strict=True)
    ]


@torch.no_grad()
def read_rows(
    teacher: MnerPreTrainedModel, processor: MnerProcessor, rows: Sequence[Row], batch_size: int
) -> list[Scores]:
    """Let a teacher read rows of similar length together; each row gets what is said of it, in float32 on the CPU."""
    shared = teacher.encode_shared(rows, processor, batch_size, EncodingCache())
    order = sorted(range(len(rows)), key=lambda index: -processor.row_length(rows[index]))
    scores: list[Scores] = [{} for _ in rows]
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = processor.pad([shared[index] for index in chosen]).to(teacher.device)
        said = {name: value.float().cpu() for name, value in teacher.read_as_teacher(batch).items()}
        for position, index in enumerate(chosen):
            for name, word_axes in teacher.teacher_fields.items():
                # Copies, or every row would hold on to its whole batch.
                scores[index][name] = without_padding(said[name][position], word_axes, rows[index]).clone()
    return scores


def without_padding(value: Tensor, word_axes: int, row: Row) -> Tensor:
    """Cut the first `word_axes` dimensions to the words of a row."""
    words = slice(len(row["labels"])) if word_axes else slice(None)
    return value[(words,) * word_axes]


def pad_with_teacher(pad: Callable[[Sequence[Row]], BatchFeature], rows: Sequence[Row]) -> BatchFeature:
    """Pad rows as their processor does, and what a teacher said of them with zeros; a collator once `pad` is given."""
    batch = pad(rows)
    for name in rows[0]:
        if name.startswith(PREFIX):
            batch[name] = pad_scores([row[name] for row in rows])
    return batch


def pad_scores(values: Sequence[Tensor]) -> Tensor:
    """Stack tensors of equally many dimensions, each padded to the largest with zeros."""
    shape = [max(sizes) for sizes in zip(*(value.shape for value in values), strict=True)]
    stacked = values[0].new_zeros(len(values), *shape)
    for place, value in zip(stacked, values, strict=True):
        place[tuple(map(slice, value.shape))] = value
    return stacked


# ------------------------------------------------------------------------------------------------------------- on disk


def save_scores(path: Path, key: str, scores: Sequence[Scores]) -> None:
    """Write scores so that they are there whole or not at all: of each field all numbers (float32) and all shapes."""
    tensors = {}
    for name in scores[0]:
        tensors[name] = torch.cat([said[name].flatten() for said in scores])
        tensors[f"{name}.shapes"] = torch.tensor([list(said[name].shape) for said in scores], dtype=torch.int64)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    save_file(tensors, unfinished, metadata={"key": key})
    os.replace(unfinished, path)


def load_scores(path: Path, key: str, num_rows: int) -> list[Scores] | None:
    """Read scores; `None` if there are none, or if they are those of another teacher or of other rows."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") != key:
                logger.info("%s is of another teacher or of other rows; the teacher reads anew.", path)
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a mapping
    except SafetensorError as error:
        logger.warning("%s cannot be read (%s); the teacher reads anew.", path, error)
        return None
    scores: list[Scores] = [{} for _ in range(num_rows)]
    for name in (name for name in tensors if f"{name}.shapes" in tensors):
        shapes = tensors[f"{name}.shapes"].tolist()
        ends = [0, *accumulate(map(math.prod, shapes))]
        for said, shape, (start, end) in zip(scores, shapes, pairwise(ends), strict=True):
            said[name] = tensors[name][start:end].view(shape)
    return scores


def fingerprint(teacher: MnerPreTrainedModel, processor: MnerProcessor, rows: Sequence[Row]) -> str:
    """Return a hash of all that decides what a teacher says: its weights and configuration, the processor, the rows.

    An image that is given by its path counts by that.
    """
    digest = hashlib.blake2b(digest_size=20)
    settings = [type(teacher).__name__, network_settings(teacher.config), processor_settings(processor)]
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    add_to_digest(digest, teacher.state_dict())
    add_to_digest(digest, list(rows))
    return digest.hexdigest()


def processor_settings(processor: MnerProcessor) -> dict[str, Any]:
    """Return what a processor was told, but for its tokenizer, whose work stands in the rows."""
    names = set(signature(type(processor).__init__).parameters) & set(vars(processor))
    parts = {"tokenizer", "image_processor"}
    return {name: getattr(processor, name) for name in sorted(names - parts)}


def network_settings(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the fields that a configuration's own class declares, of nested configurations too.

    Those of every configuration (where it was loaded from, how it is stored) do not survive saving and loading alike.
    """
    names = set(type(config).__dataclass_fields__) - set(PreTrainedConfig.__dataclass_fields__)
    values = {name: getattr(config, name, None) for name in names}
    return {
        name: network_settings(value) if isinstance(value, PreTrainedConfig) else value
        for name, value in values.items()
    }


def add_to_digest(digest: Any, value: Any) -> None:
    """Let a hash take in nested plain data, tensors and images, each with its kind and size."""
    if isinstance(value, Mapping):
        digest.update(f"mapping {len(value)} ".encode())
        for name in sorted(value, key=str):
            add_to_digest(digest, str(name))
            add_to_digest(digest, value[name])
    elif isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().flatten()
        digest.update(f"tensor {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(flat.view(torch.uint8).numpy())
    elif isinstance(value, ndarray):  # whose `repr` leaves out the middle
        add_to_digest(digest, torch.from_numpy(value))
    elif isinstance(value, Image):
        digest.update(f"image {value.mode} {value.size} ".encode())
        digest.update(value.tobytes())
    elif isinstance(value, list | tuple) and not all(isinstance(item, bool | int | float | str) for item in value):
        digest.update(f"list {len(value)} ".encode())
        for item in value:
            add_to_digest(digest, item)
    else:
        text = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(f"{type(value).__name__} {len(text)} ".encode())
        digest.update(text)
