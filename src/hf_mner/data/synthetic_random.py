"""Random numbers that are the same on every machine, in every process and with every version of Python."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class StableRandom:
    """A stream of random numbers that its key alone decides; streams of different keys are independent.

    Only `random.Random.random` is used, the one method whose numbers Python promises to keep.

    Args:
        key: what the stream is for, such as a seed, a split, an index and a purpose.
    """

    def __init__(self, *key: object):
        self._digest = hashlib.sha256(repr(key).encode("utf-8")).digest()
        self._source = random.Random(int.from_bytes(self._digest, "big"))

    def share(self) -> float:
        """Return a number in [0, 1)."""
        return self._source.random()

    def between(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * self.share()

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return low + int(self.share() * (high - low + 1))

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of the choices, all equally likely."""
        return choices[int(self.share() * len(choices))]

    def shuffle(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order."""
        left = list(items)
        return [left.pop(int(self.share() * len(left))) for _ in range(len(left))]

    def noise(self, count: int) -> bytes:
        """Return random bytes; the same ones at every call."""
        return hashlib.shake_256(self._digest).digest(count)
