"""The encyclopedia: look-up rules, ranking, and what bad files get."""

import gzip
import json

import pytest

from hf_mner.knowledge import Encyclopedia, KnowledgeSource, normalise_title
from hf_mner.knowledge.encyclopedia import split_hashtag

RECORDS = [
    {
        "title": "Chicago Cubs",
        "aliases": ["Cubs", "The Cubbies"],
        "short": "baseball team in Chicago",
        "description": "The Chicago Cubs are a professional baseball team.",
        "qid": "Q246782",
        "source": "wiki",
    },
    {"title": "Golden State Warriors", "aliases": ["Dubs"], "description": "A basketball team.", "source": "wiki"},
    {"title": "Beyoncé", "description": "Beyoncé is a singer.", "source": "wiki"},
    {"title": "United States", "aliases": ["US", "U.S."], "description": "A country.", "source": "wiki"},
    {"title": "Levi's", "description": "A clothing company.", "source": "wiki"},
    {"title": "Trigger (film)", "description": "Trigger is a 2010 film.", "source": "wiki"},
    {"title": "Barack Obama", "aliases": ["Obama"], "description": "Barack Obama was president.", "source": "wiki"},
    {"title": "Obama", "short": "city", "description": "Obama is a city in Fukui, Japan.", "source": "geonames"},
    {"title": "Harper", "short": "city", "description": "Harper is a city in Liberia.", "source": "geonames"},
]


@pytest.fixture
def encyclopedia():
    return Encyclopedia.from_records(RECORDS)


def write(path, records):
    text = "\n".join(json.dumps(record) for record in records)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("mention", "title", "rule"),
    [
        ("Chicago Cubs", "Chicago Cubs", "exact"),
        ("CHICAGO CUBS", "Chicago Cubs", "normalised"),
        ("cubs", "Chicago Cubs", "alias"),
        ("#Cubs", "Chicago Cubs", "alias"),
        ("#GoldenStateWarriors", "Golden State Warriors", "hashtag"),
        ("@GoldenStateWarriors", "Golden State Warriors", "hashtag"),
        ("GoldenStateWarriors", "Golden State Warriors", "hashtag"),
        ("Beyonce", "Beyoncé", "normalised"),
        ("Beyonce\u0301", "Beyoncé", "normalised"),
        ("Ｂeyoncé", "Beyoncé", "normalised"),  # a full-width letter
        ("Levi ' s", "Levi's", "normalised"),
        ("Levi’s", "Levi's", "normalised"),
        ("U . S .", "United States", "alias"),
        ("US", "United States", "alias"),
        ("Trigger", "Trigger (film)", "alias"),
    ],
)
def test_rules(encyclopedia, mention, title, rule):
    (match,) = encyclopedia.lookup_detailed([mention])
    assert (match.mention, match.title, match.rule, match.source) == (mention, title, rule, "wiki")


@pytest.mark.parametrize("mention", ["us", "The", "2017", "#", "", "!!!", "a", "@", "Nobody Known"])
def test_common_words_numbers_and_unknown_names_find_nothing(encyclopedia, mention):
    assert encyclopedia.lookup([mention]) == [None]


def test_lookup_keeps_the_order_and_the_mention_as_written(encyclopedia):
    found = encyclopedia.lookup(["nobody", "#Cubs"])
    assert found[0] is None
    assert found[1] == {
        "mention": "#Cubs",
        "title": "Chicago Cubs",
        "text": "baseball team in Chicago. The Chicago Cubs are a professional baseball team.",
        "rule": "alias",
        "source": "wiki",
    }


def test_a_description_that_says_the_short_one_is_not_repeated(encyclopedia):
    (match,) = encyclopedia.lookup(["Harper"], ["On the coast of Liberia: Harper"])
    assert match["text"] == "Harper is a city in Liberia."


def test_an_alias_elsewhere_beats_a_gazetteer_title(encyclopedia):
    assert encyclopedia.lookup_detailed(["Obama"])[0].title == "Barack Obama"
    harbour = {"title": "Pearl Harbor", "aliases": ["Pearl City"], "description": "A harbour.", "source": "wiki"}
    town = {"title": "Pearl City", "description": "Pearl City is a city in Hawaii.", "source": "geonames"}
    assert (
        Encyclopedia.from_records([town, harbour]).lookup(["Pearl City"], ["in Hawaii"])[0]["title"] == "Pearl Harbor"
    )
    trusting = Encyclopedia.from_records(RECORDS, minor_sources=())
    assert trusting.lookup_detailed(["Obama"])[0][1::2] == ("Obama", "exact")


