"""Articles as they come in files: every reader, what is malformed, what is cut off, what is skipped."""

import bz2
import gzip
import json
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_mner.knowledge.encyclopedia import articles, read_articles
from hf_mner.knowledge.encyclopedia.articles import LEAD_CHARS, article_from_mapping, plain_lead

MERCURY = (
    "Mercury may refer to:\n\nMercury (planet), the closest planet to the Sun\n Mercury (element), a metal\n\n"
    "People\n Freddie Mercury – a singer\nThe Mercury\n"
)


def write(path, text):
    """Write a text, packed as the name says."""
    packed = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)(text.encode())
    path.write_bytes(packed)
    return path


def write_lines(path, records):
    return write(path, "".join(json.dumps(record) + "\n" for record in records))


def titles(path, skip=0):
    return [article.title for article in read_articles(path, skip)]


# ------------------------------------------------------------------------------------------------ JSON lines and TSV
@pytest.mark.parametrize("ending", ["", ".gz", ".bz2"])
def test_json_lines(tmp_path, ending):
    full = {
        "title": " Zoë ",
        "aliases": ["Z"],
        "redirects": ["Zo"],
        "description": "Zoë is a name.",
        "short": "name",
        "qid": "Q1",
        "source": "wiki",
        "weight": 7.0,
    }
    path = write_lines(tmp_path / f"a.jsonl{ending}", [full, {"title": "B", "text": "Some text.", "aliases": None}])
    one, other = read_articles(path)
    assert one == ("Zoë", ("Z",), "Zoë is a name.", "name", "Q1", "wiki", 7, "", (), ("Zo",))
    assert (other.title, other.text, other.weight) == ("B", "Some text.", len("Some text."))
    assert list(read_articles(path, skip=1)) == [other]
    assert list(read_articles(path, skip=5)) == []


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2"])
def test_tsv(tmp_path, ending):
    path = write(tmp_path / f"a.tsv{ending}", "Köln\tCologne||Koeln\tA city.\r\n\n \nOhio\t\t\n")
    one, other = read_articles(path)
    assert (one.title, one.aliases, one.text, one.weight) == ("Köln", ("Cologne", "Koeln"), "A city.", 7)
    assert (other.title, other.aliases, other.text) == ("Ohio", (), "")
    assert list(read_articles(path, skip=1)) == [other]


@pytest.mark.parametrize(("name", "line"), [("a.jsonl", '{"title": "A"}\n'), ("a.tsv", "A\t\t\n")])
def test_a_byte_order_mark_is_no_part_of_the_first_title(tmp_path, name, line):
    assert titles(write(tmp_path / name, "\ufeff" + line)) == ["A"]


@pytest.mark.parametrize("record", [{"index": 3}, {"index": {}, "aliases": []}, {"namespace": "x"}])
def test_fields_of_other_tools_do_not_make_a_search_dump(tmp_path, record):
    """`index` is also what pandas calls its row numbers."""
    path = write_lines(tmp_path / "a.jsonl", [{"title": "A", "description": "A is a letter.", **record}])
    (article,) = read_articles(path)
    assert article.text == "A is a letter."


@pytest.mark.parametrize("weight", [-1, "7", True, [1], float("nan"), float("inf")])
def test_a_weight_is_a_number_of_at_least_0(weight):
    with pytest.raises(ValueError, match=r"^f, line 2: `weight` must be a number of at least 0, got "):
        article_from_mapping({"title": "A", "weight": weight}, "f, line 2")


def test_only_the_beginning_of_a_text_is_kept():
    article = article_from_mapping({"title": "A", "text": "x" * 5000}, "")
    assert (len(article.text), article.weight) == (LEAD_CHARS, 5000)


# ---------------------------------------------------------------------------------------------------- disambiguation
def test_a_page_of_plain_text_that_lists_meanings():
    article = article_from_mapping({"title": "Mercury (disambiguation)", "text": MERCURY}, "")
    assert article.title == "Mercury"
    assert article.meanings == ("Mercury (planet)", "Mercury (element)", "Freddie Mercury", "The Mercury")


def test_a_heading_is_no_meaning_but_what_an_abbreviation_stands_for_is():
    text = "NBA most commonly refers to any of the following\n\nNational Basketball Association\n\nSports\nMusic\n"
    assert article_from_mapping({"title": "NBA", "text": text}, "").meanings == ("National Basketball Association",)


