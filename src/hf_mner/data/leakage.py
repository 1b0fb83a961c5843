"""Keep test tweets out of training: the Twitter sets are cut from the same tweets."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

_GROUNDED = ("twitter_gmner", "twitter_fmnerg")
# Training tweets that are test tweets of another set, counted by image id. GMNER and FMNERG share their splits.
LEAKED_TWEETS: dict[tuple[str, str], int] = {
    **{(train, "twitter2015"): 1563 for train in _GROUNDED},
    **{(train, "twitter2017"): 467 for train in _GROUNDED},
    **{("twitter2015", test): 404 for test in _GROUNDED},
    **{("twitter2017", test): 482 for test in _GROUNDED},
}


def refuse_leakage(train_names: str | Iterable[str], test_name: str) -> None:
    """Refuse a pair of public sets of which one's training tweets are the other's test tweets.

    Args:
        train_names: the set or sets trained on (see `load_mner_dataset`).
        test_name: the set tested on.

    Raises:
        ValueError: naming the pair and the number of tweets; `drop_leaked` removes them.
    """
    for train_name in [train_names] if isinstance(train_names, str) else train_names:
        leaked = LEAKED_TWEETS.get((train_name, test_name), 0)
        if leaked:
            raise ValueError(
                f"Training on {train_name!r} and testing on {test_name!r} leaks: {leaked:,} training tweets are test"
                " tweets. Train and test on one set, or filter first: `train = drop_leaked(train, [test])`."
            )


def normalize_tweet(tokens: Iterable[str]) -> str:
    """Return a text's letters and digits, case-folded, without web addresses.

    GMNER splits the tweets of 2015 anew (`@ user` for `@user`) and leaves their addresses out; this form is equal for
    most of them (1,458 of the 1,563 GMNER training tweets that are Twitter-2015 test tweets).
    """
    text = "".join(token for token in tokens if not token.lower().startswith("http"))
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def find_leaks(train: Dataset, tests: Sequence[Dataset]) -> list[str]:
    """Return the ids of training rows that are also in a test set, by id or by `normalize_tweet` of their tokens.

    Rows whose normalised text is empty are compared by id only.
    """
    ids = {row_id for test in tests for row_id in test["id"]}
    texts = {normalize_tweet(tokens) for test in tests for tokens in test["tokens"]} - {""}
    pairs = zip(train["id"], train["tokens"], strict=True)
    return [row_id for row_id, tokens in pairs if row_id in ids or normalize_tweet(tokens) in texts]


def drop_leaked(train: Dataset, tests: Sequence[Dataset]) -> Dataset:
    """Return `train` without the rows of `find_leaks`, in the same order."""
    leaked = set(find_leaks(train, tests))
    return train.select([position for position, row_id in enumerate(train["id"]) if row_id not in leaked])
