"""Weak supervision for MNER-QG: a model that grounds phrases is asked where the entities of an MNER data set are.

Source: MNER-QG (Jia et al. 2023), "Dataset Construction": FA-VG, trained on phrase grounding, gives the boxes.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from hf_mner.data.folder_dataset import FolderPost, write_folder
from hf_mner.data.images import load_rgb_image
from hf_mner.data.schema import EntityAnnotation, MnerExample
from hf_mner.knowledge.model_identity import model_name, model_revision
from hf_mner.metrics import score_grounding
from hf_mner.models.base.recognition import recognize_entities
from hf_mner.models.mner_qg.modeling_mner_qg import MnerQgForVisualGrounding
from hf_mner.models.mner_qg.processing_mner_qg import PHRASE, MnerQgProcessor
from hf_mner.models.mner_qg.queries import QueryStyle, build_queries

from .fitting import is_finished, training_device, write_whole
from .mner_qg import MnerQgTraining, has_gold_box
from .recipes import MnerQgRecipe
from .run import claim_folder, entity_types, examples_of, train_from_recipe

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

QueryKind = Literal["type", "mention"]
QUERY_KINDS: tuple[str, ...] = get_args(QueryKind)
ANSWERS_FILE, REPORT_FILE = "weak_answers.jsonl", "weak_boxes.json"
MODEL_FOLDER, FINE_TUNED_FOLDER = "grounding-model", "fine-tuned-model"
CHUNK = 32  # texts between two lines of the answers


@dataclass(frozen=True)
class WeakQueries:
    """What is asked for the entities of a text.

    Args:
        kind: `type`: one query for each type that the text has, whose box goes to all its entities (the paper's);
            `mention`: the words of each entity.
        style: of the types' queries, see `build_queries`; not read for `mention`.
        texts: queries of some types, in the place of built ones; not read for `mention`.
    """

    kind: QueryKind = "type"
    style: QueryStyle = "annotation"
    texts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if self.kind not in QUERY_KINDS:
            raise ValueError(f"`query={self.kind!r}` is not known; choose one of {', '.join(QUERY_KINDS)}.")

    def describe(self, types: Sequence[str]) -> dict[str, Any]:
        """Return what decides the queries of a data set, for notes."""
        if self.kind == "mention":
            return {"query": self.kind}
        return {"query": self.kind, "queries": build_queries(types, self.style, self.texts)}


@dataclass(frozen=True)
class Question:
    """A query, and the entities of a text that its box is for."""

    text: str
    entities: tuple[EntityAnnotation, ...]

    @property
    def gold_boxes(self) -> list[Any]:
        """All gold boxes of the entities."""
        return [box for entity in self.entities for box in entity["boxes"]]


def list_questions(example: MnerExample, notes: Mapping[str, Any]) -> list[Question]:
    """Return what is asked for the entities of a text; `notes` are those of `WeakQueries.describe`."""
    entities = example.get("entities") or []
    if notes["query"] == "mention":
        return [
            Question(" ".join(example["tokens"][entity["start"] : entity["end"]]), (entity,)) for entity in entities
        ]
    by_type = {name: tuple(e for e in entities if e["type"] == name) for name in notes["queries"]}
    return [Question(notes["queries"][name], found) for name, found in by_type.items() if found]


def phrase_example(example: MnerExample, question: Question) -> MnerExample:
    """Return a query as an example of phrase grounding: its words are one entity with the gold boxes."""
    tokens = question.text.split()
    phrase: EntityAnnotation = {"start": 0, "end": len(tokens), "type": PHRASE, "boxes": question.gold_boxes}
    return {
        "id": example["id"],
        "tokens": tokens,
        "image": example.get("image"),
        "image_size": example.get("image_size"),
        "entities": [phrase],
    }


# ----------------------------------------------------------------------------------------------------------- models


def train_grounding(recipe: MnerQgRecipe, output: Path, phrases_dir: Path | None) -> Path:
    """Train the model that grounds phrases, or find it finished, and return its folder below `output`.

    Raises:
        ValueError: if the recipe trains something else.
    """
    check_grounding_recipe(recipe)
    train_from_recipe(recipe, output / MODEL_FOLDER, phrases_dir)
    return output / MODEL_FOLDER


def check_grounding_recipe(recipe: Any) -> None:
    """Refuse a recipe that trains no `MnerQgForVisualGrounding`."""
    if recipe.system != "mner_qg" or recipe.task != "grounding":
        task = f"`task: {recipe.task}`" if recipe.system == "mner_qg" else "no `task`"
        raise ValueError(
            f"The recipe has `system: {recipe.system}` and {task}; expected `system: mner_qg` and `task: grounding`."
            " Give another recipe, or `--set task=grounding`."
        )


def load_grounding(folder: Path) -> tuple[MnerQgForVisualGrounding, MnerQgProcessor]:
    """Load a model that grounds phrases, and its processor.

    Raises:
        FileNotFoundError: if the folder holds no checkpoint.
        ValueError: if it holds another model.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"`--model` is '{folder}', which holds no checkpoint (config.json); expected the folder of a trained"
            f" {MnerQgForVisualGrounding.__name__}. Train one with a recipe that has `task: grounding`."
        )
    found = json.loads(path.read_text(encoding="utf-8")).get("architectures")
    if found != [MnerQgForVisualGrounding.__name__]:
        raise ValueError(
            f"`--model` is '{folder}', a {', '.join(found or ['model without a name'])}; expected a"
            f" {MnerQgForVisualGrounding.__name__}, as a recipe with `task: grounding` trains it."
        )
    model = MnerQgForVisualGrounding.from_pretrained(folder, dtype=torch.float32)
    return model.to(training_device()).eval(), MnerQgProcessor.from_pretrained(folder)