@pytest.mark.parametrize(
    "text",
    [
        "Holland is a region. The name can also refer to the Netherlands as a whole, with all of its provinces.\n\n"
        "Etymology, as told by many\nHolland, Michigan",
        "A term may refer to a word.\n\nWords, in a row\n",
        "Mercury may refer to:",
    ],
)
def test_an_article_that_says_may_refer_to_stays_one(text):
    article = article_from_mapping({"title": "Holland", "text": text}, "")
    assert (article.meanings, article.text) == ((), text)


# ----------------------------------------------------------------------------------------------------------- Parquet
def wikipedia_parquet(path, count=10, row_group_size=3):
    """Write what `wikimedia/wikipedia` looks like."""
    names = [f"Title {number}" for number in range(count - 1)] + ["Mercury"]
    texts = [f"{name} is an article.\n\nMore of it." for name in names[:-1]] + [MERCURY]
    table = pa.table(
        {
            "id": [str(number) for number in range(count)],
            "url": [f"https://en.wikipedia.org/wiki/{name}" for name in names],
            "title": names,
            "text": texts,
        }
    )
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def test_parquet_of_wikipedia(tmp_path):
    path = wikipedia_parquet(tmp_path / "a.parquet")
    *ordinary, last = read_articles(path)
    assert [article.title for article in ordinary] == [f"Title {number}" for number in range(9)]
    assert ordinary[4].text == "Title 4 is an article.\n\nMore of it."
    assert last.meanings[:2] == ("Mercury (planet)", "Mercury (element)")


