"""`hf-mner knowledge`: fill and exchange a knowledge store; build and ask an encyclopedia."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .examples import read_examples
from .options import DataDir, Granularity, SourceNames, SourcesFile, check_file, read_source_specs, resumable
from .predict import OnError
from .progress import ProgressLines

if TYPE_CHECKING:
    from hf_mner.data.schema import MnerExample
    from hf_mner.knowledge.base import KnowledgeSource
    from hf_mner.knowledge.store import KnowledgeStore, SourceRecord, StoredItems

app = typer.Typer(no_args_is_help=True, help="Compute knowledge once and keep it; look names up in an encyclopedia.")
StorePath = Annotated[Path, typer.Argument(help="File of the store, such as knowledge.sqlite.")]
Data = Annotated[
    str,
    typer.Argument(
        help="Name of a data set (see `hf-mner data list`), your own folder of BIO files, or a .jsonl of posts."
    ),
]
Splits = Annotated[
    list[str] | None, typer.Option("--split", help="Read this split only (may be repeated).", show_default=False)
]
Joined = Annotated[
    list[str] | None,
    typer.Option(help="Join this published knowledge, such as blip2_captions (may be repeated).", show_default=False),
]
SourceName = Annotated[str, typer.Option("--source", help="Kind, column, model or number, see `inspect`.")]


@app.command()
def build(
    store: StorePath,
    data: Data,
    source: SourceNames = None,
    sources: SourcesFile = None,
    split: Splits = None,
    data_dir: DataDir = None,
    joined: Joined = None,
    granularity: Granularity = "coarse",
    batch_size: Annotated[int, typer.Option(min=1, help="Items computed, and at most lost by a kill, at once.")] = 8,
    on_error: Annotated[
        OnError, typer.Option(help="What a post does whose image cannot be read: stop, or be reported and skipped.")
    ] = "raise",
) -> None:
    """Let sources say what they know of each post, and keep it; run again, it goes on where it was stopped."""
    from hf_mner.knowledge import registry
    from hf_mner.knowledge.store import KnowledgeStore
    from hf_mner.knowledge.store.files import refuse_folder

    specs = read_specs(source or [], sources)
    is_kept = tell_what_is_kept(specs)
    refuse_folder(store)
    with resumable():
        examples = read_examples(data, data_dir, split, joined, granularity, on_error)
        opened = registry.open_sources(specs, data_dir)  # a mistake leaves no empty store behind
        with KnowledgeStore(store) as filled:
            build_store(filled, opened, is_kept, examples, batch_size, on_error)


@app.command()
def inspect(
    store: StorePath,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as a pipe gets it.")] = False,
) -> None:
    """List the sources of a store: model, revision, prompt, items, size and times."""
    from hf_mner.knowledge.store import KnowledgeStore

    with KnowledgeStore(store, create=False) as opened:
        rows = [describe(number, held) for number, held in enumerate(opened.sources(), start=1)]
    if as_json or not sys.stdout.isatty():
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        print_table(rows)


@app.command()
def export(
    store: StorePath,
    data: Data,
    output: Annotated[Path, typer.Argument(help="File to write, .jsonl or .parquet.")],
    source: SourceName,
    split: Splits = None,
    data_dir: DataDir = None,
    joined: Joined = None,
) -> None:
    """Write what a source said of each post, with where it is from."""
    from hf_mner.knowledge.store import KnowledgeStore, export_rows, find_source, write_rows
    from hf_mner.knowledge.store.row_files import check_format

    check_format(output)
    with KnowledgeStore(store, create=False) as opened:
        record = find_source(opened, source)
        examples = read_examples(data, data_dir, split, joined)
        count = write_rows(export_rows(opened, record, examples), output)
    typer.echo(f"{output}: {count} of {len(examples)} posts, from {record.name}.")


@app.command("import")
def import_values(
    store: StorePath,
    data: Data,
    values: Annotated[
        Path | None,
        typer.Option(help=".jsonl or .parquet with `id` and `value`; default: the knowledge that DATA has itself."),
    ] = None,
    part: Annotated[str | None, typer.Option(help="What the values are, such as caption.")] = None,
    source: Annotated[str | None, typer.Option(help="Kind of source that made them, such as ImageCaptioner.")] = None,
    model: Annotated[str, typer.Option(help="Its model.")] = "",
    revision: Annotated[str, typer.Option(help="Revision of the model.")] = "",
    prompt: Annotated[str, typer.Option(help="Version of the prompt.")] = "",
    settings: Annotated[str, typer.Option(help="Other settings, as JSON.")] = "{}",
    reads: Annotated[
        list[str] | None, typer.Option(help="Part of a post that it read, such as image (may be repeated).")
    ] = None,
    split: Splits = None,
    data_dir: DataDir = None,
    joined: Joined = None,
) -> None:
    """Take over published knowledge, or what `export` wrote (which says itself where it is from).

    Example: hf-mner knowledge import k.sqlite twitter2017 --joined blip2_captions --part caption --source
    ImageCaptioner --model Salesforce/blip2-opt-2.7b --reads image
    """
    from hf_mner.knowledge.store import KnowledgeStore, import_column, import_rows, read_rows

    identity = {"source": source, "model": model, "revision": revision, "prompt": prompt}
    record = make_source(part, {**identity, "settings": read_settings(settings)}, reads)
    if values is not None:
        check_file(values, "--values", "a .jsonl or .parquet with `id` and `value`, such as `export` writes")
    rows = read_rows(values) if values is not None else None
    if record is None and rows is None:
        raise ValueError(
            "Without `--values` nothing says where the knowledge is from; give --part, --source, --reads."
        )
    examples = read_examples(data, data_dir, split, joined)
    with KnowledgeStore(store) as opened:
        if rows is not None:
            imported = import_rows(opened, rows, examples, record)
        elif record is not None:
            imported = import_column(opened, record, examples)
    typer.echo(
        f"{store}: {imported.new} new items, {imported.held} held already, {imported.describe_left_out()},"
        f" {imported.unknown_ids} of ids that the data lacks."
    )


@app.command()
def merge(store: StorePath, other: Annotated[Path, typer.Argument(help="The store to take over.")]) -> None:
    """Take over what another store holds, say that of another machine."""
    from hf_mner.knowledge.store import KnowledgeStore

    with KnowledgeStore(store) as opened:
        typer.echo(f"{store}: {opened.merge(other)} new items from {other}.")


@app.command()
def index(
    files: Annotated[
        list[Path],
        typer.Argument(help="Articles: .parquet, .jsonl, .tsv, or a dump of Wikipedia (.xml.bz2, .json.gz)."),
    ],
    output: Annotated[Path, typer.Option(help="Folder of the index.")],
    max_text_chars: Annotated[int, typer.Option(min=1, help="Length that an article's text is cut to.")] = 300,
    minor_source: Annotated[
        list[str] | None,
        typer.Option(help="Value of `source` that is not trusted without context (may be repeated)."),
    ] = None,
) -> None:
    """Build the index of an encyclopedia; run again, it goes on where it was stopped."""
    from hf_mner.knowledge.encyclopedia import MINOR_SOURCES, EncyclopediaIndex, IndexSettings, build_index

    settings = IndexSettings(max_text_chars, tuple(minor_source) if minor_source else MINOR_SOURCES)
    is_old = output.is_dir() and any(output.iterdir())  # with anything but this very index, `build_index` fails
    with resumable(), show_index_progress() as progress:
        build_index(files, output, settings, progress=progress)
    typer.echo(f"{output}: {len(EncyclopediaIndex(output)):,} articles{', is finished already' if is_old else ''}.")


@app.command()
def lookup(
    mention: Annotated[list[str], typer.Argument(help="Names as written in a post: 'Steve Kerr' '#GoWarriors'.")],
    encyclopedia: Annotated[
        list[Path], typer.Option(help="Folder of an index, or files of articles (may be repeated).")
    ],
    context: Annotated[str, typer.Option(help="The post, used to choose between articles of one name.")] = "",
) -> None:
    """Find the articles of names, and say by which rule."""
    from hf_mner.knowledge.encyclopedia import Encyclopedia

    with show_index_progress() as progress:
        opened = Encyclopedia.from_files(encyclopedia, progress=progress)
    found = opened.lookup(mention, [context] * len(mention))
    if not sys.stdout.isatty():
        for name, entry in zip(mention, found, strict=True):
            typer.echo(json.dumps(entry or {"mention": name, "title": None}, ensure_ascii=False))
        return
    for name, entry in zip(mention, found, strict=True):
        typer.echo(f"{name}: {entry['title']} ({entry['rule']}). {entry['text']}" if entry else f"{name}: not found")


@contextmanager
def show_index_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show on standard error how the build of an index goes on, with its rate and the remaining time of its end."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                unit = "articles" if step == "reading" else "ranges of names"
                tasks[step] = bars.add_task(f"{step} {unit}", total=total, rate="", completed=done)
            speed = bars.tasks[tasks[step]].speed
            bars.update(tasks[step], completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else "")

        yield show


def build_store(
    store: KnowledgeStore,
    opened: list[KnowledgeSource],
    is_kept: list[bool],
    examples: list[MnerExample],
    batch_size: int,
    on_error: OnError,
) -> None:
    """Fill a store, with progress on standard error and one line of result for each source that is kept."""
    from hf_mner.knowledge.store import Stored
    from hf_mner.knowledge.store.building import describe_rivals, fill_store, find_unreadable

    for warning in describe_rivals(opened):
        typer.echo(f"warning: {warning}", err=True)
    sources = [Stored(one, store) if kept else one for one, kept in zip(opened, is_kept, strict=True)]
    unreadable = find_unreadable(store, examples) if on_error == "skip" else {}
    for reason in unreadable.values():
        typer.echo(f"skipped: {reason}", err=True)
    readable = [example for place, example in enumerate(examples) if place not in unreadable]
    progress = ProgressLines()
    fill_store(sources, readable, batch_size, progress, progress.tell)
    for line in progress.results([source.record.name for source in sources if isinstance(source, Stored)]):
        typer.echo(line)
    if unreadable:
        typer.echo(f"{len(unreadable)} of {len(examples)} posts skipped.", err=True)


def read_specs(names: list[str], file: Path | None) -> list[Any]:
    """Return the sources that the options name.

    Raises:
        ValueError: if none is named, or a name or setting is unknown.
    """
    if not (specs := read_source_specs(names, file)):
        raise ValueError("No source is named; give `--source` or `--sources FILE`.")
    return specs


def tell_what_is_kept(specs: list[Any]) -> list[bool]:
    """Return of each source whether a store keeps its answers; say which are only asked.

    Raises:
        ValueError: if none is kept.
    """
    from hf_mner.knowledge import registry

    names = [name for name, _ in registry.parse_specs(specs)]
    is_kept = [registry.SOURCES[name].is_stored for name in names]
    asked = ", ".join(name for name, kept in zip(names, is_kept, strict=True) if not kept)
    if not any(is_kept):
        raise ValueError(
            f"`--source` names {asked} alone, which reads files on disk and needs no store; ask it directly:"
            " `hf-mner knowledge lookup`, or `--source` of `hf-mner predict` and `evaluate`."
        )
    if asked:
        typer.echo(f"{asked}: only asked for what other sources read, not kept; it reads files on disk.", err=True)
    return is_kept


def make_source(part: str | None, identity: dict[str, str | None], reads: list[str] | None) -> SourceRecord | None:
    """Return what the options say of a source, None if they say nothing.

    Raises:
        ValueError: if they say only some of what is needed.
    """
    given = {"--part": part, "--source": identity["source"], "--reads": reads}
    if not any(given.values()):
        return None
    if lacking := [name for name, value in given.items() if not value]:
        raise ValueError(f"Where the knowledge is from is not known without {', '.join(lacking)}; give it, too.")
    from hf_mner.knowledge.store import make_record
    from hf_mner.knowledge.store.records import check_part

    check_part(part or "", "--part")
    return make_record(part or "", identity, reads or (), needs_entities="entities" in (reads or ()))


def read_settings(text: str) -> str:
    """Return settings as a `SourceIdentity` has them.

    Raises:
        ValueError: if they are no JSON object.
    """
    expected = """expected a JSON object, such as '{"key": 1}'."""
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"`--settings` is {text!r}, which is not JSON ({error}); {expected}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"`--settings` is {text!r}; {expected}")
    return json.dumps(settings, sort_keys=True)


def describe(number: int, held: StoredItems) -> dict[str, Any]:
    """Return what `inspect` shows of a source; times in UTC."""
    times = {"oldest": held.oldest, "newest": held.newest}
    return {
        "number": number,
        "part": held.source.column,
        **held.source.identity,
        "reads": list(held.source.reads),
        "items": held.items,
        "bytes": held.bytes,
        **{name: datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds") for name, time in times.items()},
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the sources for a reader."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    names = ("number", "part", "source", "model", "revision", "prompt", "reads", "items", "bytes", "newest")
    table = Table(*names, expand=False)
    for row in rows:
        table.add_row(*(escape(", ".join(row[name]) if name == "reads" else str(row[name])) for name in names))
    Console().print(table)
