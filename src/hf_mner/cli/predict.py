"""`hf-mner predict`: posts in, entities out, as a table or as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .options import (
    BatchSize,
    DataDir,
    IsCompiled,
    Model,
    PrecisionName,
    SourceNames,
    SourcesFile,
    StoreFile,
    Threshold,
    check_file,
    open_pipeline,
    open_store,
    read_source_specs,
)

OnError = Literal["raise", "skip"]
Result = tuple[dict[str, Any], list[dict[str, Any]] | None]  # a post and its entities, None if it was skipped


def predict(
    text: Annotated[list[str] | None, typer.Argument(help="Texts to read.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="Image of each text, in their order.")] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="File of posts, '-' for standard input: .jsonl of {text|tokens, image}, or lines of text. Image"
            " paths count from the file's folder.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="JSON lines file; default: a table, or JSON lines in a pipe.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", help="Also show the posts in this HTML file.", show_default=False)
    ] = None,
    model: Model = None,
    source: SourceNames = None,
    sources: SourcesFile = None,
    store: StoreFile = None,
    data_dir: DataDir = None,
    threshold: Threshold = 0.0,
    batch_size: BatchSize = 32,
    precision: PrecisionName = "float32",
    is_compiled: IsCompiled = False,
    show_knowledge: Annotated[bool, typer.Option(help="Add the knowledge that each decision saw.")] = False,
    on_error: Annotated[
        OnError, typer.Option(help="What a bad post does: stop, or be reported and skipped.")
    ] = "raise",
) -> None:
    """Find the entities of posts."""
    from hf_mner.knowledge.registry import open_sources

    from .report import check_ending

    if page is not None:
        check_ending(page, "--html", ".html", ".htm")
    specs = read_source_specs(source or [], sources)
    posts = list(read_posts(text or [], image or [], file, on_error))
    pipe = open_pipeline(model, precision=precision, compiled=is_compiled)
    with open_store(store) as kept:
        options = {
            "knowledge": open_sources(specs, data_dir, kept),
            "threshold": threshold,
            "batch_size": batch_size,
            "return_knowledge": show_knowledge,
        }
        shown: list[Result] = []
        found = results(pipe, posts, options, on_error)
        write_results(found if page is None else remember(found, shown), len(posts), output)
    if page is not None:
        write_page(page, shown)


def remember(found: Iterator[Result], shown: list[Result]) -> Iterator[Result]:
    """Pass on results, and keep those of posts that were read."""
    for result in found:
        if result[1] is not None:
            shown.append(result)
        yield result


def write_page(path: Path, shown: list[Result]) -> None:
    """Write posts with their entities, images and boxes as one HTML page."""
    from hf_mner import render

    from .report import write_text

    posts = [post for post, _ in shown]
    texts = [" ".join(post["tokens"]) if post.get("text") is None else post["text"] for post in posts]
    images = [post.get("image") for post in posts]
    write_text(path, render([found for _, found in shown], texts, images, page=True, jupyter=False) or "")


def write_results(found: Iterator[Result], total: int, output: Path | None) -> None:
    """Write each post with its entities: JSON lines to a file or a pipe, tables to a terminal."""
    if output is None and sys.stdout.isatty():
        for post, entities in found:
            if entities is not None:
                print_table(post, entities)
        return
    skipped = 0
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", encoding="utf-8") if output else nullcontext(sys.stdout) as stream:
        for post, entities in track(found, total, output is not None):
            if entities is None:
                skipped += 1
            else:
                stream.write(json.dumps({**shown_fields(post), "entities": entities}, ensure_ascii=False) + "\n")
    if skipped:
        typer.echo(f"{skipped} of {total} posts skipped.", err=True)


def read_posts(
    texts: list[str], images: list[Path], file: str | None, on_error: OnError = "raise"
) -> Iterator[dict[str, Any]]:
    """Yield the posts of the arguments or of the file, each with an id; `skip` reports unreadable lines."""
    if bool(texts) == (file is not None):
        raise ValueError("Give either texts or `--input FILE` ('-' for standard input), not both and not neither.")
    if images and len(images) != len(texts):
        raise ValueError(f"Got {len(texts)} texts and {len(images)} images; give `--image` once for each text.")
    for number, text in enumerate(texts):
        yield {"id": str(number), "text": text, "image": str(images[number]) if images else None}
    if file is not None:
        if file != "-":
            check_file(Path(file), "--input", "a .jsonl of posts, or a file of one text on each line")
        with nullcontext(sys.stdin) if file == "-" else Path(file).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        yield {"id": str(number), **with_image_of(file, parse_line(line, number, file))}
                    except ValueError as error:
                        if on_error == "raise":
                            raise
                        typer.echo(f"skipped: {error}", err=True)


def parse_line(line: str, number: int, file: str) -> dict[str, Any]:
    """Read a line of a posts file: a JSON object, or the text itself."""
    if not (file.endswith((".jsonl", ".json")) or line.lstrip().startswith("{")):
        return {"text": line.rstrip("\n")}
    try:
        post = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}, line {number} is not JSON ({error}); expected one object on each line.") from error
    if not isinstance(post, dict):
        raise ValueError(f"{file}, line {number} holds {type(post).__name__}; expected an object with `text`.")
    return post


def with_image_of(file: str, post: dict[str, Any]) -> dict[str, Any]:
    """Return the post with its image's path counted from the folder of the file that names it."""
    image = post.get("image")
    if file == "-" or not isinstance(image, str) or "://" in image:
        return post
    return {**post, "image": str(Path(file).parent / image)}


