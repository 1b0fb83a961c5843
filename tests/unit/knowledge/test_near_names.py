"""Names one edit away: all are proposed, whatever else is asked; and which misspellings are typical slips."""

import random

import numpy as np
import pytest

from hf_mner.knowledge.encyclopedia.near_names import (
    HASH_BITS,
    MAX_CHARS,
    MIN_CHARS,
    deletion_hashes,
    directory_bits,
    index_entries,
    is_hashed,
    proposals,
)
from hf_mner.knowledge.encyclopedia.ranking import is_one_slip, misspelt_word, word_at


def make_index(names, numbers=None):
    """Return entries and directory as a build writes them."""
    entries = index_entries(names, range(len(names)) if numbers is None else numbers)
    bits = directory_bits(len(entries))
    counts = np.bincount((entries >> np.uint64(64 - bits)).astype(np.int64), minlength=1 << bits)
    return entries, np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)


def one_edit(generator, name, alphabet):
    """Return a name with one random slip behind its first character."""
    place, letter = generator.randrange(1, len(name)), generator.choice(alphabet)
    kind = generator.choice(["insert", "delete", "substitute", "transpose", "none"])
    if kind == "insert":
        return name[:place] + letter + name[place:]
    if kind == "delete":
        return name[:place] + name[place + 1 :]
    if kind == "substitute":
        return name[:place] + letter + name[place + 1 :]
    if kind == "transpose" and place + 1 < len(name):
        return name[:place] + name[place + 1] + name[place] + name[place + 2 :]
    return name


def forms(name):
    """Return a name and its forms without one character that is not the first."""
    return {name} | {name[:place] + name[place + 1 :] for place in range(1, len(name))}


@pytest.mark.parametrize("alphabet", ["ab", "abcd", "aé東\U0001f600\U00020000"])
@pytest.mark.parametrize("seed", range(3))
def test_every_name_one_edit_away_is_proposed(alphabet, seed):
    generator = random.Random(f"{alphabet} {seed}")
    names = ["".join(generator.choices(alphabet, k=generator.randint(6, 14))) for _ in range(300)]
    queries = [one_edit(generator, generator.choice(names), alphabet) for _ in range(300)]
    queries = [query for query in queries if is_hashed(query)]
    found = proposals(queries, *make_index(names), limit=len(names))
    for query, numbers in zip(queries, found, strict=True):
        near = {number for number, name in enumerate(names) if forms(query) & forms(name)}
        assert near  # the name that was misspelt, at least
        assert near == set(numbers)  # hashes of 32 bits: these seeds have none that agree by chance
        assert len(numbers) == len(set(numbers))


def test_a_slip_in_the_first_character_is_not_looked_for():
    index = make_index(["bieber"])
    assert proposals(["pieber", "ieber", "ibeber", "abieber"], *index) == [[], [], [], []]
    assert proposals(["beiber", "biebr", "biebber", "bieber"], *index) == [[0]] * 4


def test_proposals_do_not_depend_on_the_other_queries():
    generator = random.Random(0)
    names = ["".join(generator.choices("abc", k=generator.randint(6, 40))) for _ in range(500)]
    index = make_index(names)
    queries = [one_edit(generator, name, "abc")[:MAX_CHARS] for name in names]
    together = proposals(queries, *index)
    assert together == [proposals([query], *index)[0] for query in queries]
    assert together[::-1] == proposals(queries[::-1], *index)
    assert together + together == proposals(queries + queries, *index)


def test_only_so_many_are_read_for_a_form():
    index = make_index(["bieber"] * 50)
    assert proposals(["beiber"], *index) == [list(range(16))]
    assert proposals(["beiber"], *index, limit=3) == [[0, 1, 2]]
    assert proposals(["beiber"], *index, limit=50) == [list(range(50))]


def test_numbers_are_those_given():
    numbers = [7, 2**HASH_BITS - 1]
    assert proposals(["beiber"], *make_index(["bieber", "bieber"], numbers)) == [numbers]