def test_a_one_word_gazetteer_name_needs_a_word_of_context(encyclopedia):
    assert encyclopedia.lookup(["Harper"]) == [None]
    assert encyclopedia.lookup(["Harper"], ["Bryce Harper hits"]) == [None]
    assert encyclopedia.lookup(["Harper"], ["Harper , Liberia"])[0]["title"] == "Harper"
    assert Encyclopedia.from_records(RECORDS, minor_sources=()).lookup(["Harper"])[0]["title"] == "Harper"


def test_a_minor_record_whose_text_is_about_something_else_needs_context_too():
    records = [
        {"title": "Old Butler", "description": "Warsaw is a city in Missouri.", "source": "entdesc"},
        {"title": "Old Trafford", "description": "Old Trafford is a stadium.", "source": "entdesc"},
    ]
    assert Encyclopedia.from_records(records).lookup(["Old Butler"]) == [None]
    assert Encyclopedia.from_records(records).lookup(["Old Trafford"])[0]["title"] == "Old Trafford"


def test_among_records_of_one_title_context_decides_then_renown():
    city = {"title": "Chicago", "description": "Chicago is a city in Illinois.", "qid": "Q1297"}
    film = {
        "title": "Chicago",
        "description": "Chicago is a musical film with many songs, made in 2002.",
        "qid": "Q190135",
    }
    for records in ([city, film], [film, city]):
        both = Encyclopedia.from_records(records)
        assert both.lookup(["Chicago"])[0]["text"] == city["description"]  # the lower Wikidata number
        assert both.lookup(["Chicago"], ["we saw the musical Chicago"])[0]["text"] == film["description"]
        # The mention itself is no evidence, nor are stop words.
        assert both.lookup(["Chicago"], ["Chicago is in the"])[0]["text"] == city["description"]


def test_a_described_and_longer_record_is_preferred_without_wikidata_numbers():
    bare, short = {"title": "Nike", "short": "brand"}, {"title": "Nike", "description": "A goddess."}
    long = {"title": "Nike", "description": "A company that makes shoes."}
    assert Encyclopedia.from_records([bare, short, long]).lookup(["Nike"])[0]["text"] == long["description"]
    assert Encyclopedia.from_records([bare, short]).lookup(["Nike"])[0]["text"] == short["description"]


def test_an_alias_that_is_part_of_the_title_is_preferred():
    orioles = {"title": "Baltimore Orioles", "aliases": ["Brewers"], "description": "A team.", "qid": "Q1"}
    brewers = {"title": "Milwaukee Brewers", "aliases": ["Brewers"], "description": "A team.", "qid": "Q9"}
    assert Encyclopedia.from_records([orioles, brewers]).lookup(["Brewers"])[0]["title"] == "Milwaukee Brewers"


def test_exact_case_beats_another_case():
    records = [{"title": "NIKE", "description": "A missile."}, {"title": "Nike", "description": "A goddess."}]
    assert [entry["title"] for entry in Encyclopedia.from_records(records).lookup(["NIKE", "Nike"])] == [
        "NIKE",
        "Nike",
    ]


def test_text_is_cut_at_a_sentence_or_word_end():
    record = {"title": "Ohio", "description": "Ohio is a state. It has many lakes and rivers."}

    def text(limit):
        return Encyclopedia.from_records([record], max_text_chars=limit).lookup(["Ohio"])[0]["text"]

    assert text(300) == record["description"]
    assert text(25) == "Ohio is a state."
    assert text(40) == "Ohio is a state. It has many lakes and"
    assert all(len(text(limit)) <= limit for limit in range(1, 60))
    with pytest.raises(ValueError, match="`max_text_chars` must be at least 1, got 0"):
        text(0)


@pytest.mark.parametrize("name", ["records.jsonl", "records.jsonl.gz"])
def test_a_file_gives_what_its_records_give(tmp_path, name, encyclopedia):
    read = Encyclopedia.from_files(write(tmp_path / name, RECORDS))
    assert len(read) == len(RECORDS)
    mentions = ["cubs", "Beyonce", "Obama", "Harper"]
    assert read.lookup_detailed(mentions) == encyclopedia.lookup_detailed(mentions)


