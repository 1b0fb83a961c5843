"""Articles of an encyclopedia as they come in files: JSON lines, TSV, Parquet and dumps of Wikipedia."""

from __future__ import annotations

import bz2
import gzip
import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple
from xml.etree import ElementTree

from .names import is_abbreviation, normalise_title, squash

LEAD_CHARS = 1200  # what is kept of an article's beginning while it is read
_REFERS = re.compile(r"\b(?:may|can|could)(?: also)?(?: commonly)? refer to\b|\bmost (?:commonly|often) refers to\b")
_DISAMBIGUATION_TEMPLATE = re.compile(
    # `{{disambiguation needed}}` stands in ordinary articles, behind a link.
    r"\{\{\s*(?:[^{}|\n]*\bdisambig(?:uation)?(?:[ _]cleanup)?|dab|hndis|geodis|mil-unit-dis|numberdis)\s*(?:\||\}\})",
    re.I,
)
_LISTED_LINK = re.compile(r"^\*+\s*(?:[\"“]|''+)*\[\[([^\]|#]+)", re.M)
_LISTED_TITLE = re.compile(r"^[\s*•·\-]*([^,:\n]{2,80}?)(,| [-–] |$)", re.M)
_XML_PARTS = re.compile(r"\{[^}]*\}")


class Article(NamedTuple):
    """One article.

    Attributes:
        title: its title.
        aliases: other names.
        text: its beginning.
        short: a few words that say what it is, e.g. `"American basketball player"`.
        qid: its Wikidata number (`"Q42"`), or `""`; a low number means an early, well-known item.
        source: where the record is from, free text.
        weight: how much is written about it, or links to it; larger is more likely meant.
        redirect: the title that this title only leads to, or `""`.
        meanings: the titles between which a disambiguation page leaves the choice.
        redirects: titles that lead here.
    """

    title: str
    aliases: tuple[str, ...] = ()
    text: str = ""
    short: str = ""
    qid: str = ""
    source: str = ""
    weight: int = 0
    redirect: str = ""
    meanings: tuple[str, ...] = ()
    redirects: tuple[str, ...] = ()


