"""Each rule of the encyclopedia with what it finds and what it must not, and look-ups that do not depend on others."""

import gc
import os
import random
import threading
import time

import pytest

from hf_mner.knowledge import Encyclopedia
from hf_mner.knowledge.encyclopedia import RULES, normalise_title

TEAM = "is a professional basketball team"
RECORDS = [
    {"title": "Golden State Warriors", "description": f"The Golden State Warriors {TEAM} in San Francisco."},
    {"title": "Chicago Bulls", "description": f"The Chicago Bulls {TEAM} in Chicago."},
    {"title": "Durham Bulls", "description": "The Durham Bulls are a baseball team in North Carolina."},
    {"title": "New York Knicks", "description": f"The New York Knicks {TEAM} in Manhattan."},
    {"title": "North Yorkshire Kites", "description": "North Yorkshire Kites is a song about the wind."},
    {"title": "Katy Perry", "description": "Katy Perry is an American singer."},
    {"title": "Taylor Swift", "description": "Taylor Swift is an American singer."},
    {"title": "Drake", "description": "Drake is a Canadian rapper."},
    {"title": "Justin Bieber", "description": "Justin Bieber is a Canadian singer."},
    {"title": "Beyoncé", "description": "Beyoncé is an American singer."},
    {"title": "Steve Kerr", "description": "Steve Kerr is a basketball coach of a team."},
    {"title": "Li Na", "description": "Li Na is a tennis player."},
    {"title": "California", "aliases": ["CA", "Calif"], "description": "California is a state with a coast."},
    {"title": "United States", "aliases": ["US"], "description": "The United States is a country."},
    {"title": "Air Canada", "aliases": ["Bob"], "redirects": ["AirCan"], "description": "Air Canada is an airline."},
    {"title": "Mercury (planet)", "description": "Mercury is a planet near the Sun.", "qid": "Q308"},
    {"title": "Mercury (element)", "description": "Mercury is a liquid metal.", "qid": "Q925"},
    {"title": "Springfield Lakes", "description": "Springfield Lakes is a town.", "source": "geonames"},
    {"title": "Springfield", "description": "Springfield is a town in Ohio.", "source": "geonames"},
    {"title": "Barrack Street", "description": "Barrack Street is a street in Perth."},
    {"title": "Barack Obama", "description": "Barack Obama was president."},
]


@pytest.fixture(scope="module")
def encyclopedia():
    return Encyclopedia.from_records(RECORDS)


def find(encyclopedia, mention, context=""):
    (match,) = encyclopedia.lookup_detailed([mention], [context])
    return (match.title, match.rule) if match else None


@pytest.mark.parametrize(
    ("mention", "context", "found"),
    [
        # A hashtag is split where case changes,
        ("#KatyPerry", "", ("Katy Perry", "hashtag")),
        ("#GoldenSTATEWarriors", "", ("Golden State Warriors", "hashtag")),
        # or is a name without its spaces, of five letters or more: `lina` is a name of its own.
        ("@katyperry", "", ("Katy Perry", "hashtag")),
        ("#lina", "", None),
        ("#LiNa", "", ("Li Na", "hashtag")),
        # Lists of places need a word of context.
        ("#springfieldlakes", "", None),
        ("#springfieldlakes", "a town at the lake", ("Springfield Lakes", "hashtag")),
        # Digits and usual words at the ends of a handle go, if several words are left or the context agrees.
        ("@taylorswift13", "", ("Taylor Swift", "hashtag")),
        ("@thereallTaylorSwift", "", None),
        ("@thereal_taylorswift", "", None),
        ("@therealtaylorswift", "", ("Taylor Swift", "hashtag")),
        ("@justinbieberfans", "", ("Justin Bieber", "hashtag")),
        ("@iamdrake", "", None),
        ("@iamdrake", "the rapper", ("Drake", "hashtag")),
        # Initials are those of an organisation, of three letters or more, and the context agrees.
        ("nyk", "basketball tonight", ("New York Knicks", "abbreviation")),
        ("#NYK", "what a basketball team", ("New York Knicks", "abbreviation")),
        ("nyk", "", None),
        ("nyk", "wind and a song", None),  # a song is no organisation
        ("kp", "the American singer", None),
        # The end of a team's title, if it is the only one, or the context agrees.
        ("Warriors", "", ("Golden State Warriors", "short")),
        ("#GoWarriors", "", ("Golden State Warriors", "short")),
        ("State Warriors", "", ("Golden State Warriors", "short")),
        ("Bulls", "", None),
        ("Bulls", "in Chicago", ("Chicago Bulls", "short")),
        ("Bulls", "North Carolina", ("Durham Bulls", "short")),
        ("Kerr", "basketball", None),  # a coach is no team
        ("Perry", "the American singer", None),
        # A misspelt title, in a longer word that no article has for a name; another word or the context agrees.
        ("Justin Beiber", "", ("Justin Bieber", "fuzzy")),
        ("JUSTIN BEIBER", "", ("Justin Bieber", "fuzzy")),
        ("Beyonse", "", None),
        ("Beyonse", "the singer", ("Beyoncé", "fuzzy")),
        ("Justin Pieber", "", None),
        ("Steve Karr", "", None),
        ("Sprinfield", "a town in Ohio", None),  # of a list of places
        # Codes of two letters, and of three in small letters, need context or must be explained by the title.
        ("CA", "", None),
        ("CA", "on the coast", ("California", "alias")),
        ("Calif", "", ("California", "alias")),
        ("US", "", ("United States", "alias")),
        ("us", "in this country", None),
        ("Bob", "", None),
        ("Bob", "no airline like this", ("Air Canada", "alias")),
        ("BOB", "", ("Air Canada", "alias")),  # three capitals are an abbreviation
        ("AirCan", "", ("Air Canada", "alias")),
        # Meanings of one name.
        ("Mercury", "", ("Mercury (planet)", "alias")),
        ("Mercury", "a metal", ("Mercury (element)", "alias")),
        ("Mercury (element)", "the planet", ("Mercury (element)", "exact")),
    ],
)
def test_a_rule_and_its_limits(encyclopedia, mention, context, found):
    assert find(encyclopedia, mention, context) == found