def test_an_empty_index_and_no_queries():
    empty = make_index([])
    assert len(empty[0]) == 0
    assert proposals(["bieber"], *empty) == [[]]
    assert proposals([], *empty) == []
    assert proposals([], *make_index(["bieber"])) == []
    # As a build writes it: one entry of zeros that no place of the directory leads to.
    assert proposals(["bieber"], np.zeros(1, np.uint64), np.zeros(3, np.uint64)) == [[]]


def test_a_name_has_as_many_forms_as_characters():
    hashes, owners = deletion_hashes(["abcdef", "aaaaaaa"])
    assert owners.tolist() == [0] * 6 + [1] * 7
    assert len(set(hashes[:6].tolist())) == 6
    assert len(set(hashes[6:].tolist())) == 2  # the name, and all forms without one `a`
    assert hashes.max() < 2**HASH_BITS


def test_hashes_do_not_depend_on_the_longest_name():
    alone, _ = deletion_hashes(["bieber"])
    beside, owners = deletion_hashes(["bieber", "x" * MAX_CHARS])
    assert alone.tolist() == beside[owners == 0].tolist()


@pytest.mark.parametrize(("length", "takes_part"), [(0, False), (5, False), (6, True), (40, True), (41, False)])
def test_lengths_that_take_part(length, takes_part):
    assert (MIN_CHARS, MAX_CHARS) == (6, 40)
    assert is_hashed("a" * length) == takes_part


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 10**6, 10**9])
def test_a_place_of_the_directory_leads_to_about_32_entries(size):
    bits = directory_bits(size)
    assert 1 <= bits <= 24
    assert size / 2**bits <= 32 or bits == 24


# ----------------------------------------------------------------------------------------------------- typical slips
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("eiber", "ieber"),  # neighbours in the other order
        ("", "s"),  # a letter too few
        ("ss", "s"),  # a letter too many
        ("an", "en"),  # a vowel for another
        ("ks", "cs"),  # a consonant for one that sounds like it
        ("y", "i"),
    ],
)
def test_one_slip(written, meant):
    assert is_one_slip(written, meant)
    assert is_one_slip(meant, written)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("bt", "rt"),  # other letters
        ("t", "w"),
        ("ab", "ba" + "c"),
        ("abc", "bca"),
        ("", "ab"),
        ("aen", "een" + "s"),
    ],
)
def test_no_slip_or_more_than_one(written, meant):
    assert not is_one_slip(written, meant)
    assert not is_one_slip(meant, written)


@pytest.mark.parametrize(
    ("name", "title", "word"),
    [
        ("justin beiber", "justin bieber", "beiber"),
        ("justin bieberr", "justin bieber", "bieberr"),
        ("justinbeiber", "justin bieber", "justinbeiber"),
        ("justen bieber", "justin bieber", "justen"),
        ("just in bieber", "justin bieber", None),  # the same without spaces: that is `joined`, not misspelt
        ("golden state warrors", "golden state warriors", "warrors"),
        ("schwarzeneger", "schwarzenegger", "schwarzeneger"),
        ("justin pieber", "justin bieber", None),  # the first letter of a word
        ("hustin bieber", "justin bieber", None),
        ("steve karr", "steve kerr", None),  # a word of four letters
        ("boeing 747", "boeing 737", None),  # a digit
        ("windows 1", "windows 10", None),
        ("justin binber", "justin bieber", None),  # no slip of that kind
        ("justin bieber", "justin bieber", None),
        ("", "bieber", None),
    ],
)
def test_misspelt_word(name, title, word):
    assert misspelt_word(name, title) == word


@pytest.mark.parametrize(
    ("place", "found"), [(0, (0, "ab")), (1, (0, "ab")), (2, (2, "c")), (3, (3, "def")), (6, (3, "def"))]
)
def test_word_at(place, found):
    assert word_at("ab c def", place) == found
