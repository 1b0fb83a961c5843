"""Read knowledge: BLIP-2 captions, ChatGPT text and mPLUG-Owl descriptions as published; a folder's own file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .json_lines import read_json_lines

KNOWLEDGE_START = "<EOS>"
KNOWLEDGE_TAG = "X"
_DESCRIPTION_START = re.compile(r"^imgid:([^\n#]+)###", re.MULTILINE)


@dataclass(frozen=True)
class ChatgptRecord:
    """One tweet's tokens, and what ChatGPT says of it (None = nothing)."""

    tokens: list[str]
    text: str | None


@dataclass(frozen=True)
class KnowledgeLine:
    """What one line of `knowledge.jsonl` says of an image, not yet checked, and where it stands (file and line)."""

    where: str
    number: int
    knowledge: dict[str, Any]


def read_text(path: Path) -> str:
    """Return a file as text with `\\n` newlines.

    Raises:
        ValueError: if the file is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8.") from error


def read_blip2_captions(path: Path) -> dict[str, str | None]:
    """Read `<id>.jpg :<caption>` lines; an empty caption is None (two in Twitter-2015: 71406 and 770560).

    Raises:
        ValueError: for a line of another form.
    """
    captions: dict[str, str | None] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line:
            image_id, separator, caption = line.partition(".jpg :")
            if not separator:
                raise ValueError(f"{path}, line {number}: {line!r} is no caption; expected '<id>.jpg :<caption>'.")
            captions[image_id] = caption.strip() or None
    return captions


def read_chatgpt_records(path: Path) -> list[ChatgptRecord]:
    """Read ChatGPT's knowledge of the tweets of one split, in file order (the files carry no ids).

    A tweet's tokens come first, then `<EOS>`, then the words of the knowledge, each tagged `X`.

    Raises:
        ValueError: if a line has no tab, or a word after `<EOS>` is not tagged `X`.
    """
    return [_parse_chatgpt_block(path, first, lines) for first, lines in _iterate_blocks(read_text(path))]


def read_mplug_owl_descriptions(path: Path) -> dict[str, str | None]:
    """Read mPLUG-Owl's description of each image; a record starts `imgid:<id>###` and may span lines.

    Raises:
        ValueError: if the file does not start with a record.
    """
    _, *parts = pieces = _DESCRIPTION_START.split(read_text(path))
    if pieces[0].strip() or not parts:
        raise ValueError(f"{path}: starts with {pieces[0][:40]!r}; expected 'imgid:<id>###<description>'.")
    return {image_id: text.strip() or None for image_id, text in zip(parts[::2], parts[1::2], strict=True)}


def read_knowledge_jsonl(path: Path) -> dict[str, KnowledgeLine]:
    """Read `knowledge.jsonl`: one `{"id", "caption", "auxiliary", ...}` a line.

    Returns:
        What is said of each id; the parts are checked on use.

    Raises:
        ValueError: naming the line that is no such object, or whose id another line has.
    """
    records: dict[str, KnowledgeLine] = {}
    wanted = 'expected {"id": ..., "caption": ..., "auxiliary": ..., "similarity": ...}, all but the id optional'
    for line in read_json_lines(path, wanted):
        if not isinstance(line.record, dict) or "id" not in line.record:
            raise ValueError(f"{line.where}: {line.text!r} is no object with an `id`; {wanted}.")
        image_id = str(line.record.pop("id"))
        if image_id in records:
            first = records[image_id].number
            raise ValueError(f"{line.where}: id {image_id!r} stands on line {first} already; keep one of them.")
        records[image_id] = KnowledgeLine(line.where, line.number, line.record)
    return records


def _iterate_blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    lines: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        if line:
            lines.append(line)
        elif lines:
            yield number - len(lines), lines
            lines = []


def _parse_chatgpt_block(path: Path, first_line: int, lines: list[str]) -> ChatgptRecord:
    rows = [line.split("\t") for line in lines]
    for number, row in enumerate(rows, start=first_line):
        if len(row) != 2:
            raise ValueError(f"{path}, line {number}: {row!r} has {len(row)} column(s); expected 'word<TAB>label'.")
    words = [word for word, _ in rows]
    end = words.index(KNOWLEDGE_START) if KNOWLEDGE_START in words else len(words)
    for number, (word, tag) in enumerate(rows[end:], start=first_line + end):
        if tag != KNOWLEDGE_TAG:
            raise ValueError(f"{path}, line {number}: knowledge word {word!r} is tagged {tag!r}; expected 'X'.")
    return ChatgptRecord(words[:end], " ".join(words[end + 1 :]) or None)