def read_articles(path: Path, skip: int = 0) -> Iterator[Article]:
    """Yield the articles of a file, whose ending says what it holds.

    - `.jsonl`, `.json`: an object on each line, either with `title`, and optionally `aliases`, `redirects` (lists),
      `description` or `text`, `short`, `qid`, `source`, `weight`; or as in Wikipedia's search dumps (CirrusSearch).
    - `.tsv`: title, aliases separated by `|`, text.
    - `.parquet`: columns `title` and `text` (as `wikimedia/wikipedia` on the Hub), others as in JSON lines.
    - `.xml`: a dump of MediaWiki's pages. Needs `mwparserfromhell`.

    All but Parquet may end in `.gz` or `.bz2`. Redirects and disambiguation pages are articles with `redirect` or
    `meanings`; pages outside of the main namespace are left out.

    Args:
        path: the file.
        skip: articles at its beginning that are left out, without most of the work that they would take.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it has another ending, is a folder, is damaged, or a line is malformed (names file and line).
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the files in it, or the folder of one finished index alone.")
    if not path.is_file():
        raise FileNotFoundError(f"Encyclopedia file {path} does not exist; give one of {', '.join(READERS)}.")
    name = path.name.removesuffix(".gz").removesuffix(".bz2")
    reader = READERS.get(Path(name).suffix)
    if reader is None:
        raise ValueError(f"{path} ends in none of {', '.join(READERS)} (with .gz or .bz2 behind); convert it.")
    return reader(path, skip)


@contextmanager
def open_articles(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that may be compressed; what is found to be damaged while it is read is said with its name.

    Raises:
        ValueError: if the file is cut off, or is not compressed as its name says.
    """
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
    with openers.get(path.suffix, open)(path, "rb") as stream:
        try:
            yield stream
        except (EOFError, OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of the file's content
                raise
            raise ValueError(f"{path} is cut off or damaged ({error}); fetch it again.") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that are not blank, with their numbers.

    Raises:
        ValueError: if the file is damaged, or a line is not UTF-8.
    """
    with open_articles(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number}: not UTF-8 ({error}); convert the file.") from error
            if text.strip():
                yield number, text


def article_from_mapping(record: Any, place: str) -> Article:
    """Build an article from a mapping as JSON lines hold it.

    Args:
        record: see `read_articles`.
        place: file and line, for error texts.

    Raises:
        ValueError: if it has no title, or a field of another type.
    """
    title = record.get("title") if isinstance(record, Mapping) else None
    if not isinstance(title, str) or not title.strip():
        raise ValueError(f"{place}: expected an object with a non-empty `title`, got {str(record)[:80]!r}.")
    for key in ("aliases", "redirects"):
        names = record.get(key) or []
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{place}: `{key}` must be a list of strings, got {names!r}.")
    for key in ("description", "text", "short", "qid", "source"):
        if not isinstance(record.get(key) or "", str):
            raise ValueError(f"{place}: `{key}` must be a string, got {record[key]!r}.")
    weight = record.get("weight") or 0
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise ValueError(f"{place}: `weight` must be a number of at least 0, got {weight!r}.")
    text = record.get("description") or record.get("text") or ""
    article = Article(
        title=title.strip(),
        aliases=tuple(record.get("aliases") or ()),
        text=text[:LEAD_CHARS].replace("\\n", " "),  # line ends that were escaped twice, as in published lists
        short=record.get("short") or "",
        qid=record.get("qid") or "",
        source=record.get("source") or "",
        weight=int(weight) or len(text),
        redirects=tuple(record.get("redirects") or ()),
    )
    return mark_disambiguation(article, text) if _REFERS.search(text[:300]) else article


def mark_disambiguation(article: Article, text: str) -> Article:
    """Return a page of plain text that lists meanings (`Mercury may refer to: ...`) as a disambiguation page.

    Its first line ends with `refer to`, or a few words more; in an article, a sentence goes on. A line of the list
    begins with the title that it means, up to a comma. A line without one is a heading, unless it holds the name.
    """
    head, _, listed = text.partition("\n")
    refers = _REFERS.search(head)
    rest = head[refers.end() :].strip() if refers else "."
    if not rest.endswith(":") and (len(rest) > 40 or rest.endswith(".")):
        return article
    bare = article.title.removesuffix(" (disambiguation)")
    found = [(title.strip(), bool(mark)) for title, mark in _LISTED_TITLE.findall(listed)]
    meanings = dict.fromkeys(title for title, is_item in found if title and (is_item or has_name(title, bare)))
    return article._replace(title=bare, meanings=tuple(meanings)) if meanings else article


def has_name(title: str, name: str) -> bool:
    """Tell whether a title holds the words of a name, or its letters as those of an abbreviation."""
    written, key = normalise_title(title), normalise_title(name)
    return f" {key} " in f" {written} " or is_abbreviation(key, squash(written))


def read_json_articles(path: Path, skip: int = 0) -> Iterator[Article]:
    """Yield the articles of JSON lines, see `read_articles`."""
    return islice(json_articles(path), skip, None)


def json_articles(path: Path) -> Iterator[Article]:
    """Yield all articles of JSON lines."""
    for number, line in read_lines(path):
        place = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            wanted = "expected one object with a `title` on each line"
            raise ValueError(f"{place}: not JSON ({error}); {wanted}.") from error
        if is_search_dump(record):
            yield from search_dump_article(record, place)
        else:
            yield article_from_mapping(record, place)


def is_search_dump(record: Any) -> bool:
    """Tell whether a record is of a CirrusSearch dump: it announces the next one, or says its namespace."""
    if not isinstance(record, Mapping) or "aliases" in record or "description" in record:
        return False
    return isinstance(record.get("namespace"), int) or ("title" not in record and "index" in record)


def search_dump_article(record: Mapping[str, Any], place: str) -> Iterator[Article]:
    """Yield the article of a line of a CirrusSearch dump; lines that only announce the next one hold none."""
    if "title" not in record or record.get("namespace", 0) != 0:
        return
    pages = [page for page in record.get("redirect") or () if isinstance(page, Mapping)]
    is_list = any("disambiguation" in str(name).casefold() for name in record.get("category") or ())
    article = article_from_mapping(
        {
            "title": record["title"],
            "redirects": [page.get("title") for page in pages if page.get("namespace", 0) == 0],
            "text": record.get("opening_text") or record.get("text"),
            "qid": record.get("wikibase_item"),
            "weight": record.get("incoming_links"),
            "source": "wikipedia",
        },
        place,
    )
    if is_list and not article.meanings:
        links = tuple(str(name).replace("_", " ") for name in record.get("outgoing_link") or ())
        article = article._replace(title=article.title.removesuffix(" (disambiguation)"), meanings=links)
    yield article


def read_tsv_articles(path: Path, skip: int = 0) -> Iterator[Article]:
    """Yield the articles of tab-separated lines, see `read_articles`."""
    for number, line in islice(read_lines(path), skip, None):
        fields = line.rstrip("\r\n").split("\t")
        if len(fields) != 3 or not fields[0].strip():
            got = f"{len(fields)} fields" if len(fields) != 3 else "no title"
            raise ValueError(f"{path}, line {number}: expected title, aliases separated by '|', text; got {got}.")
        title, aliases, text = fields
        names = tuple(name for name in aliases.split("|") if name)
        yield Article(title.strip(), names, text[:LEAD_CHARS], weight=len(text))


def read_parquet_articles(path: Path, skip: int = 0) -> Iterator[Article]:
    """Yield the articles of a Parquet file, see `read_articles`; a thousand rows are in memory at a time.

    Raises:
        ValueError: if the file is damaged, or has no titles.
    """
    from pyarrow import ArrowException

    try:
        for number, record in parquet_rows(path, skip):
            yield article_from_mapping(record, f"{path}, row {number}")
    except (ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is no whole Parquet file ({reason}); fetch it again.") from error


def parquet_rows(path: Path, skip: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a Parquet file with their numbers; row groups that are skipped are not read."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path, pre_buffer=False) as file:  # else the whole file stays in memory
        known = ("title", "text", "description", "aliases", "redirects", "short", "qid", "source", "weight")
        columns = [name for name in known if name in file.schema_arrow.names]
        if "title" not in columns:
            raise ValueError(f"{path} has the columns {file.schema_arrow.names}; expected `title` and `text`.")
        number = 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if number + size > skip:
                for batch in file.iter_batches(batch_size=1000, row_groups=[group], columns=columns):
                    begin = min(max(skip - number, 0), len(batch))
                    yield from enumerate(batch.slice(begin).to_pylist(), number + begin + 1)
                    number += len(batch)
            else:
                number += size


def read_xml_articles(path: Path, skip: int = 0) -> Iterator[Article]:
    """Yield the pages of a MediaWiki dump's main namespace, one in memory at a time.

    Raises:
        ImportError: without mwparserfromhell.
        ValueError: if the file is damaged or no well-formed XML.
    """
    with open_articles(path) as stream:
        try:
            events = ElementTree.iterparse(stream, events=("start", "end"))
            _, root = next(events)
            pages = (page for event, page in events if event == "end" and _XML_PARTS.sub("", page.tag) == "page")
            for page in pages:
                if fields := article_fields(page):
                    if skip > 0:
                        skip -= 1
                    else:
                        yield wiki_article(fields)
                root.clear()
        except ElementTree.ParseError as error:
            raise ValueError(f"{path} is cut off or no well-formed XML dump ({error}); fetch it again.") from error


def article_fields(page: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """Return the elements of a `<page>` by their names; none if it is no article or leads nowhere."""
    fields = {_XML_PARTS.sub("", item.tag): item for item in page.iter()}
    is_titled = "title" in fields and bool((fields["title"].text or "").strip())
    is_main = (fields["ns"].text if "ns" in fields else "0") == "0"
    leads_nowhere = "redirect" in fields and not fields["redirect"].get("title")
    return fields if is_titled and is_main and not leads_nowhere else {}


def wiki_article(fields: Mapping[str, ElementTree.Element]) -> Article:
    """Return the article of a page, see `article_fields`."""
    title = (fields["title"].text or "").strip()
    if "redirect" in fields:
        target = fields["redirect"].get("title", "").partition("#")[0]
        return Article(title, redirect=target, source="wikipedia")
    text = (fields["text"].text or "") if "text" in fields else ""
    if _DISAMBIGUATION_TEMPLATE.search(text):
        links = dict.fromkeys(link.strip().replace("_", " ") for link in _LISTED_LINK.findall(text))
        if links:
            return Article(title.removesuffix(" (disambiguation)"), meanings=tuple(links), source="wikipedia")
    return Article(title, text=plain_lead(text), source="wikipedia", weight=len(text))


def plain_lead(wikitext: str) -> str:
    """Return the beginning of an article without markup: what stands before its first heading."""
    try:
        import mwparserfromhell
    except ImportError as error:
        raise ImportError(
            "Dumps in XML are wikitext, which mwparserfromhell reads: `pip install hf-mner[wikitext]`. The Parquet"
            " files of `wikimedia/wikipedia` on the Hub hold plain text and do not need it."
        ) from error
    lead = re.split(r"^==", wikitext, maxsplit=1, flags=re.M)[0]
    lead = re.sub(
        r"<ref\b[^>]*/>|<ref\b.*?</ref>|\{\|.*?^\|\}|\[\[(?:File|Image):[^\[\]]*(?:\[\[[^\]]*\]\][^\[\]]*)*\]\]",
        "",
        lead,
        flags=re.S | re.M | re.I,
    )
    code = mwparserfromhell.parse(lead, skip_style_tags=True)
    text = code.strip_code(normalize=True, collapse=True).replace("'''", "").replace("''", "")
    paragraphs = [" ".join(part.split()) for part in text.split("\n") if len(part.split()) > 3]
    return " ".join(paragraphs)[:LEAD_CHARS].replace("()", "").replace("  ", " ")


READERS: dict[str, Callable[[Path, int], Iterator[Article]]] = {
    ".jsonl": read_json_articles,
    ".json": read_json_articles,
    ".tsv": read_tsv_articles,
    ".parquet": read_parquet_articles,
    ".xml": read_xml_articles,
}
