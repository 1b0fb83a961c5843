from __future__ import annotations

import pytest
from datasets import Dataset

from hf_mner.data import drop_leaked, find_leaks, refuse_leakage
from hf_mner.data.leakage import normalize_tweet


def rows(**tokens):
    return Dataset.from_dict({"id": list(tokens), "tokens": [text.split() for text in tokens.values()]})


def test_tweets_are_compared_without_tokenisation_case_and_addresses():
    assert normalize_tweet(["RT", "@User", "Hi", "!", "http://t.co/x"]) == normalize_tweet(["rt", "@", "user", "hi"])
    assert normalize_tweet(["故", "宫"]) == "故宫"


def test_leaks_by_id_or_text_are_dropped():
    train = rows(a="new york wins", b="hello @user", c="other words", d="!", e="fine")
    tests = [rows(a="something else"), rows(x="Hello @ User http://t.co/1", y="?")]
    assert find_leaks(train, tests) == ["a", "b"]
    assert drop_leaked(train, tests)["id"][:] == ["c", "d", "e"]
    assert drop_leaked(train, [])["id"][:] == train["id"][:]


@pytest.mark.parametrize("train", ["twitter_gmner", "twitter_fmnerg", ["twitter2017", "twitter_gmner"]])
def test_known_leaks_are_refused(train):
    with pytest.raises(ValueError, match="1,563 training tweets are test tweets.*drop_leaked"):
        refuse_leakage(train, "twitter2015")


def test_pairs_without_leaks_pass():
    for train, test in (("twitter2015", "twitter2015"), ("twitter2015", "twitter2017"), ("conll2003", "wnut17")):
        refuse_leakage(train, test)
