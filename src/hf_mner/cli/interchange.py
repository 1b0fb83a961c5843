"""`hf-mner export` and `hf-mner import`: posts with entities in the formats of other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .options import DataDir, Granularity, check_file
from .predict import OnError

if TYPE_CHECKING:
    from hf_mner.interchange import AnnotatedPost

ExportFormat = Literal["label-studio", "spacy", "conll", "coco", "jsonl"]
ImportFormat = Literal["label-studio", "spacy", "coco", "jsonl"]
CUT_FORMATS = ("spacy", "conll")  # those of words
Split = Annotated[Literal["train", "validation", "test"], typer.Option(help="Split of the data set.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Entity type (repeat it); default: those that occur.")]
CutWords = Annotated[bool, typer.Option("--cut-words", help="Cut words where an entity begins or ends inside of one.")]
Skips = Annotated[OnError, typer.Option(help="What a post that does not fit does: stop, or be reported and skipped.")]


def export_posts(
    form: Annotated[ExportFormat, typer.Argument(metavar="FORMAT", help="label-studio, spacy, conll, coco or jsonl.")],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A .jsonl of posts as `predict --output` writes it, a data set's name, or a folder of BIO files.",
        ),
    ],
    output: Annotated[Path, typer.Argument(help="New folder (label-studio, conll) or file.")],
    split: Split = "train",
    data_dir: DataDir = None,
    granularity: Granularity = "coarse",
    types: Types = None,
    model_version: Annotated[str | None, typer.Option(help="Names the model in Label Studio's predictions.")] = None,
    gold: Annotated[bool, typer.Option("--gold", help="Label Studio: as annotations, not as predictions.")] = False,
    image_prefix: Annotated[
        str | None, typer.Option(help="Label Studio: address of the folder of images; default: its local files.")
    ] = None,
    cut_words: CutWords = False,
    on_error: Skips = "raise",
) -> None:
    """Write posts with their entities for another program."""
    from hf_mner import interchange

    if cut_words and form not in CUT_FORMATS:
        raise ValueError(f"`--cut-words` does not count for {form}, which counts characters. Leave it out.")
    posts = read_posts_of(data, split, data_dir, granularity, on_error)
    output.parent.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[], Any]] = {
        "label-studio": lambda: interchange.write_label_studio(
            posts, output, types, model_version, gold, image_prefix, on_error
        ),
        "conll": lambda: interchange.write_conll_folder({split: posts}, output, on_error, cut_words)[split],
        "spacy": lambda: interchange.write_docs(posts, output, on_error, cut_words),
        "coco": lambda: interchange.write_coco(posts, output, types, on_error)["posts"],
        "jsonl": lambda: interchange.write_jsonl(posts, output),
    }
    typer.echo(f"{writers[form]()} posts -> {output}")


def import_posts(
    form: Annotated[ImportFormat, typer.Argument(metavar="FORMAT", help="label-studio, spacy, coco or jsonl.")],
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What the other program wrote.")],
    output: Annotated[
        Path, typer.Argument(help="New folder (the data set `folder`, for recipes), or a .jsonl of posts.")
    ],
    split: Split = "train",
    types: Types = None,
    images: Annotated[Path | None, typer.Option(help="Label Studio: folder with the images.")] = None,
    predictions: Annotated[
        bool, typer.Option("--predictions", help="Label Studio: read predictions, not annotations.")
    ] = False,
    cut_words: CutWords = False,
    on_error: Skips = "raise",
) -> None:
    """Read what another program wrote, as a data set or as JSON lines."""
    from hf_mner import interchange

    check_file(source, "FILE", f"a file of the format {form}")
    if cut_words and output.suffix == ".jsonl":
        raise ValueError("`--cut-words` does not count for JSON lines, which count characters. Leave it out.")
    part: Literal["annotations", "predictions"] = "predictions" if predictions else "annotations"
    readers: dict[str, Callable[[], Iterable[AnnotatedPost]]] = {
        "label-studio": lambda: interchange.read_label_studio(source, types, images, part, on_error),
        "spacy": lambda: interchange.read_docs(source),
        "coco": lambda: interchange.read_coco(source),
        "jsonl": lambda: interchange.read_jsonl(source, on_error),
    }
    posts = readers[form]()
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".jsonl":
        count = interchange.write_jsonl(posts, output)
    else:
        count = interchange.write_conll_folder({split: posts}, output, on_error, cut_words)[split]
    typer.echo(f"{count} posts -> {output}")


def read_posts_of(
    data: str, split: str, data_dir: Path | None, granularity: Literal["coarse", "fine"], on_error: OnError
) -> Iterator[AnnotatedPost]:
    """Yield the posts of a file of JSON lines, or of one split of a data set."""
    from hf_mner.interchange import from_example, read_jsonl

    from .examples import read_examples

    if data.endswith(".jsonl"):
        check_file(Path(data), "DATA", "a .jsonl of posts, the name of a data set, or a folder of BIO files")
        yield from read_jsonl(data, on_error)
        return
    yield from map(from_example, read_examples(data, data_dir, [split], granularity=granularity, on_error=on_error))