def test_a_word_that_is_a_name_itself_is_not_misspelt():
    singer, town = (
        {"title": "Justin Bieber", "description": "Justin Bieber is a singer."},
        {"title": "Beiber", "description": "Beiber is a town."},
    )
    assert find(Encyclopedia.from_records([singer]), "Justin Beiber") == ("Justin Bieber", "fuzzy")
    assert find(Encyclopedia.from_records([singer, town]), "Justin Beiber") is None


EXAMPLES = {
    "exact": ("Chicago Bulls", ""),
    "normalised": ("chicago bulls", ""),
    "alias": ("Calif", ""),
    "redirect": ("Merc", ""),
    "hashtag": ("@katyperry", ""),
    "abbreviation": ("nyk", "basketball"),
    "short": ("Warriors", ""),
    "fuzzy": ("Justin Beiber", ""),
}


@pytest.fixture(scope="module")
def with_redirect(tmp_path_factory):
    """An index of the records and one redirect, which only dumps have."""
    from hf_mner.knowledge.encyclopedia import Article, build_index
    from hf_mner.knowledge.encyclopedia.articles import article_from_mapping

    articles = [article_from_mapping(record, "") for record in RECORDS] + [
        Article("Merc", redirect="Mercury (planet)")
    ]
    return build_index(articles, tmp_path_factory.mktemp("index") / "index")


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_switched_off(with_redirect, rule):
    mentions, contexts = zip(*EXAMPLES.values(), strict=True)

    def rules(allowed):
        found = Encyclopedia(with_redirect, rules=allowed).lookup_detailed(mentions, contexts)
        return [match and match.rule for match in found]

    others = [other for other in RULES if other != rule]
    assert rules(RULES) == list(EXAMPLES)
    for without, example in zip(rules(others), EXAMPLES, strict=True):
        # A title is also found without its spaces.
        assert without in ((None, "hashtag") if example == rule else (example,))
    assert set(rules([rule])) == {None, rule}
    assert rules([rule])[RULES.index(rule)] == rule
    assert rules([]) == [None] * len(EXAMPLES)


def test_an_article_whose_rule_is_off_hides_none_whose_rule_is_on():
    records = [
        {"title": "Barack Obama", "aliases": ["Obama"], "description": "Barack Obama was president.", "qid": "Q76"},
        {"title": "Obama", "description": "Obama is a city.", "source": "geonames"},
        {"title": "obama", "description": "obama is a word."},
    ]
    assert find(Encyclopedia.from_records(records[:2]), "Obama", "a city") == ("Barack Obama", "alias")
    assert find(Encyclopedia.from_records(records[:2], rules=["exact"]), "Obama", "a city") == ("Obama", "exact")
    assert find(Encyclopedia.from_records(records, rules=["normalised"]), "Obama") == ("obama", "normalised")


def test_rules_have_names():
    with pytest.raises(ValueError, match=r"`rules` holds 'fuzy'; choose of exact, .*, fuzzy\."):
        Encyclopedia.from_records(RECORDS, rules=["fuzy"])


# ------------------------------------------------------------------------------- one look-up does not change another
EXOTIC = [
    *("", " ", "\t\n", "#", "@", "##", "\0", "\0Drake\0", "\U0001f600", "Drake\U0001f600", "\ud83d", "Dra\udc00ke"),
    *("ａ", "\u202eDrake", "ß", "ŉ", "İstanbul", "हिन्दी", "ไทย", "東京", "a" * 10_000, "Drake " * 2_000),
    *("#" + "Aa1" * 3_000, "' " * 5_000, " " * 10_000 + "!", "." * 10_000, "_" * 10_000, "("),
]
WORDS = ["", "basketball", "the rapper", "a metal", "a planet", "singer", "in Chicago", "North Carolina", "a town"]


