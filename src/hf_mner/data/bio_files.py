"""Read label files: one token a line with its tag, a blank line between sentences, an `IMGID:` line where images are.

Lines are split as bytes at the newline and columns at the one published separator, never at white space in general: a
token may itself be a space of another kind (Twitter-2015 has a lone U+00A0).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .labels import split_tag

IMAGE_ID_PREFIX = "IMGID:"
_BLANK = b" \t\r"  # what a separating line may hold: WNUT-17 writes a lone tab there


@dataclass(frozen=True)
class BioFormat:
    """How one data set writes its label files.

    Attributes:
        separator: what stands between columns; None = a tab if the file has any, else a space.
        columns: number of columns; a line with another number is an error.
        tag_column: the column that holds the tag; the token is column 0.
        iob1: tags follow IOB1 (`B-` only between two adjacent entities of one type) and are converted to BIO.
        skipped_token: sentences that hold only this token are no sentences (CoNLL-2003's `-DOCSTART-`).
    """

    separator: str | None = "\t"
    columns: int = 2
    tag_column: int = 1
    iob1: bool = False
    skipped_token: str | None = None


@dataclass(frozen=True)
class BioSentence:
    """One sentence as published: image id (None without an `IMGID:` line), tokens, tags, and where it stands."""

    image_id: str | None
    tokens: list[str]
    tags: list[str]
    location: str
    position: int


@dataclass(frozen=True)
class BioBlock:
    """The undecoded lines of one sentence, with the number of the first, and its position among the sentences."""

    path: Path
    first_line: int
    lines: list[bytes]
    position: int


def iterate_bio_blocks(path: Path) -> Iterator[BioBlock]:
    """Cut a label file at its blank lines and before each `IMGID:` line; nothing is checked yet."""
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    lines: list[bytes] = []
    position = 0
    for number, line in enumerate([*content.split(b"\n"), b""], start=1):
        is_blank = not line.strip(_BLANK)
        if lines and (is_blank or line.startswith(IMAGE_ID_PREFIX.encode())):
            yield BioBlock(path, number - len(lines), lines, position)
            lines, position = [], position + 1
        if not is_blank:
            lines.append(line.removesuffix(b"\r"))


def detect_separator(path: Path) -> str:
    """Return the column separator of a file: a tab if it holds one, else a space."""
    return "\t" if b"\t" in path.read_bytes() else " "


def parse_bio_block(block: BioBlock, bio_format: BioFormat, types: Sequence[str] | None = None) -> BioSentence | None:
    """Turn the lines of one sentence into tokens and tags, checking every line.

    Args:
        block: from `iterate_bio_blocks`.
        bio_format: columns of the file; its `separator` must be set (see `detect_separator`).
        types: entity types that may occur, as published; None = any.

    Returns:
        The sentence, or None if it is not one (`BioFormat.skipped_token`).

    Raises:
        ValueError: naming file, line, value and cure, for bytes that are not UTF-8, a line with a wrong number of
            columns or an empty token, a tag that is not BIO, a type outside `types`, or an image without tokens.
    """
    decoded = [_decode_line(line, block, index) for index, line in enumerate(block.lines)]
    image_id, first = None, 0
    if decoded[0].startswith(IMAGE_ID_PREFIX) and (bio_format.separator or "\t") not in decoded[0]:
        image_id, first = decoded[0].removeprefix(IMAGE_ID_PREFIX).strip(), 1
    rows = [_split_line(line, bio_format, block, index) for index, line in enumerate(decoded) if index >= first]
    tokens = [row[0] for row in rows]
    location = f"{block.path}, line {block.first_line}"
    if not tokens:
        raise ValueError(f"{location}: no tokens follow {decoded[0]!r}; expected at least one. Remove it or add them.")
    if tokens == [bio_format.skipped_token]:
        return None
    tags = [row[bio_format.tag_column] for row in rows]
    for index, tag in enumerate(tags, start=first):
        _check_tag(tag, types, block, index)
    return BioSentence(image_id, tokens, iob1_to_bio(tags) if bio_format.iob1 else tags, location, block.position)


def iob1_to_bio(tags: Iterable[str]) -> list[str]:
    """Convert IOB1 tags to BIO: every entity then starts with `B-`.

    Source: Ramshaw and Marcus 1995; CoNLL-2003 publishes IOB1, where `B-X` marks only an X directly after another X.
    """
    converted, previous = [], ""
    for tag in tags:
        prefix, entity_type = split_tag(tag)
        converted.append(f"B-{entity_type}" if prefix == "I" and entity_type != previous else tag)
        previous = entity_type
    return converted


def _decode_line(line: bytes, block: BioBlock, index: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"{block.path}, line {block.first_line + index}"
        raise ValueError(f"{where}: {line!r} is not UTF-8 ({error.reason}); save the file as UTF-8.") from error


def _split_line(line: str, bio_format: BioFormat, block: BioBlock, index: int) -> list[str]:
    separator = bio_format.separator or "\t"
    columns = line.split(separator)
    if len(columns) != bio_format.columns or not all(columns):
        name = "a tab" if separator == "\t" else "one space"
        raise ValueError(
            f"{block.path}, line {block.first_line + index}: {line!r} has {len(list(filter(None, columns)))} filled"
            f" column(s); expected {bio_format.columns}, token first and its label after {name}."
        )
    return columns


def _check_tag(tag: str, types: Sequence[str] | None, block: BioBlock, index: int) -> None:
    where = f"{block.path}, line {block.first_line + index}"
    try:
        _, entity_type = split_tag(tag)
    except ValueError as error:
        raise ValueError(f"{where}: {error} Correct the label.") from None
    if entity_type and types is not None and entity_type not in types:
        raise ValueError(
            f"{where}: type {entity_type!r} of tag {tag!r} is not one of this data set's types"
            f" ({', '.join(types)}); correct the label."
        )
