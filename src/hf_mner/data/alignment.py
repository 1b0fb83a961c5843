"""From text to words and from words to sub-word tokens, and back to characters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# URLs stay whole, words keep inner apostrophes, hyphens and dots (O'Brien, Jean-Luc, U.S.), marks stand alone.
WORD = re.compile(r"https?://\S+|\w+(?:['’.&-]\w+)*|[^\w\s]")


Subwords = list[list[int]]  # the sub-word ids of each word of a text


class Word(NamedTuple):
    """A word and its character offsets in the text it was cut from (`end` exclusive)."""

    text: str
    start: int
    end: int


class WordWindow(NamedTuple):
    """A run of words that fits the encoder: first word, word after the last, token ids, first sub-word of each."""

    first_word: int
    end_word: int
    input_ids: list[int]
    first_subword_index: list[int]


def split_words(text: str) -> list[Word]:
    """Cut a text into words with character offsets; `#NBA` gives `#` and `NBA`, as in the Twitter data sets."""
    return [Word(match.group(), *match.span()) for match in WORD.finditer(text)]


def join_words(tokens: Sequence[str]) -> list[Word]:
    """Give pre-tokenised words the character offsets they have in `" ".join(tokens)`."""
    words, position = [], 0
    for token in tokens:
        words.append(Word(token, position, position + len(token)))
        position += len(token) + 1
    return words


def subwords_of_words(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Sequence[str]]) -> list[Subwords]:
    """Tokenise pre-split words.

    Args:
        tokenizer: a fast tokenizer; byte-level ones must have been loaded with `add_prefix_space=True`.
        texts: the words of each text.

    Returns:
        For each text and word the ids of its sub-words; never empty (a word that the tokenizer drops, such as a lone
        no-break space, becomes the unknown token). Special tokens are not added, and words that look like one
        (`[MASK]`) are read as plain text.
    """
    if not texts:
        return []
    encoded = tokenizer(
        [list(words) for words in texts],
        is_split_into_words=True,
        add_special_tokens=False,
        split_special_tokens=True,
        truncation=False,
        verbose=False,
    )
    # Unigram vocabularies hold `<mask>` and the like as ordinary pieces, which `split_special_tokens` does not undo.
    special = set(tokenizer.all_special_ids)
    grouped = []
    for row, words in enumerate(texts):
        pieces: list[list[int]] = [[] for _ in words]
        for token_id, word in zip(encoded["input_ids"][row], encoded.word_ids(row), strict=True):
            pieces[word].append(tokenizer.unk_token_id if token_id in special else token_id)
        grouped.append([ids or [tokenizer.unk_token_id] for ids in pieces])
    return grouped


def tokenize_once(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> dict[str, tuple[list[str], Subwords]]:
    """Map each distinct text to its words and their sub-words (none for a blank text)."""
    distinct = list(dict.fromkeys(texts))
    words = [text.split() for text in distinct]
    tokenized = zip(distinct, words, subwords_of_words(tokenizer, words), strict=True)
    return {text: (pieces, subwords) for text, pieces, subwords in tokenized}


def flat(subwords: Subwords) -> list[int]:
    """Join the sub-words of several words."""
    return [token for word in subwords for token in word]


def fit_words(text: tuple[list[str], Subwords], room: int) -> tuple[list[str], Subwords]:
    """Keep the leading words of a text that fit into `room` tokens."""
    words, subwords = text
    used = 0
    for count, pieces in enumerate(subwords):
        used += len(pieces)
        if used > room:
            return words[:count], subwords[:count]
    return words, subwords


def special_token_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and after one text (`[CLS]`, `[SEP]` or `<s>`, `</s>`)."""
    framed = tokenizer(tokenizer.mask_token)["input_ids"]
    position = framed.index(tokenizer.mask_token_id)
    return framed[:position], framed[position + 1 :]


def special_token_joint(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids that the tokenizer puts between two texts (`[SEP]` or `</s></s>`)."""
    framed = tokenizer(tokenizer.mask_token, tokenizer.mask_token)["input_ids"]
    first, second = (index for index, token in enumerate(framed) if token == tokenizer.mask_token_id)
    return framed[first + 1 : second]


def window_words(
    subwords: Subwords,
    frame: tuple[list[int], list[int]],
    max_length: int,
    overlap_words: int = 16,
) -> list[WordWindow]:
    """Cut one text into windows of whole words that fit the encoder.

    Args:
        subwords: sub-word ids of each word; a word longer than a window is cut to the window (its first sub-words
            stay, which is all that word-level heads read).
        frame: special tokens before and after, see `special_token_frame`.
        max_length: tokens in a window, special tokens included.
        overlap_words: words that neighbouring windows share, so that no entity is only seen at an edge.

    Returns:
        One window for a text that fits, more for a longer one; together they cover every word.
    """
    before, after = frame
    room = max_length - len(before) - len(after)
    windows: list[WordWindow] = []
    first = 0
    while True:
        ids, index, word = list(before), [], first
        while word < len(subwords) and (len(ids) - len(before) + len(subwords[word]) <= room or word == first):
            index.append(len(ids))
            ids.extend(subwords[word][:room])
            word += 1
        windows.append(WordWindow(first, word, [*ids, *after], index))
        if word >= len(subwords):
            return windows
        # A next word too long for any shared words starts its window itself.
        first = word if len(subwords[word]) >= room else max(first + 1, word - overlap_words)


def read_windows(
    windows: Iterable[tuple[int, int, int]], lengths: Sequence[int]
) -> Iterator[tuple[int, int, list[bool]]]:
    """Say which words of a window count, where the windows of a text overlap.

    A word that several windows saw is read where it stands farthest from an edge; windows that come later overrule
    earlier ones only for words of which they saw more.

    Args:
        windows: text, first word and word after the last of each window.
        lengths: number of words of each text.

    Yields:
        For each window its text, its first word, and for each of its words whether it overrules what was read before.
    """
    margins = [[-1] * length for length in lengths]
    for text, first, end in windows:
        counts = []
        for word in range(first, end):
            margin = min(word - first, end - 1 - word)
            counts.append(margin > margins[text][word])
            margins[text][word] = max(margin, margins[text][word])
        yield text, first, counts
