from __future__ import annotations

import random

import pytest
from tiny import KINDS, tiny_processor

from hf_mner.data.alignment import (
    join_words,
    read_windows,
    special_token_frame,
    special_token_joint,
    split_words,
    subwords_of_words,
    tokenize_once,
    window_words,
)

TEXTS = [
    "Steve Kerr coaches the Warriors.",
    "#NBA #Finals2017 @KDTrey5 wins!!!",
    "see https://t.co/a-b?c=d&e=f now",
    "O'Brien’s Jean-Luc from the U.S. at AT&T",
    "  leading,\ttabs\nand\u00a0no-break  ",
    "naïve café 東京 😀👍🏽 \u200bzero",
    "",
    "   ",
    "'quoted' -dash- a--b ... (x)",
]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return tiny_processor(request.param).tokenizer  # with `[obj]`, as the models see it


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_slices_of_the_text(text):
    words = split_words(text)
    assert [text[word.start : word.end] for word in words] == [word.text for word in words]
    assert all(one.end <= other.start for one, other in zip(words, words[1:], strict=False))
    assert "".join(word.text for word in words) == "".join(text.split()), "no character is lost"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#NBA rocks", ["#", "NBA", "rocks"]),
        ("@KDTrey5:", ["@", "KDTrey5", ":"]),
        ("see https://t.co/a-b?c=d now", ["see", "https://t.co/a-b?c=d", "now"]),
        ("O'Brien won't go", ["O'Brien", "won't", "go"]),
        ("the players' ball", ["the", "players", "'", "ball"]),
        ("Jean-Luc, U.S. AT&T", ["Jean-Luc", ",", "U.S", ".", "AT&T"]),
        ("wow!!", ["wow", "!", "!"]),
        (" \u00a0\t", []),
    ],
)
def test_words_of(text, expected):
    assert [word.text for word in split_words(text)] == expected


def test_random_texts_lose_no_character():
    generator = random.Random(0)
    for _ in range(300):
        text = "".join(generator.choices("ab1#@'’.&-_/: \n\u00a0é😀\u200d", k=generator.randint(0, 30)))
        words = split_words(text)
        assert all(text[word.start : word.end] == word.text for word in words)
        assert "".join(word.text for word in words) == "".join(text.split())


def test_joined_words_have_their_offsets_in_the_joined_text():
    tokens = ["Steve", "Kerr", "", "\u00a0", "😀", "in", "Oakland"]
    text = " ".join(tokens)
    assert [text[word.start : word.end] for word in join_words(tokens)] == tokens


@pytest.mark.parametrize("odd", ["\u00a0", "\u200b", "\u200d", "\ufeff", "😀", "👨‍👩‍👧", "", " ", "\x00", "東京", "é"])
def test_every_word_has_a_subword(tokenizer, odd):
    grouped = subwords_of_words(tokenizer, [["Steve", odd, "Kerr"], [odd]])
    assert [len(words) for words in grouped] == [3, 1]
    assert all(ids for words in grouped for ids in words)
    plain = subwords_of_words(tokenizer, [["Steve"], ["Kerr"]])
    assert [grouped[0][0], grouped[0][2]] == [plain[0][0], plain[1][0]], "its neighbours are read as ever"


def test_subwords_of_no_texts_and_of_an_empty_text(tokenizer):
    assert subwords_of_words(tokenizer, []) == []
    assert subwords_of_words(tokenizer, [[], ["Kerr"]])[0] == []


def test_subwords_of_a_text_do_not_depend_on_its_neighbours(tokenizer):
    texts = [["Steve", "Kerr"], ["in", "Oakland", "."], ["#", "Paris"]]
    assert subwords_of_words(tokenizer, texts) == [subwords_of_words(tokenizer, [text])[0] for text in texts]


def test_subwords_join_to_what_the_tokenizer_makes_of_the_text(tokenizer):
    words = ["Steve", "Kerr", "coaches", "the", "Warriors"]
    joined = [token for ids in subwords_of_words(tokenizer, [words])[0] for token in ids]
    assert joined == tokenizer(" ".join(words), add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    "word",
    ["[MASK]", "<mask>", "</s>", "<s>", "[obj]", "[CLS]", "[SEP]", "<pad>", "[PAD]", "a<mask>b", "<mask>.", "<s></s>"],
)
def test_words_that_look_like_special_tokens_are_text(tokenizer, word):
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    grouped = subwords_of_words(tokenizer, [["the", word, "end"]])[0]
    ids = [token for subwords in grouped for token in subwords]
    assert not special & set(ids), tokenizer.convert_ids_to_tokens(ids)
    assert len(grouped) == 3


def test_look_alikes_do_not_change_what_the_tokenizer_does_later(tokenizer):
    subwords_of_words(tokenizer, [[tokenizer.mask_token]])
    assert tokenizer.mask_token_id in tokenizer(tokenizer.mask_token)["input_ids"]


def test_frame_is_what_the_tokenizer_puts_around_a_text(tokenizer):
    before, after = special_token_frame(tokenizer)
    inner = tokenizer("Kerr", add_special_tokens=False)["input_ids"]
    assert [*before, *inner, *after] == tokenizer("Kerr")["input_ids"]
    assert before
    assert after