def queries():
    """Return mentions with contexts: names of the records, misspelt, in several spellings, and exotic ones."""
    generator = random.Random(0)
    names = [record["title"] for record in RECORDS] + [mention for mention, _ in EXAMPLES.values()]
    names += [
        "nyk",
        "Bulls",
        "Bob",
        "CA",
        "Justin Beiber",
        "justin beiber",
        "#justinbeiber",
        "Justin  Beiber",
        "nobody",
    ]
    names += [name.lower() for name in names] + ["#" + name.replace(" ", "") for name in names] + EXOTIC
    found = [(name, context) for name in names for context in generator.sample(WORDS, 3)]
    generator.shuffle(found)
    return [list(part) for part in zip(*found, strict=True)]


def test_a_batch_gives_what_its_mentions_give_one_by_one(encyclopedia):
    mentions, contexts = queries()
    one_by_one = []
    for mention, context in zip(mentions, contexts, strict=True):
        encyclopedia.forget()
        one_by_one += encyclopedia.lookup([mention], [context])
    assert sum(entry is not None for entry in one_by_one) > 100
    encyclopedia.forget()
    assert encyclopedia.lookup(mentions, contexts) == one_by_one
    assert encyclopedia.lookup(mentions, contexts) == one_by_one  # remembered
    encyclopedia.forget()
    assert encyclopedia.lookup(mentions[::-1], contexts[::-1]) == one_by_one[::-1]
    for cache_size in (0, 1, 10):
        small = Encyclopedia(encyclopedia._index, cache_size=cache_size)
        halves = [slice(0, 60), slice(60, None)]
        found = [entry for half in halves for entry in small.lookup(mentions[half], contexts[half])]
        assert found == one_by_one
        assert len(small._known) <= cache_size


def test_spellings_of_one_misspelt_name_are_all_found(encyclopedia):
    mentions = ["Justin Beiber", "justin beiber", "#justinbeiber", "Justin Beiber", "nobody at all"]
    encyclopedia.forget()
    found = encyclopedia.lookup(mentions, ["the singer"] * len(mentions))
    assert [entry and entry["title"] for entry in found] == ["Justin Bieber"] * 4 + [None]


def test_each_mention_has_its_own_context(encyclopedia):
    contexts = ["a metal", "a planet", "", "a metal"]
    found = encyclopedia.lookup(["Mercury"] * 4, contexts)
    assert [entry["title"] for entry in found] == [
        f"Mercury ({kind})" for kind in ("element", "planet", "planet", "element")
    ]
    found = encyclopedia.lookup(["Bulls", "Beyonse", "Beyonse"], ["singer", "in Chicago", "singer"])
    assert [entry and entry["title"] for entry in found] == [None, None, "Beyoncé"]


@pytest.mark.parametrize("mention", EXOTIC, ids=range(len(EXOTIC)))
def test_an_exotic_mention_is_looked_up_in_no_time(encyclopedia, mention):
    started = time.perf_counter()
    encyclopedia.lookup([mention], [mention * 3])
    encyclopedia.lookup(["Drake"], [mention])
    assert time.perf_counter() - started < 2  # milliseconds; what takes the square of the length takes longer
    normal = normalise_title(mention)
    assert normalise_title(normal) == normal


def test_halves_of_characters_and_nul_in_records():
    """`json.loads` makes lone surrogates of broken escapes."""
    broken = {
        "title": "Bro\ud83dken",
        "aliases": ["Al\udc00ias", "N\0L"],
        "description": "A \ud83d text\0.",
        "short": "\ud83d",
    }
    encyclopedia = Encyclopedia.from_records([broken, {"title": "Drake\0", "description": "x"}])
    for mention, title in [("N L", "Bro?ken"), ("Bro\ud83dken", "Bro?ken"), ("Drake", "Drake ")]:
        (entry,) = encyclopedia.lookup([mention])
        assert entry["title"] == title
        entry["text"].encode()


def test_threads_share_an_encyclopedia(encyclopedia):
    mentions, contexts = queries()
    expected = encyclopedia.lookup(mentions, contexts)
    shared, failures = Encyclopedia(encyclopedia._index, cache_size=5), []

    def work(seed):
        generator = random.Random(seed)
        for _ in range(15):
            places = generator.sample(range(len(mentions)), 30)
            found = shared.lookup([mentions[place] for place in places], [contexts[place] for place in places])
            if found != [expected[place] for place in places]:
                failures.append(places)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# ------------------------------------------------------------------------------------------------- temporary indexes
def test_the_index_of_records_goes_with_the_encyclopedia():
    encyclopedia = Encyclopedia.from_records(RECORDS)
    folder = encyclopedia._index.folder.parent
    assert folder.is_dir()
    del encyclopedia
    gc.collect()
    assert not folder.exists()


def test_a_malformed_record_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="Record 1: expected an object with a non-empty `title`"):
        Encyclopedia.from_records([{"title": "A"}, {}])
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_does_not_remove_the_folder_of_its_parent():
    encyclopedia = Encyclopedia.from_records(RECORDS)
    if (child := os.fork()) == 0:
        found = encyclopedia.lookup(["Drake"])[0] is not None
        del encyclopedia
        gc.collect()
        os._exit(0 if found else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert encyclopedia._index.folder.is_dir()
