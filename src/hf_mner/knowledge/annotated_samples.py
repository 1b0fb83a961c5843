"""Annotated posts that show a language model what is wanted, and which of them are most like a post."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hf_mner.data.json_lines import read_json_lines

WANTED = 'expected {"text": ..., "answer": ...} with a "caption" if there is one, or "tokens" in place of the text'
WORD = re.compile(r"\w+")

Vector = Mapping[str, float]


class AnnotatedSample(NamedTuple):
    """A post in words, the caption of its image (`""` = none), and the answer that is wanted for it."""

    text: str
    caption: str
    answer: str


def read_samples(path: Path) -> list[AnnotatedSample]:
    """Read annotated posts from a file: a list in YAML (`.yaml`, `.yml`), or an object in JSON a line.

    Raises:
        ValueError: naming what is no such post, or if there is none.
        FileNotFoundError: if the file is missing.
    """
    samples = [make_sample(record, where) for record, where in _read_records(path)]
    if not samples:
        raise ValueError(f"{path} holds no annotated post; {WANTED}.")
    return samples


def make_sample(record: Any, where: str) -> AnnotatedSample:
    """Return an annotated post from a record, checked.

    Args:
        record: `text` or `tokens`, `answer`, and `caption` or none.
        where: how the error text calls it.

    Raises:
        ValueError: if a part is missing, of another type, or unknown.
    """
    fields = dict(record) if isinstance(record, Mapping) else {}
    if "text" not in fields and isinstance(fields.get("tokens"), list | tuple):
        fields["text"] = " ".join(map(str, fields.pop("tokens")))
    fields["caption"] = fields.get("caption") or ""
    is_complete = set(fields) == set(AnnotatedSample._fields)
    if not is_complete or not all(isinstance(value, str) for value in fields.values()) or not fields["answer"].strip():
        raise ValueError(f"{where}: {record!r} is no annotated post; {WANTED}.")
    return AnnotatedSample(**{name: " ".join(value.split()) for name, value in fields.items()})


def nearest(similarities: Sequence[float], count: int, excluded: Sequence[int] = ()) -> list[int]:
    """Return the places of the `count` greatest numbers, the greatest last; of equal ones the first count more.

    Args:
        similarities: one for each sample.
        count: how many are wanted; fewer come if there are no more.
        excluded: places that are left out.
    """
    places = [place for place in range(len(similarities)) if place not in set(excluded)]
    return sorted(places, key=lambda place: (-similarities[place], place))[:count][::-1]


class WordSimilarity:
    """The cosine of posts as bags of words, where rare words count more (TF-IDF).

    Args:
        samples: the texts that are compared with; words of none of them do not count.

    Source: Salton and Buckley 1988, Term-weighting approaches in automatic text retrieval, with logarithmic term
        frequencies and `log((1 + n) / (1 + df)) + 1`.
    """

    def __init__(self, samples: Sequence[str]):
        counts = [Counter(_words(text)) for text in samples]
        frequencies = Counter(word for count in counts for word in count)
        self._weights = {word: math.log((1 + len(counts)) / (1 + n)) + 1 for word, n in frequencies.items()}
        self._vectors = [self._vector(count) for count in counts]

    def __call__(self, text: str) -> list[float]:
        """Return the cosine of a text with each sample, in [0, 1]."""
        vector = self._vector(Counter(_words(text)))
        return [sum(weight * other.get(word, 0.0) for word, weight in vector.items()) for other in self._vectors]

    def _vector(self, counts: Mapping[str, int]) -> Vector:
        weights = {word: (1 + math.log(n)) * self._weights.get(word, 0.0) for word, n in counts.items()}
        length = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        return {word: weight / length for word, weight in weights.items()}


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _read_records(path: Path) -> Iterator[tuple[Any, str]]:
    if path.suffix not in (".yaml", ".yml"):
        for line in read_json_lines(path, WANTED):
            yield line.record, line.where
        return
    records = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(records, list):
        raise ValueError(f"{path} holds no list of annotated posts; {WANTED}.")
    for number, record in enumerate(records, start=1):
        yield record, f"{path}, entry {number}"