def test_joint_is_what_the_tokenizer_puts_between_two_texts(tokenizer):
    (before, after), joint = special_token_frame(tokenizer), special_token_joint(tokenizer)
    one, other = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("Kerr", "Oakland"))
    assert [*before, *one, *joint, *other, *after] == tokenizer("Kerr", "Oakland")["input_ids"]
    assert joint[: len(after)] == after, "the first text ends as it would alone"


def test_each_text_is_tokenized_once(tokenizer, monkeypatch):
    given = []
    monkeypatch.setattr(
        "hf_mner.data.alignment.subwords_of_words",
        lambda tokenizer, texts: given.extend(texts) or subwords_of_words(tokenizer, texts),
    )
    found = tokenize_once(tokenizer, iter(["in  Oakland", "", "in  Oakland", " ", "Kerr"]))
    assert given == [["in", "Oakland"], [], [], ["Kerr"]]
    assert found["in  Oakland"] == (["in", "Oakland"], subwords_of_words(tokenizer, [["in", "Oakland"]])[0])
    assert found[""] == found[" "] == ([], [])
    assert tokenize_once(tokenizer, []) == {}


# ---------------------------------------------------------------------------------------------------------- windows

FRAME = ([101], [102])


def words_of_lengths(lengths: list[int]) -> list[list[int]]:
    return [[1000 * number + piece for piece in range(length)] for number, length in enumerate(lengths)]


def test_text_that_fits_gives_one_window():
    (window,) = window_words(words_of_lengths([1, 2, 3]), FRAME, max_length=8)
    assert window == (0, 3, [101, 0, 1000, 1001, 2000, 2001, 2002, 102], [1, 2, 4])


def test_text_that_is_one_token_too_long_gives_two_windows():
    assert len(window_words(words_of_lengths([1, 2, 3]), FRAME, max_length=7)) == 2


def test_windows_cover_fit_and_overlap():
    generator = random.Random(1)
    for _ in range(300):
        subwords = words_of_lengths([generator.choice((1, 1, 2, 3, 9)) for _ in range(generator.randint(1, 60))])
        max_length, overlap = generator.randint(4, 40), generator.randint(0, 20)
        windows = window_words(subwords, FRAME, max_length, overlap)
        room = max_length - 2
        covered = {word for window in windows for word in range(window.first_word, window.end_word)}
        assert covered == set(range(len(subwords)))
        assert windows[0].first_word == 0
        for window in windows:
            assert len(window.input_ids) <= max_length
            assert window.input_ids[0] == 101
            assert window.input_ids[-1] == 102
            assert len(window.first_subword_index) == window.end_word - window.first_word
            for word, index in zip(range(window.first_word, window.end_word), window.first_subword_index, strict=True):
                pieces = subwords[word][:room]
                assert window.input_ids[index : index + len(pieces)] == pieces
        for one, other in zip(windows, windows[1:], strict=False):
            assert one.first_word < other.first_word
            starts_giant = len(subwords[one.end_word]) >= room
            shared = max(one.first_word + 1, one.end_word - overlap)
            assert other.first_word == (one.end_word if starts_giant else shared)


def test_overlap_shows_every_short_span_whole_in_some_window():
    windows = window_words(words_of_lengths([1] * 100), FRAME, max_length=34, overlap_words=16)
    for start in range(0, 84):
        assert any(window.first_word <= start and start + 16 <= window.end_word for window in windows)


def test_giant_word_is_cut_to_the_window():
    windows = window_words(words_of_lengths([1, 500, 1]), FRAME, max_length=10)
    assert all(len(window.input_ids) <= 10 for window in windows)
    assert {word for w in windows for word in range(w.first_word, w.end_word)} == {0, 1, 2}
    (alone,) = window_words(words_of_lengths([500]), FRAME, max_length=10)
    assert alone.input_ids == [101, *range(8), 102]


def test_empty_text_gives_one_empty_window():
    assert window_words([], FRAME, max_length=10) == [(0, 0, [101, 102], [])]


def test_words_count_where_they_stand_farthest_from_an_edge():
    found = list(read_windows([(0, 0, 6), (1, 0, 2), (0, 3, 8)], [8, 2]))
    assert found[0] == (0, 0, [True] * 6)
    assert found[1] == (1, 0, [True] * 2)
    # Words 3, 4, 5 stood 2, 1, 0 words from an edge; now they stand 0, 1, 2 words from one. A tie stays.
    assert found[2] == (0, 3, [False, False, True, True, True])


def test_every_word_of_overlapping_windows_is_read_and_last_where_it_has_most_context():
    generator = random.Random(2)
    for _ in range(200):
        subwords = words_of_lengths([generator.choice((1, 1, 2, 9)) for _ in range(generator.randint(1, 50))])
        windows = window_words(subwords, FRAME, generator.randint(4, 30), generator.randint(0, 10))
        read: dict[int, int] = {}
        places = [(0, window.first_word, window.end_word) for window in windows]
        for (_, first, end), (text, start, counts) in zip(places, read_windows(places, [len(subwords)]), strict=True):
            assert (text, start, len(counts)) == (0, first, end - first)
            read |= {word: min(word - first, end - 1 - word) for word in range(first, end) if counts[word - first]}
        for word in range(len(subwords)):
            margins = [min(word - first, end - 1 - word) for _, first, end in places if first <= word < end]
            assert read[word] == max(margins)
