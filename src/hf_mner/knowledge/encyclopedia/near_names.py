"""Names within one edit of another, found by the hashes of what is left when one character is deleted.

Two names that differ by one insertion, deletion or substitution of a character, or by two neighbours in the other
order, have a form in common among themselves and their forms without one character. So an index holds the hash of
every such form of every name, and a look-up hashes the forms of the mention: its cost depends on the length of the
mention, not on the number of names. Hashes may agree by chance, and a form in common may also be two edits away: what
is found is a proposal.

Source: Garbe 2012, SymSpell (https://github.com/wolfgarbe/SymSpell), with deletions of one character.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MIN_CHARS, MAX_CHARS = 6, 40  # shorter names are near too many others, longer ones are sentences
HASH_BITS = 32
_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)

Hashes = NDArray[np.uint64]


def is_hashed(name: str) -> bool:
    """Tell whether a squashed name takes part."""
    return MIN_CHARS <= len(name) <= MAX_CHARS


def deletion_hashes(names: Sequence[str]) -> tuple[Hashes, NDArray[np.int64]]:
    """Return the hashes of all names and of their forms without one character.

    The first character is never deleted: names are rarely misspelt there, and so fewer proposals are wrong.

    Args:
        names: of at most `MAX_CHARS` characters.

    Returns:
        hashes: `m`, in 32 bits.
        owners: `m`, the index of the name that each is a form of.
    """
    if not names:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    lengths = np.array([len(name) for name in names])
    width = int(lengths.max())
    codes = np.array(names, dtype=f"<U{width}").view(np.uint32).reshape(len(names), width).astype(np.uint64)
    powers = _powers(width)
    with np.errstate(over="ignore"):
        # A form's hash is the sum of code times power of place: of what stands before the gap, and of what stands
        # behind it, which has moved by one place. Padding has code 0 and adds nothing.
        before = np.cumsum((codes + 1) * (codes > 0) * powers[:width], axis=1, dtype=np.uint64)
        moved = (codes[:, 1:] + 1) * (codes[:, 1:] > 0) * powers[: width - 1]
        behind = np.zeros((len(names), width), np.uint64)
        behind[:, :-1] = np.cumsum(moved[:, ::-1], axis=1, dtype=np.uint64)[:, ::-1]
        forms = np.empty((len(names), width), np.uint64)
        forms[:, 0] = before[:, -1]  # the whole name stands where the first character's deletion would
        forms[:, 1:] = before[:, :-1] + behind[:, 1:]
    is_form = np.arange(width) < lengths[:, None]
    owners = np.broadcast_to(np.arange(len(names))[:, None], forms.shape)[is_form]
    return _mixed(forms[is_form]), owners


def index_entries(names: Sequence[str], numbers: Sequence[int]) -> Hashes:
    """Return the sorted entries of an index: the hash in the upper 32 bits, the name's number in the lower.

    Args:
        names: squashed names, see `is_hashed`.
        numbers: what each name is found as, below 2^32.
    """
    hashes, owners = deletion_hashes(names)
    return np.unique((hashes << np.uint64(HASH_BITS)) | np.asarray(numbers, np.uint64)[owners])


def directory_bits(size: int) -> int:
    """Return the number of leading bits by which the directory of an index of this size is divided."""
    return int(np.clip(np.ceil(np.log2(max(size, 1) / 32)), 1, 24))


def proposals(
    names: Sequence[str], entries: Hashes, directory: NDArray[np.uint64], limit: int = 16
) -> list[list[int]]:
    """Return for each name the numbers of the names in the index that share a form with it.

    Args:
        names: squashed names, see `is_hashed`.
        entries: `m`, sorted, see `index_entries`.
        directory: `2^bits + 1`, the place in `entries` where each value of a hash's leading bits begins.
        limit: numbers that are read for each form.
    """
    hashes, owners = deletion_hashes(names)
    bits = int(len(directory) - 1).bit_length() - 1
    leading = (hashes >> np.uint64(HASH_BITS - bits)).astype(np.int64)
    wanted = hashes << np.uint64(HASH_BITS)
    low, high = directory[leading].astype(np.int64), directory[leading + 1].astype(np.int64)
    last = high
    for _ in range(int((high - low).max(initial=0)).bit_length()):  # all bisections at once
        is_open = low < high
        middle = (low + high) // 2
        is_below = entries[np.minimum(middle, len(entries) - 1)] < wanted
        low = np.where(is_open & is_below, middle + 1, low)
        high = np.where(is_open & ~is_below, middle, high)
    found: list[list[int]] = [[] for _ in names]
    for _ in range(limit):
        is_inside = low < last
        low, last, hashes, owners = low[is_inside], last[is_inside], hashes[is_inside], owners[is_inside]
        here = entries[low]
        is_equal = (here >> np.uint64(HASH_BITS)) == hashes
        low, last, hashes, owners, here = (part[is_equal] for part in (low, last, hashes, owners, here))
        if not len(low):
            break
        for owner, number in zip(owners.tolist(), (here & np.uint64(0xFFFFFFFF)).tolist(), strict=True):
            found[owner].append(number)
        low = low + 1
    return [list(dict.fromkeys(numbers)) for numbers in found]


def _powers(width: int) -> Hashes:
    with np.errstate(over="ignore"):
        return np.cumprod(np.full(width, _BASE, np.uint64), dtype=np.uint64)


def _mixed(hashes: Hashes) -> Hashes:
    """Return 32 well-mixed bits (the finaliser of MurmurHash3)."""
    with np.errstate(over="ignore"):
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return hashes >> np.uint64(32)
