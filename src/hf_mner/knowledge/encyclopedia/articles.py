"""Articles of an encyclopedia as they come in files: JSON lines, TSV, Parquet and dumps of Wikipedia."""

from __future__ import annotations

import bz2
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple
from xml.etree import ElementTree

LEAD_CHARS = 1200  # what is kept of an article's beginning while it is read
_REFERS = re.compile(r"\b(?:may|can|could)(?: also)?(?: commonly)? refer to\b|\bmost (?:commonly|often) refers to\b")
_DISAMBIGUATION_TEMPLATE = re.compile(r"\{\{\s*(?:[\w ]*disambig\w*|hndis|geodis|mil-unit-dis|numberdis)\b", re.I)
_LISTED_LINK = re.compile(r"^\*+\s*(?:''+)?\[\[([^\]|#]+)", re.M)
_LISTED_TITLE = re.compile(r"^[\s*•·\-]*([^,:\n]{2,80}?)(?:,| [-–] |$)", re.M)
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


def read_articles(path: Path) -> Iterator[Article]:
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

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it has another ending, or a line is malformed (names file and line).
    """
    if not path.is_file():
        raise FileNotFoundError(f"Encyclopedia file {path} does not exist; give one of {', '.join(READERS)}.")
    name = path.name.removesuffix(".gz").removesuffix(".bz2")
    reader = READERS.get(Path(name).suffix)
    if reader is None:
        raise ValueError(f"{path} ends in none of {', '.join(READERS)} (with .gz or .bz2 behind); convert it.")
    return reader(path)


def open_text(path: Path) -> IO[str]:
    """Open a text file that may be compressed."""
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
    return openers.get(path.suffix, open)(path, "rt", encoding="utf-8")


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
    text = record.get("description") or record.get("text") or ""
    article = Article(
        title=title.strip(),
        aliases=tuple(record.get("aliases") or ()),
        text=text[:LEAD_CHARS],
        short=record.get("short") or "",
        qid=record.get("qid") or "",
        source=record.get("source") or "",
        weight=record.get("weight") or len(text),
        redirects=tuple(record.get("redirects") or ()),
    )
    return mark_disambiguation(article, text) if _REFERS.search(text[:300]) else article


def mark_disambiguation(article: Article, text: str) -> Article:
    """Return a page of plain text that lists meanings (`Mercury may refer to: ...`) as a disambiguation page.

    A line of such a page begins with the title that it means, up to a comma.
    """
    head, _, listed = text.partition("\n")
    if not _REFERS.search(head):
        return article
    meanings = dict.fromkeys(match.strip() for match in _LISTED_TITLE.findall(listed) if match.strip())
    bare = article.title.removesuffix(" (disambiguation)")
    return article._replace(title=bare, meanings=tuple(meanings)) if meanings else article


def read_json_articles(path: Path) -> Iterator[Article]:
    """Yield the articles of JSON lines, see `read_articles`."""
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                place = f"{path}, line {number}"
                try:
                    record = json.loads(line)
                except json.JSONDecodeError as error:
                    wanted = "expected one object with a `title` on each line"
                    raise ValueError(f"{place}: not JSON ({error}); {wanted}.") from error
                if (
                    isinstance(record, dict)
                    and ("index" in record or "namespace" in record)
                    and "aliases" not in record
                ):
                    yield from search_dump_article(record, place)
                else:
                    yield article_from_mapping(record, place)


def search_dump_article(record: Mapping[str, Any], place: str) -> Iterator[Article]:
    """Yield the article of a line of a CirrusSearch dump; lines that only announce the next one hold none."""
    if "title" not in record or record.get("namespace", 0) != 0:
        return
    is_list = any("disambiguation" in str(name).casefold() for name in record.get("category") or ())
    article = article_from_mapping(
        {
            "title": record["title"],
            "redirects": [page["title"] for page in record.get("redirect") or () if page.get("namespace", 0) == 0],
            "text": record.get("opening_text") or record.get("text"),
            "qid": record.get("wikibase_item"),
            "weight": record.get("incoming_links"),
            "source": "wikipedia",
        },
        place,
    )
    links = [str(name).replace("_", " ") for name in record.get("outgoing_link") or ()]
    yield article._replace(meanings=tuple(links)) if is_list else article


def read_tsv_articles(path: Path) -> Iterator[Article]:
    """Yield the articles of tab-separated lines, see `read_articles`."""
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            fields = line.rstrip("\r\n").split("\t")
            if not line.strip():
                continue
            if len(fields) != 3 or not fields[0].strip():
                wanted = "expected title, aliases separated by '|', text"
                raise ValueError(f"{path}, line {number}: {wanted}; got {len(fields)} fields.")
            title, aliases, text = fields
            names = tuple(name for name in aliases.split("|") if name)
            yield Article(title.strip(), names, text[:LEAD_CHARS], weight=len(text))


def read_parquet_articles(path: Path) -> Iterator[Article]:
    """Yield the articles of a Parquet file, see `read_articles`; a thousand rows are in memory at a time."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path, pre_buffer=False) as file:  # else the whole file stays in memory
        known = ("title", "text", "description", "aliases", "redirects", "short", "qid", "source", "weight")
        columns = [name for name in known if name in file.schema_arrow.names]
        if "title" not in columns:
            raise ValueError(f"{path} has the columns {file.schema_arrow.names}; expected `title` and `text`.")
        number = 0
        for batch in file.iter_batches(batch_size=1000, columns=columns):
            for record in batch.to_pylist():
                number += 1
                yield article_from_mapping(record, f"{path}, row {number}")


