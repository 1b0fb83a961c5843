"""Which state of a model a knowledge source uses, known without loading the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

DIGITS = 12  # of the hexadecimal digests, 48 bits
SMALL_FILES = (
    ".json",
    ".txt",
    ".jinja",
    ".model",
)  # configurations, vocabularies, merges, chat templates, sentencepiece
SAMPLES = 64  # places of each tensor that a digest of weights reads
PLACE_BYTES = 8  # bytes that it reads at each place of a file


def model_name(model: str | PreTrainedModel) -> str:
    """Return how a model is called in notes: a Hub name, the last part of a path, or the class of a nameless model.

    A path is cut because the folders above say nothing about the model, and differ between machines.
    """
    name = model if isinstance(model, str) else str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
    return Path(name).resolve().name if Path(name).exists() or Path(name).is_absolute() else name


def model_revision(model: str | PreTrainedModel, revision: str | None = None) -> str:
    """Return a text that changes with the weights or the settings of a model.

    Args:
        model: a Hub name, a folder, or a loaded model.
        revision: the branch, tag or commit of a Hub name; None = its main branch.

    Returns:
        For a Hub name the commit, else `revision` or `"main"`; for a folder and for a loaded model a digest.
    """
    if not isinstance(model, str):
        return weights_digest(model)
    if Path(model).is_dir():
        return folder_digest(Path(model))
    return hub_commit(model, revision or "main") or revision or "main"


def check_revision(model: str | PreTrainedModel, revision: str | None) -> None:
    """Refuse a revision where there is none to choose.

    Raises:
        ValueError: if `revision` is given for a folder or for a loaded model.
    """
    if revision is not None and (not isinstance(model, str) or Path(model).is_dir()):
        given = f"the folder {model!r}" if isinstance(model, str) else f"a loaded {type(model).__name__}"
        raise ValueError(
            f"`revision={revision!r}` was given for {given}; expected a Hub name as `model`, since only those have"
            " revisions. Leave `revision` out, or give the name."
        )


def prompt_version(prompt: str | None) -> str:
    """Return the first digits of the prompt's SHA-256, `""` without one."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:DIGITS] if prompt else ""


def file_digest(path: Path) -> str:
    """Return the first digits of a whole file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def hub_commit(name: str, revision: str) -> str | None:
    """Return the commit that a branch or tag of a Hub model stands for in the local cache.

    A model that is not there yet gets its configuration fetched first, since the answers of a first run would else be
    noted under another revision than those of the second. Returns None if it cannot be had, say, without network.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.file_download import repo_folder_name

    try:
        folder = repo_folder_name(repo_id=name, repo_type="model")
    except HFValidationError:  # a path that does not exist, say
        return None
    reference = Path(constants.HF_HUB_CACHE, folder, "refs", revision)
    if not reference.is_file():
        try:
            hf_hub_download(name, "config.json", revision=revision)
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError):
            return None
    return reference.read_text(encoding="utf-8").strip() if reference.is_file() else None


def folder_digest(folder: Path) -> str:
    """Return a digest of a model's folder: its small files whole, and of each tensor the header and sampled bytes.

    The files of weights are not read whole, so that 15 GB take no longer than 15 MB. What training changes, it changes
    in more places than the samples leave out; a change of single numbers can go unnoticed.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            _update(digest, [path.name.encode(), *_safetensors_samples(path)])
        elif path.suffix in SMALL_FILES and path.is_file():
            _update(digest, [path.name.encode(), path.read_bytes()])
    return digest.hexdigest()[:DIGITS]


def weights_digest(model: PreTrainedModel) -> str:
    """Return a digest of a loaded model: its configuration, and name, shape, type and sampled numbers of tensors."""
    digest = hashlib.sha256()
    settings = {**model.config.to_dict(), "_name_or_path": None, "transformers_version": None}
    _update(digest, [json.dumps(settings, sort_keys=True, default=str).encode()])
    for name, tensor in sorted(model.state_dict().items()):
        _update(digest, [f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode(), _tensor_samples(tensor)])
    return digest.hexdigest()[:DIGITS]


def _update(digest: Any, parts: Iterable[bytes]) -> None:
    """Add the parts with their lengths, so that a move of bytes from one to the next changes the digest."""
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)


def _tensor_samples(tensor: Tensor) -> bytes:
    import torch

    numbers = tensor.detach().flatten()
    sampled = numbers[:: max(1, len(numbers) // SAMPLES)].cpu().contiguous()
    return sampled.view(torch.uint8).numpy().tobytes()


def _safetensors_samples(path: Path) -> Iterable[bytes]:
    """Yield a file's header, then bytes from places of each tensor.

    The format: 8 bytes with the length of the header, the header as JSON, the numbers. `data_offsets` of the header
    count from its end. A file in another format, such as a pointer of Git LFS, gives its beginning: to refuse it is
    left to those who load it.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            file.seek(0)
            yield file.read(SAMPLES * PLACE_BYTES)
            return
        header = file.read(size)
        yield header
        for name, entry in sorted(json.loads(header).items()):
            if name == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            for place in range(start, end, max(PLACE_BYTES, (end - start) // SAMPLES)):
                file.seek(8 + size + place)
                yield file.read(min(PLACE_BYTES, end - place))