def test_row_groups_that_are_skipped_are_not_read(tmp_path, monkeypatch):
    path = wikipedia_parquet(tmp_path / "a.parquet")
    groups = []
    iter_batches = pq.ParquetFile.iter_batches

    def logged(self, *arguments, row_groups, **options):
        groups.extend(row_groups)
        return iter_batches(self, *arguments, row_groups=row_groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", logged)
    whole = titles(path)
    for skip in range(12):
        groups.clear()
        assert titles(path, skip) == whole[skip:]
        assert groups == list(range(min(skip // 3, 4), 4)) if skip < 10 else groups == []


def test_parquet_with_all_columns_and_bad_rows(tmp_path):
    rows = [
        {"title": "A", "aliases": ["a"], "redirects": None, "qid": None, "weight": 2.0},
        {"title": None, "aliases": [], "redirects": ["b"], "qid": "Q1", "weight": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = read_articles(tmp_path / "a.parquet")
    assert next(found)[:2] == ("A", ("a",))
    with pytest.raises(ValueError, match=r"a.parquet, row 2: expected an object with a non-empty `title`"):
        next(found)
    with pytest.raises(ValueError, match=r"a.parquet, row 2: expected"):
        next(read_articles(tmp_path / "a.parquet", skip=1))
    pq.write_table(pa.table({"name": ["A"]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b.parquet has the columns \['name'\]; expected `title` and `text`"):
        titles(tmp_path / "b.parquet")


# --------------------------------------------------------------------------------------------------------------- XML
CUBS = """{{Short description|Baseball team}}
{{Infobox MLB
| name = Chicago Cubs
| owner = [[Tom Ricketts]]{{efn|See {{cite web|url=http://x.org/a?b=c}}}}
}}
[[File:Cubs logo.svg|thumb|The [[logo]] of the team]]
<!-- a comment -->
The '''Chicago Cubs''' ({{lang-es|Cachorros}}) are an American [[professional baseball|baseball]] team<ref name="a/b"/>
based in [[Chicago]].<ref>{{cite book|title=Not this}}</ref> They play&nbsp;in
the ''[[National League (baseball)|NL]]''
{{Disambiguation needed|date=May 2020}}.<ref name=c>No</ref>

They won the [[World Series]] in [[2016 World Series|2016]], after 108 years.

==History==
Not in the lead.
"""
PAGES = [
    ("Chicago Cubs", 0, None, CUBS),
    ("Talk:Chicago Cubs", 1, None, "talk"),
    ("Cubbies", 0, "Chicago Cubs", "#REDIRECT [[Chicago Cubs]]"),
    ("Portal:Cubs", 100, "Chicago Cubs", "#REDIRECT [[Chicago Cubs]]"),
    ("Nowhere", 0, "", "#REDIRECT [[]]"),
    ("Москва", 0, None, "'''Москва''' — столица России & город."),
    (
        "Mercury (disambiguation)",
        0,
        None,
        "'''Mercury''' may refer to:\n* [[Mercury (planet)]], a planet\n** ''[[Mercury_(film)|Mercury]]'', a film\n"
        '* "[[Mercury (song)|Mercury]]", a song\n* In [[chemistry#Metals]]\n{{disambiguation|geo}}',
    ),
]


def dump(pages=PAGES):
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">\n'
    head += "  <siteinfo><sitename>Wikipedia</sitename><case>first-letter</case></siteinfo>\n"
    body = ""
    for number, (title, namespace, target, text) in enumerate(pages):
        redirect = "" if target is None else f'<redirect title="{target}" />'
        body += (
            f"  <page><title>{escape(title)}</title><ns>{namespace}</ns><id>{number}</id>{redirect}"
            "<revision><id>9</id><contributor><username>title</username></contributor><model>wikitext</model>"
            f'<text bytes="5" xml:space="preserve">{escape(text)}</text></revision></page>\n'
        )
    return head + body + "</mediawiki>\n"


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2"])
def test_a_dump_of_mediawiki(tmp_path, ending):
    found = list(read_articles(write(tmp_path / f"pages.xml{ending}", dump())))
    cubs, cubbies, moscow, mercury = found
    assert cubs.title == "Chicago Cubs"
    assert cubs.text.startswith("The Chicago Cubs are an American baseball team")
    assert cubs.text.endswith("They won the World Series in 2016, after 108 years.")
    assert "based in Chicago" in cubs.text
    assert not {"[", "]", "{", "}", "'", "<", ">"} & set(cubs.text)
    assert not any(word in cubs.text for word in ("Not", "logo", "comment", "owner", "Disambiguation"))
    assert cubs.weight == len(CUBS)
    assert (cubbies.title, cubbies.redirect, cubbies.text) == ("Cubbies", "Chicago Cubs", "")
    assert (moscow.title, moscow.text) == ("Москва", "Москва — столица России & город.")
    assert mercury.title == "Mercury"
    assert mercury.meanings == ("Mercury (planet)", "Mercury (film)", "Mercury (song)")
    assert {article.source for article in found} == {"wikipedia"}


def test_pages_that_are_skipped_are_not_parsed(tmp_path, monkeypatch):
    path = write(tmp_path / "pages.xml", dump())
    whole, parsed = list(read_articles(path)), []
    monkeypatch.setattr(articles, "plain_lead", lambda text: parsed.append(text) or plain_lead(text))
    for skip in range(len(whole) + 2):
        parsed.clear()
        assert list(read_articles(path, skip)) == whole[skip:]
        assert len(parsed) == sum(not (page.redirect or page.meanings) for page in whole[skip:])


@pytest.mark.parametrize(
    "name", ["disambiguation", "Disambig", "hndis|x", "Airport disambiguation", "dab", "geodis\n"]
)
def test_templates_of_disambiguation(tmp_path, name):
    path = write(tmp_path / "a.xml", dump([("A", 0, None, "* [[B]], b\n{{" + name + "}}")]))
    assert next(read_articles(path)).meanings == ("B",)


@pytest.mark.parametrize(
    "name", ["Disambiguation needed", "other uses|A (disambiguation)", "dabbing", "distinguish|B"]
)
def test_templates_of_ordinary_articles(tmp_path, name):
    path = write(tmp_path / "a.xml", dump([("A", 0, None, "The word A is a letter.\n* [[B]]\n{{" + name + "}}")]))
    assert next(read_articles(path)).meanings == ()


def test_a_page_without_links_or_text(tmp_path):
    path = write(tmp_path / "a.xml", dump([("A", 0, None, "{{disambiguation}}"), ("B", 0, None, "")]))
    assert [(article.meanings, article.text) for article in read_articles(path)] == [((), "")] * 2


# ------------------------------------------------------------------------------------------------------ CirrusSearch
CIRRUS = [
    {"index": {"_type": "_doc", "_id": "1"}},
    {
        "title": "Chicago Cubs",
        "namespace": 0,
        "wikibase_item": "Q246782",
        "incoming_links": 5000,
        "redirect": [{"namespace": 0, "title": "Cubbies"}, {"namespace": 10, "title": "Template:Cubs"}],
        "opening_text": "The Chicago Cubs are a team.",
        "text": "The Chicago Cubs are a team. History ...",
        "category": ["Chicago Cubs", "Major League Baseball teams"],
    },
    {"index": {"_type": "_doc", "_id": "2"}},
    {"title": "Talk:Chicago Cubs", "namespace": 1, "text": "talk"},
    {"index": {"_type": "_doc", "_id": "3"}},
    {
        "title": "Mercury (disambiguation)",
        "namespace": 0,
        "opening_text": None,
        "text": "Mercury most commonly refers to: Mercury (planet), ...",
        "category": ["Disambiguation pages with short descriptions", "Disambiguation pages"],
        "outgoing_link": ["Mercury_(planet)", "Freddie_Mercury"],
        "redirect": [],
    },
]


@pytest.mark.parametrize("name", ["enwiki-content.json", "enwiki-content.json.gz", "a.jsonl.bz2"])
def test_a_search_dump(tmp_path, name):
    path = write_lines(tmp_path / name, CIRRUS)
    cubs, mercury = read_articles(path)
    assert (cubs.title, cubs.redirects, cubs.qid, cubs.weight) == ("Chicago Cubs", ("Cubbies",), "Q246782", 5000)
    assert (cubs.text, cubs.source, cubs.meanings) == ("The Chicago Cubs are a team.", "wikipedia", ())
    assert (mercury.title, mercury.meanings) == ("Mercury", ("Mercury (planet)", "Freddie Mercury"))
    assert titles(path, skip=1) == ["Mercury"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"redirect": [{"namespace": 0}]}, "`redirects` must be a list of strings"),
        ({"incoming_links": "many"}, "`weight` must be a number"),
        ({"title": 5}, "expected an object with a non-empty `title`"),
    ],
)
def test_a_malformed_line_of_a_search_dump(tmp_path, fields, message):
    path = write_lines(tmp_path / "a.json", [{"title": "A", "namespace": 0, "text": "x", **fields}])
    with pytest.raises(ValueError, match=f"a.json, line 1: {message}"):
        titles(path)


# ------------------------------------------------------------------------------------------- what cannot be read
def many_lines(count=5000):
    return [{"title": f"Title {number}", "text": f"Text {number * 7919}"} for number in range(count)]


@pytest.mark.parametrize(
    "name", ["a.jsonl.gz", "a.jsonl.bz2", "a.tsv.gz", "a.tsv.bz2", "a.xml", "a.xml.gz", "a.xml.bz2", "a.parquet"]
)
@pytest.mark.parametrize("part", [0.03, 0.5, 0.99])
def test_a_file_that_is_cut_off(tmp_path, name, part):
    path = tmp_path / name
    if name == "a.parquet":
        wikipedia_parquet(path, 1000, 100)
    elif ".tsv" in name:
        write(path, "".join(f"{row['title']}\t\t{row['text']}\n" for row in many_lines()))
    elif ".xml" in name:
        write(path, dump([(row["title"], 0, "A", row["text"]) for row in many_lines(500)]))
    else:
        write_lines(path, many_lines())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ValueError, match=rf"{name} is (cut off|no whole Parquet file).*; fetch it again\."):
        titles(path)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.bz2", "a.xml.gz", "a.xml.bz2", "a.xml", "a.parquet"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html> x", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03garbage"])
def test_a_file_that_is_something_else(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    if not content and name == "a.jsonl.gz":
        assert titles(path) == []  # as gzip itself has it
        return
    with pytest.raises(ValueError, match=rf"{name} is (cut off|no whole Parquet file).*; fetch it again\."):
        titles(path)


def test_a_damaged_page_of_parquet(tmp_path):
    path = wikipedia_parquet(tmp_path / "a.parquet", 1000, 100)
    content = bytearray(path.read_bytes())
    content[4:2000] = b"\xff" * 1996
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.parquet is no whole Parquet file \(.*; fetch it again"):
        titles(path)


def test_a_line_that_is_not_utf8(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"A\t\t\nK\xf6ln\t\t\n")
    with pytest.raises(ValueError, match=r"a.tsv, line 2: not UTF-8 .*; convert the file"):
        titles(tmp_path / "a.tsv")


def test_a_tsv_line_without_title(tmp_path):
    with pytest.raises(ValueError, match=r"a.tsv, line 1: expected title, .*; got no title\."):
        titles(write(tmp_path / "a.tsv", " \t\tText\n"))


def test_json_that_is_one_array(tmp_path):
    with pytest.raises(
        ValueError, match=r"a.json, line 1: not JSON .*expected one object with a `title` on each line"
    ):
        titles(write(tmp_path / "a.json", '[\n{"title": "A"}\n]'))


def test_a_folder_is_told_from_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="is a folder; give the files in it"):
        read_articles(tmp_path)


def test_an_error_of_the_disk_is_not_the_files(tmp_path, monkeypatch):
    path = write_lines(tmp_path / "a.jsonl", many_lines(3))

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(articles.json, "loads", fail)
    with pytest.raises(OSError, match="Input/output error"):
        titles(path)