def read_xml_articles(path: Path) -> Iterator[Article]:
    """Yield the pages of a MediaWiki dump's main namespace, one in memory at a time.

    Raises:
        ImportError: without mwparserfromhell.
        ValueError: if the file is no well-formed XML.
    """
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
    with openers.get(path.suffix, open)(path, "rb") as stream:
        try:
            events = ElementTree.iterparse(stream, events=("start", "end"))
            _, root = next(events)
            for event, element in events:
                if event == "end" and _XML_PARTS.sub("", element.tag) == "page":
                    yield from wiki_article(element)
                    root.clear()
        except ElementTree.ParseError as error:
            raise ValueError(f"{path} is no well-formed XML dump ({error}); fetch it again.") from error


def wiki_article(page: ElementTree.Element) -> Iterator[Article]:
    """Yield the article of a `<page>`; pages of other namespaces hold none."""
    fields = {_XML_PARTS.sub("", item.tag): item for item in page.iter()}
    title = (fields["title"].text or "").strip() if "title" in fields else ""
    if not title or (fields["ns"].text if "ns" in fields else "0") != "0":
        return
    if "redirect" in fields:
        yield Article(title, redirect=fields["redirect"].get("title", ""), source="wikipedia")
        return
    text = (fields["text"].text or "") if "text" in fields else ""
    if _DISAMBIGUATION_TEMPLATE.search(text):
        links = dict.fromkeys(link.strip().replace("_", " ") for link in _LISTED_LINK.findall(text))
        yield Article(title.removesuffix(" (disambiguation)"), meanings=tuple(links), source="wikipedia")
    else:
        yield Article(title, text=plain_lead(text), source="wikipedia", weight=len(text))


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
        r"<ref[^>/]*/>|<ref.*?</ref>|\{\|.*?^\|\}|\[\[(?:File|Image):[^\[\]]*(?:\[\[[^\]]*\]\][^\[\]]*)*\]\]",
        "",
        lead,
        flags=re.S | re.M | re.I,
    )
    code = mwparserfromhell.parse(lead, skip_style_tags=True)
    text = code.strip_code(normalize=True, collapse=True).replace("'''", "").replace("''", "")
    paragraphs = [" ".join(part.split()) for part in text.split("\n") if len(part.split()) > 3]
    return " ".join(paragraphs)[:LEAD_CHARS].replace("()", "").replace("  ", " ")


READERS: dict[str, Callable[[Path], Iterator[Article]]] = {
    ".jsonl": read_json_articles,
    ".json": read_json_articles,
    ".tsv": read_tsv_articles,
    ".parquet": read_parquet_articles,
    ".xml": read_xml_articles,
}