def test_several_files_and_tsv(tmp_path):
    table = tmp_path / "more.tsv"
    table.write_text("Kroger\tKroger Co.|The Kroger\tKroger is a grocer.\nOhio\t\tA state.\n", encoding="utf-8")
    both = Encyclopedia.from_files([write(tmp_path / "a.jsonl", RECORDS), table])
    assert [entry and entry["title"] for entry in both.lookup(["the kroger", "Ohio", "Cubs"])] == [
        "Kroger",
        "Ohio",
        "Chicago Cubs",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"title": "A", ', "line 3: not JSON"),
        ('["A"]', "line 3: expected an object with a non-empty `title`"),
        ('{"name": "A"}', "line 3: expected an object with a non-empty `title`"),
        ('{"title": " "}', "line 3: expected an object with a non-empty `title`"),
        ('{"title": "A", "aliases": "B"}', "line 3: `aliases` must be a list of strings"),
        ('{"title": "A", "aliases": [1]}', "line 3: `aliases` must be a list of strings"),
        ('{"title": "A", "description": 5}', "line 3: `description` must be a string"),
    ],
)
def test_a_malformed_line_is_named_with_its_file(tmp_path, line, message):
    path = tmp_path / "records.jsonl"
    path.write_text('{"title": "B"}\n\n' + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"records.jsonl, {message}"):
        Encyclopedia.from_files(path)


def test_a_malformed_tsv_line_and_another_ending(tmp_path):
    table = tmp_path / "a.tsv"
    table.write_text("A\tB\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"a.tsv, line 1: expected title, aliases .* got 2 fields"):
        Encyclopedia.from_files(table)
    (tmp_path / "a.csv").touch()
    with pytest.raises(ValueError, match=r"a.csv ends in none of .jsonl"):
        Encyclopedia.from_files(tmp_path / "a.csv")


def test_wrong_arguments_of_lookup(encyclopedia):
    with pytest.raises(ValueError, match="`mentions` is one string"):
        encyclopedia.lookup("Cubs")
    with pytest.raises(ValueError, match="`contexts` has 1 texts for 2 mentions"):
        encyclopedia.lookup(["Cubs", "US"], ["x"])


def test_as_a_knowledge_source(encyclopedia):
    assert isinstance(encyclopedia, KnowledgeSource)
    tokens = ["Cubs", "beat", "Harper", "in", "Liberia", ",", "go", "Cubs"]
    spans = [(0, 1), (2, 3), (7, 8)]
    example = {"tokens": tokens, "entities": [{"start": start, "end": end} for start, end in spans]}
    (found,), nothing = encyclopedia([example]), encyclopedia([{"tokens": ["hm"], "entities": []}])
    assert [(entry["mention"], entry["title"]) for entry in found] == [("Cubs", "Chicago Cubs"), ("Harper", "Harper")]
    assert nothing == [[]]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  The   Cubs!", "the cubs"),
        ("#Cubs", "cubs"),
        ("Schleswig-Holstein", "schleswig holstein"),
        ("J. R. Smith", "jr smith"),
        ("O'Brien", "obrien"),
        ("under_score", "under score"),
        ("Straße", "strasse"),
        ("東京", "東京"),
    ],
)
def test_normalise_title(text, normal):
    assert normalise_title(text) == normal == normalise_title(normal)


@pytest.mark.parametrize(
    ("hashtag", "words"),
    [("#Euro2016", "#Euro 2016"), ("#NBAFinals", "#NBA Finals"), ("#cubs", "#cubs"), ("NFL", "NFL")],
)
def test_split_hashtag(hashtag, words):
    assert split_hashtag(hashtag) == words


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.jsonl does not exist; give one of"):
        Encyclopedia.from_files(tmp_path / "absent.jsonl")


@pytest.mark.parametrize(
    ("mention", "title"), [("C++", "C++"), ("c#", "C#"), ("!!!", "!!!"), ("हिन्दी", "हिन्दी"), ("#C++", "C++")]
)
def test_names_of_signs_are_names(mention, title):
    records = [{"title": name, "description": "A thing."} for name in ("C", "C++", "C#", "!!!", "हिन्दी", "हनद")]
    (found,) = Encyclopedia.from_records(records).lookup([mention])
    assert (found and found["title"]) == title


def test_vowel_signs_are_letters():
    assert normalise_title("हिन्दी") == "हिन्दी"
    assert normalise_title("Jürgen–Klopp (2)") == "jurgen klopp 2"