class FineTuning(MnerQgTraining):
    """The training of MNER-QG's grounding, begun with a trained model."""

    def __init__(self, base: Path, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.base = base

    def new_model(self, has_boxes: bool) -> MnerQgForVisualGrounding:  # noqa: ARG002 it is known to be true
        """Load the trained model."""
        return load_grounding(self.base)[0].train()

    def new_processor(self) -> MnerQgProcessor:
        """Load the trained model's processor."""
        return load_grounding(self.base)[1]


def fine_tune(
    base: Path, recipe: MnerQgRecipe, dataset: Mapping[str, Dataset], queries: WeakQueries, output: Path
) -> Path:
    """Train a model further on the gold boxes of a data set, asked for as its weak boxes will be (transfer learning).

    Args:
        base: folder of the trained model.
        recipe: how it is trained further; only seed and schedule are read.
        dataset: rows with gold boxes in `train`; those in `validation` choose the best epoch.
        queries: what is asked.
        output: receives `fine-tuned-model`; a run that was stopped goes on there.

    Raises:
        ValueError: if no training text has an image with a gold box, or the folder holds another fine-tuning.
    """
    check_grounding_recipe(recipe)
    types = entity_types(dataset["train"]) if "train" in dataset else []
    notes = queries.describe(types)
    train, validation = (
        [phrase_example(e, q) for e in _with_gold(dataset, split) for q in list_questions(e, notes) if q.gold_boxes]
        for split in ("train", "validation")
    )
    if not train:
        raise ValueError(
            "`--fine-tune` needs training texts with an image and a gold box, and the data set has none; leave"
            " `--fine-tune` out, or give some entities boxes."
        )
    folder = output / FINE_TUNED_FOLDER
    claim_folder(folder, recipe)
    _claim_settings(folder / "fine_tuning.json", {"base": model_revision(str(base)), **notes, "phrases": len(train)})
    if not is_finished(folder):
        FineTuning(base, recipe, train, validation, types, folder).run()
    return folder


def _with_gold(dataset: Mapping[str, Dataset], split: str) -> list[MnerExample]:
    return [e for e in examples_of(dataset[split], True) if has_gold_box(e)] if split in dataset else []


def _claim_settings(path: Path, settings: Mapping[str, Any]) -> None:
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != settings:
        raise ValueError(f"{path.parent} holds a fine-tuning with other settings (see {path}); choose another output.")
    write_whole(path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


# ---------------------------------------------------------------------------------------------------------- answers


class AnswerFile:
    """What the model said, a line for each text, so that a run that was stopped goes on where it was.

    Args:
        path: the file; made where it is missing.
        settings: what decides the answers, the first line.

    Raises:
        ValueError: if the file has other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self.path = path
        self.found: dict[tuple[str, int], dict[str, Any]] = {}
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []  # a line without an end is not whole
        if lines and (old := json.loads(lines[0])) != settings:
            names = sorted(name for name in {*old, *settings} if old.get(name) != settings.get(name))
            raise ValueError(
                f"'{path}' holds answers to other settings ({', '.join(names)}); choose another output folder, or"
                " remove the file to ask again."
            )
        for line in lines[1:]:
            record = json.loads(line)
            self.found[record["split"], record["row"]] = record
        if not lines:
            path.parent.mkdir(parents=True, exist_ok=True)
        whole = b"".join(line + b"\n" for line in lines) or _line(settings).encode()
        if not path.is_file() or path.read_bytes() != whole:
            unfinished = path.with_name(f"{path.name}.tmp")
            unfinished.write_bytes(whole)
            os.replace(unfinished, path)

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Keep answers."""
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.writelines(map(_line, records))
        self.found.update({(record["split"], record["row"]): dict(record) for record in records})


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def ask(
    model: MnerQgForVisualGrounding,
    processor: MnerQgProcessor,
    asked: Sequence[tuple[MnerExample, list[Question]]],
    batch_size: int,
) -> list[list[dict[str, Any]]]:
    """Return `{"query", "box", "score"}` for each question of each text.

    `box` is `[xmin, ymin, xmax, ymax]` in pixels of the image, None where the model's box misses the image.
    """
    phrases = [phrase_example(example, question) for example, questions in asked for question in questions]
    found: Iterator[Any] = iter(recognize_entities(model, processor, phrases, batch_size=batch_size))
    answers = []
    for _, questions in asked:
        texts = [question.text for question in questions]
        boxes: list[Any] = [next(iter(next(found)["query_boxes"]), {}) for _ in questions]
        answers.append(
            [
                {"query": text, "box": box.get("box"), "score": box.get("score", 0.0)}
                for text, box in zip(texts, boxes, strict=True)
            ]
        )
    return answers


def find_bad_image(example: MnerExample) -> str | None:
    """Return why a text's image cannot be read, None if it can."""
    try:
        load_rgb_image(example["image"])
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return None


# ------------------------------------------------------------------------------------------------------------ output


def write_weak_boxes(
    dataset: Mapping[str, Dataset],
    output: Path,
    model_folder: Path,
    *,
    queries: WeakQueries | None = None,
    min_score: float = 0.0,
    replaces_gold: bool = False,
    links_images: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
    batch_size: int = 32,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> dict[str, Any]:
    """Write a data set with weak boxes as a folder that `load_mner_dataset("folder", output)` reads.

    Each line of `boxes.jsonl` is one entity's boxes with their `source`: `gold`, or `weak` with `model`, `revision`
    (a digest of the weights), `query` and `score`. `weak_boxes.json` is the returned report. A run that was stopped
    goes on with the same command; what the model said is kept in `weak_answers.jsonl`, so that another `min_score`
    asks nothing anew.

    Args:
        dataset: splits of `MnerExample` rows with `entities`.
        output: a new folder, or that of a run with the same settings.
        model_folder: of a trained `MnerQgForVisualGrounding`.
        queries: what is asked; default: the paper's.
        min_score: boxes with a lower confidence are left out; 0 = always one box, as in the paper.
        replaces_gold: write the weak box of an entity that has a gold box.
        links_images: link the images instead of copying them; the folder then needs their files.
        on_error: an image that cannot be read stops the run, or is reported, and its text written without it.
        batch_size: queries in one forward pass.
        about: what the report says besides, such as the data set's name.
        progress: wraps the list of chunks, for example `rich.progress.track`.

    Returns:
        Settings and, by split: `sentences`, `images`, `entities`, `queries`, `weak` and `gold` (entities with such
        boxes), `share_with_box`, `skipped` (ids and why), and `agreement` (`score_grounding` of the weak boxes of all
        queries that have a gold box; None without any).

    Raises:
        FileExistsError: if the folder holds something else.
        ValueError: for a wrong setting or model, and for an image that cannot be read.
    """
    if not 0 <= min_score <= 1:
        raise ValueError(f"`min_score` is {min_score!r}; expected a confidence in [0, 1], such as 0.3.")
    check_output(output)
    types = entity_types(next(iter(dataset.values())))
    notes = (queries or WeakQueries()).describe(types)
    settings = {"model": model_name(str(model_folder)), "revision": model_revision(str(model_folder)), **notes}
    rows = {split: examples_of(part, True) for split, part in dataset.items()}
    answers = AnswerFile(output / ANSWERS_FILE, {**settings, "of": dict(about or {})})
    answer_all(rows, notes, answers, model_folder, on_error, batch_size, progress)
    writer = PostWriter(settings, min_score, replaces_gold)
    posts: dict[str, list[FolderPost]] = {}
    report: dict[str, Any] = {}
    for split, examples in rows.items():
        names = dataset[split].features["ner_tags"].feature.names
        asked = [
            (list_questions(example, notes), answers.found.get((split, row))) for row, example in enumerate(examples)
        ]
        posts[split] = [writer.post(example, names, *pair) for example, pair in zip(examples, asked, strict=True)]
        report[split] = describe_split(examples, posts[split], asked, min_score)
    write_folder(posts, output, links_images)
    whole = {
        **(about or {}),
        **settings,
        "min_score": min_score,
        "replaces_gold": replaces_gold,
        "links_images": links_images,
        "splits": report,
    }
    write_whole(output / REPORT_FILE, json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    return whole


def check_output(output: Path) -> None:
    """Refuse a folder that holds something, but no run of this kind."""
    ours = (ANSWERS_FILE, MODEL_FOLDER, FINE_TUNED_FOLDER)
    is_used = output.exists() and (not output.is_dir() or any(output.iterdir()))
    if is_used and not any((output / name).exists() for name in ours):
        raise FileExistsError(f"Output folder '{output}' is not empty; choose a new one, or empty it first.")


def answer_all(
    rows: Mapping[str, Sequence[MnerExample]],
    notes: Mapping[str, Any],
    answers: AnswerFile,
    model_folder: Path,
    on_error: Literal["raise", "skip"],
    batch_size: int,
    progress: Callable[[Sequence[Any]], Iterable[Any]],
) -> None:
    """Ask for what is not answered yet: the texts with an image and an entity."""
    todo = []
    for split, examples in rows.items():
        for row, example in enumerate(examples):
            questions = list_questions(example, notes) if example.get("image") is not None else []
            old = answers.found.get((split, row))
            if old is not None and (old["id"], [a["query"] for a in old["answers"] or []]) != (
                example["id"],
                [question.text for question in questions] if old["answers"] is not None else [],
            ):
                raise ValueError(
                    f"'{answers.path}' has answers for other texts (row {row} of {split}); choose another output"
                    " folder, or remove the file to ask again."
                )
            if questions and (old is None or (old["answers"] is None and on_error == "raise")):
                todo.append((split, row, example, questions))
    if not todo:
        if not answers.found:
            logger.warning("No text has both an image and an entity, so no box is asked for; are the images there?")
        return
    model, processor = load_grounding(model_folder)
    for first in progress(range(0, len(todo), CHUNK)):
        chunk = todo[first : first + CHUNK]
        bad: dict[int, str] = {}
        try:
            found = ask(model, processor, [(example, questions) for _, _, example, questions in chunk], batch_size)
        except (ValueError, FileNotFoundError):
            bad = {place: why for place, item in enumerate(chunk) if (why := find_bad_image(item[2])) is not None}
            if on_error == "raise" or not bad:
                raise
            good = [item for place, item in enumerate(chunk) if place not in bad]
            found = ask(model, processor, [(example, questions) for _, _, example, questions in good], batch_size)
        told = iter(found)
        records = []
        for place, (split, row, example, _) in enumerate(chunk):
            if place in bad:
                logger.warning("No box for %s (%s): %s", example["id"], split, bad[place])
            answer = None if place in bad else next(told)
            records.append(
                {"split": split, "row": row, "id": example["id"], "answers": answer, "error": bad.get(place)}
            )
        answers.add(records)


@dataclass(frozen=True)
class PostWriter:
    """Turns a text, its questions and their answers into what is written.

    Args:
        settings: `model` and `revision` are noted beside each weak box.
        min_score: boxes with a lower confidence are left out.
        replaces_gold: whether a weak box takes the place of gold ones.
    """

    settings: Mapping[str, Any]
    min_score: float
    replaces_gold: bool

    def post(
        self,
        example: MnerExample,
        label_names: Sequence[str],
        questions: Sequence[Question],
        record: Mapping[str, Any] | None,
    ) -> FolderPost:
        """Return what is written for a text."""
        answers = (record or {}).get("answers")
        pairs = zip(questions, answers, strict=True) if answers is not None else ()
        by_span = {(e["start"], e["end"]): answer for question, answer in pairs for e in question.entities}
        boxes = []
        for entity in example.get("entities") or ():
            span = entity["start"], entity["end"]
            where = {"start": span[0], "end": span[1]}
            if entity["boxes"] and not (self.replaces_gold and span in by_span):
                boxes.append({**where, "boxes": entity["boxes"], "source": "gold"})
            elif (answer := by_span.get(span)) is not None and (box := kept_box(answer, self.min_score)) is not None:
                weak = {"model": self.settings["model"], "revision": self.settings["revision"]}
                weak |= {"query": answer["query"], "score": answer["score"]}
                boxes.append({**where, "boxes": [box], "source": "weak", **weak})
        return FolderPost(
            id=example["id"],
            tokens=example["tokens"],
            tags=[label_names[tag] for tag in example["ner_tags"]],
            image=None if record is not None and answers is None else example.get("image"),
            boxes=boxes,
        )


def kept_box(answer: Mapping[str, Any], min_score: float) -> Any:
    """Return the box of an answer if there is one and it is confident enough."""
    return answer["box"] if answer["score"] >= min_score else None


def describe_split(
    examples: Sequence[MnerExample],
    posts: Sequence[FolderPost],
    asked: Sequence[tuple[list[Question], Mapping[str, Any] | None]],
    min_score: float,
) -> dict[str, Any]:
    """Return the counts of one split, and how far its weak boxes agree with gold ones."""
    entities = sum(len(example.get("entities") or ()) for example in examples)
    sources = [record["source"] for post in posts for record in post.boxes]
    answered = [
        (question, answer)
        for questions, record in asked
        if record is not None and record["answers"] is not None
        for question, answer in zip(questions, record["answers"], strict=True)
    ]
    with_gold = [(question, answer) for question, answer in answered if question.gold_boxes]
    agreement = score_grounding(
        [kept_box(answer, min_score) for _, answer in with_gold], [question.gold_boxes for question, _ in with_gold]
    )
    return {
        "sentences": len(posts),
        "images": sum(post.image is not None for post in posts),
        "entities": entities,
        "queries": len(answered),
        "weak": sources.count("weak"),
        "gold": sources.count("gold"),
        "share_with_box": len(sources) / max(entities, 1),
        "skipped": [
            {"id": record["id"], "error": record["error"]}
            for _, record in asked
            if record is not None and record["answers"] is None
        ],
        "agreement": agreement if with_gold else None,
    }
