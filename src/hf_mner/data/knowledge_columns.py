"""Join published knowledge to sentences: the `knowledge` column of `load_mner_dataset`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from .bio_files import BioSentence
from .knowledge_files import ChatgptRecord, read_blip2_captions, read_chatgpt_records, read_mplug_owl_descriptions
from .readers import DatasetSource, find_file
from .schema import Knowledge

logger = logging.getLogger(__name__)

KnowledgeJoiner = Callable[[BioSentence], "Knowledge | None"]
TextFinder = Callable[[BioSentence], "str | None"]
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

    def find_knowledge(sentence: BioSentence) -> Knowledge | None:
        caption = find_caption(sentence) if find_caption else None
        auxiliary = find_auxiliary(sentence) if find_auxiliary else None
        return make_knowledge(caption, auxiliary)

    return find_knowledge


def make_knowledge(caption: str | None, auxiliary: str | None) -> Knowledge | None:
    """Return a knowledge column with every key, or None if nothing is known."""
    if caption is None and auxiliary is None:
        return None
    return {"caption": caption, "auxiliary": auxiliary, "objects": None, "encyclopedia": None, "similarity": None}


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