def results(pipe: Any, posts: list[dict[str, Any]], options: dict[str, Any], on_error: OnError) -> Iterator[Result]:
    """Yield each post with its entities; with `skip`, a bad post is reported with its id and has `None`."""
    from hf_mner.knowledge.base import SourceError
    from hf_mner.pipelines.multimodal_ner import BAD_POST

    remaining = iter(posts)
    while chunk := list(islice(remaining, options["batch_size"] * 8)):
        try:
            yield from zip(chunk, pipe(chunk, **options), strict=True)
        except SourceError:  # no post is to blame, and asking again costs
            raise
        except BAD_POST as error:
            for post in chunk:  # one by one, to name the bad one
                try:
                    found = pipe([post], **{**options, "batch_size": 1})[0]
                except BAD_POST as reason:
                    if on_error == "raise":
                        raise ValueError(f"Post {post.get('id')}: {describe_reason(reason, post)}") from error
                    typer.echo(f"skipped post {post.get('id')}: {describe_reason(reason, post)}", err=True)
                    found = None
                yield post, found


def describe_reason(error: Exception, post: dict[str, Any]) -> str:
    """Return why a post is bad; a missing file in words."""
    from hf_mner.knowledge.store.pictures import describe_file_error

    is_image = getattr(error, "filename", None) == post.get("image")
    return describe_file_error(error, "image" if is_image else "file")


def shown_fields(post: dict[str, Any]) -> dict[str, Any]:
    """Return what the output repeats of a post: its id, text or words, and image."""
    return {key: post[key] for key in ("id", "text", "tokens", "image") if post.get(key) is not None}


def track(items: Iterator[Any], total: int, is_shown: bool) -> Iterator[Any]:
    """Show a progress bar with rate and remaining time while the items are taken."""
    if not is_shown:
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description="Recognising", total=total, console=Console(stderr=True))


def print_table(post: dict[str, Any], entities: list[dict[str, Any]]) -> None:
    """Print one post's entities for a reader."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from hf_mner.rendering.knowledge_words import describe_shown

    table = Table("entity", "type", "score", "characters", "boxes", title=escape(post.get("text") or ""), expand=False)
    for entity in entities:
        boxes = "; ".join(" ".join(f"{edge:.0f}" for edge in item["box"].values()) for item in entity["boxes"])
        place = f"{entity['start']}-{entity['end']}"
        table.add_row(escape(entity["word"]), entity["entity_group"], f"{entity['score']:.2f}", place, boxes or "-")
    console = Console()
    console.print(table)
    for entity in entities:
        for part, shown in describe_shown(entity.get("knowledge", {})).items():
            console.print(f"  {entity['word']} | {part}: {shown}", markup=False, style="dim")
