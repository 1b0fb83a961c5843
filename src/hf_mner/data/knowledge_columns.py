"""Join published knowledge to sentences: the `knowledge` column of `load_mner_dataset`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from .bio_files import BioSentence
from .knowledge_files import (
    ChatgptRecord,
    KnowledgeLine,
    read_blip2_captions,
    read_chatgpt_records,
    read_knowledge_jsonl,
    read_mplug_owl_descriptions,
)
from .readers import DatasetSource, find_file
from .schema import IN_MEMORY, EncyclopediaEntry, Knowledge, ObjectKnowledge, Provenance, check_knowledge

logger = logging.getLogger(__name__)

KnowledgeJoiner = Callable[[BioSentence, "tuple[int, int] | None"], "Knowledge | None"]
TextFinder = Callable[[BioSentence], "str | None"]
FOLDER_KNOWLEDGE = "knowledge.jsonl"  # of a user's own folder
CAPTIONS, CHATGPT, DESCRIPTIONS = KNOWLEDGE_SOURCES = ("blip2_captions", "chatgpt", "mplug_owl_captions")


def join_knowledge(
    name: str, source: DatasetSource, data_dir: Path, split: str, knowledge: Literal["auto"] | Sequence[str]
) -> KnowledgeJoiner:
    """Return a function from a sentence of one split to its `knowledge`, None where nothing is known.

    BLIP-2 captions are found by image id (GMNER's ids are those of 2015 and 2017: all 10,000 have one), mPLUG-Owl's
    descriptions too. ChatGPT's files carry no ids: they follow the label file, and their tokens are compared. Each
    split's last tweet may lack ChatGPT's text (2015) or the description (GMNER).

    Args:
        name: data set, for error texts.
        source: its files.
        data_dir: the data folder.
        split: `train`, `validation` or `test`.
        knowledge: `"auto"` or names of `KNOWLEDGE_SOURCES`.

    Raises:
        ValueError: for a source that is unknown, not made for this data set, or fills `auxiliary` a second time.
        FileNotFoundError: if a selected source's file is missing (under `"auto"` it is left out).
    """
    files = list_knowledge_files(source, split)
    if knowledge == "auto":
        wanted = [part for part in (CAPTIONS, source.auxiliary) if part in files]
        selected = [part for part in wanted if all((data_dir / file).is_file() for file in files[part])]
        logger.info("%s, %s: knowledge joined: %s", name, split, selected or "none")
    else:
        selected = check_knowledge_names(name, files, knowledge)
    finders = {part: _make_finder(part, [find_file(data_dir, file) for file in files[part]]) for part in selected}
    find_caption = finders.pop(CAPTIONS, None)
    find_auxiliary = next(iter(finders.values()), None)

    def find_knowledge(sentence: BioSentence, _: tuple[int, int] | None) -> Knowledge | None:
        caption = find_caption(sentence) if find_caption else None
        auxiliary = find_auxiliary(sentence) if find_auxiliary else None
        return make_knowledge(caption, auxiliary)

    return find_knowledge


def join_folder_knowledge(
    folder: Path, image_ids: Container[str], knowledge: Literal["auto"] | Sequence[str]
) -> KnowledgeJoiner:
    """Return a function from a sentence of a user's folder to its `knowledge`, found by image id.

    Args:
        folder: the user's folder.
        image_ids: the ids on its IMGID lines.
        knowledge: `"auto"`, `["knowledge.jsonl"]`, or `[]`.

    Raises:
        ValueError: for a name that is none of these, and for a line that is malformed or names an unknown image.
        FileNotFoundError: if the file is asked for by name and missing (under `"auto"` it is left out).
    """
    path = folder / FOLDER_KNOWLEDGE
    if knowledge != "auto" and not check_knowledge_names("folder", {FOLDER_KNOWLEDGE: path}, knowledge):
        return lambda *_: None
    if not path.is_file():
        if knowledge == "auto":
            return lambda *_: None
        raise FileNotFoundError(f"'{path}' is missing; put the file there, or leave it out of `knowledge`.")
    records = read_knowledge_jsonl(path)
    for image_id, record in records.items():
        if image_id not in image_ids:
            raise ValueError(f"{record.where}: id {image_id!r} is on no IMGID line; correct the id.")
        _check_line(record, None)

    def find_knowledge(sentence: BioSentence, size: tuple[int, int] | None) -> Knowledge | None:
        record = records.get(sentence.image_id) if sentence.image_id is not None else None
        if record is None or all(value is None for value in record.knowledge.values()):
            return None
        _check_line(record, size)
        return complete_knowledge(record.knowledge)

    return find_knowledge


def _check_line(record: KnowledgeLine, size: tuple[int, int] | None) -> None:
    try:
        check_knowledge(record.knowledge, size)
    except ValueError as error:
        raise ValueError(f"{record.where}: {error}") from error


def complete_knowledge(knowledge: Mapping[str, Any]) -> Knowledge:
    """Return checked knowledge with the key of every column, `None` for what it lacks; other keys are left out."""
    filled: Any = {part: knowledge.get(part) for part in Knowledge.__annotations__}
    entry_types = {"objects": ObjectKnowledge, "encyclopedia": EncyclopediaEntry, "sources": Provenance}
    for part, entry_type in entry_types.items():
        if filled[part] is not None:
            columns = [key for key in entry_type.__annotations__ if key not in IN_MEMORY]
            filled[part] = [{key: entry.get(key) for key in columns} for entry in filled[part]]
    return filled


def make_knowledge(caption: str | None, auxiliary: str | None) -> Knowledge | None:
    """Return a knowledge column with every key, or None if nothing is known."""
    if caption is None and auxiliary is None:
        return None
    return complete_knowledge({"caption": caption, "auxiliary": auxiliary})


def list_knowledge_files(source: DatasetSource, split: str) -> dict[str, list[str]]:
    """Return the files of each knowledge source that is published for a data set's split."""
    by_split: dict[str, Mapping[str, str]] = {CHATGPT: source.chatgpt_files, DESCRIPTIONS: source.description_files}
    files = {part: [names[split]] for part, names in by_split.items() if split in names}
    return {**({CAPTIONS: list(source.caption_files)} if source.caption_files else {}), **files}


def check_knowledge_names(name: str, known: Mapping[str, object], knowledge: Sequence[str]) -> list[str]:
    """Return the selected sources as a list.

    Raises:
        ValueError: see `join_knowledge`.
    """
    if isinstance(knowledge, str):
        raise ValueError(
            f"`knowledge={knowledge!r}` is not understood; give 'auto' or a list such as [{knowledge!r}]."
        )
    for part in knowledge:
        if part not in known:
            choices = ", ".join(known) or "none (pass `knowledge=[]`)"
            raise ValueError(f"Knowledge {part!r} is not published for {name!r}; what there is: {choices}.")
    auxiliary = sorted({part for part in knowledge if part != CAPTIONS})
    if len(auxiliary) > 1:
        raise ValueError(f"{' and '.join(auxiliary)} both fill `knowledge.auxiliary`; choose one of them.")
    return list(dict.fromkeys(knowledge))


def _make_finder(part: str, paths: Sequence[Path]) -> TextFinder:
    if part == CHATGPT:
        return _make_chatgpt_finder(read_chatgpt_records(paths[0]), paths[0])
    read = read_blip2_captions if part == CAPTIONS else read_mplug_owl_descriptions
    texts = {image_id: text for path in paths for image_id, text in read(path).items()}

    def find_text(sentence: BioSentence) -> str | None:
        return texts.get(sentence.image_id) if sentence.image_id is not None else None

    return find_text


def _make_chatgpt_finder(records: Sequence[ChatgptRecord], path: Path) -> TextFinder:
    def find_text(sentence: BioSentence) -> str | None:
        if sentence.position >= len(records):
            return None
        record = records[sentence.position]
        if record.tokens != sentence.tokens:
            raise ValueError(
                f"{path}: record {sentence.position + 1} starts {record.tokens[:5]}, but {sentence.location} (id"
                f" {sentence.image_id}) starts {sentence.tokens[:5]}; the files must hold the same tweets in the same"
                ' order. Fetch both again, or leave "chatgpt" out of `knowledge`.'
            )
        return record.text

    return find_text
