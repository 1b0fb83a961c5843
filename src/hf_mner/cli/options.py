"""Options that several commands share, and what they open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from hf_mner.knowledge.store import KnowledgeStore
    from hf_mner.pipelines.multimodal_ner import MultimodalNerPipeline

DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the public data sets.", envvar="HF_MNER_DATA", show_default=False)
]
Granularity = Annotated[Literal["coarse", "fine"], typer.Option(help="Types of twitter_fmnerg.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Replace a value of the recipe: --set recognition.epochs=2 (may be repeated)."),
]
Model = Annotated[str | None, typer.Option(help="Checkpoint folder or Hub name; default: the embedded SCANNER.")]
SourceNames = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        help="Knowledge source to ask: 'ocr', 'captions: MODEL', 'encyclopedia: FILE', ... (may be repeated).",
        show_default=False,
    ),
]
SourcesFile = Annotated[
    Path | None, typer.Option("--sources", help="YAML file with a list of sources, or a recipe with `sources`.")
]
StoreFile = Annotated[Path | None, typer.Option("--store", help="Knowledge store that keeps what sources find.")]
UPLOAD_MESSAGE = "Upload with hf_mner"
RepoId = Annotated[str, typer.Argument(metavar="REPO", help="Name on the Hub, such as me/my-model.")]
Private = Annotated[bool, typer.Option("--private", help="A new repository is visible to its owner alone.")]
Message = Annotated[str, typer.Option(help="Message of the commit.")]
Revision = Annotated[str | None, typer.Option(help="Branch to upload to; default: main.")]
CreatePr = Annotated[bool, typer.Option("--create-pr", help="Propose the upload as a pull request.")]
PrecisionName = Annotated[
    Literal["float32", "bfloat16", "int8"],
    typer.Option("--precision", help="Bits that the model computes with; int8 is for CPUs."),
]
IsCompiled = Annotated[bool, typer.Option("--compile", help="Let PyTorch compile the encoders first.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Texts in one forward pass.")]
Threshold = Annotated[float, typer.Option(min=0, max=1, help="Leave out entities with a lower score.")]


def read_source_specs(names: list[str], file: Path | None) -> list[Any]:
    """Return the sources that `--sources FILE` and `--source` name, those of the file first.

    Raises:
        ValueError: if one is not YAML, or a name or setting is unknown.
        FileNotFoundError: if the file is missing.
    """
    from hf_mner.knowledge import registry

    if file is not None:
        check_file(file, "--sources", "a YAML file with a list of sources")
    return registry.read_specs(names, file)


def check_file(path: Path, option: str, expected: str) -> None:
    """Refuse a path that is no file, in the words of the option that named it.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is a folder.
    """
    if path.is_dir():
        raise ValueError(f"`{option}` is '{path}', which is a folder; expected {expected}.")
    if not path.exists():
        raise FileNotFoundError(
            f"`{option}` is '{path}', which does not exist; expected {expected}. Correct the path."
        )


@contextmanager
def resumable() -> Iterator[None]:
    """Say of work that is stopped from the keyboard how it goes on; the exit code is that of the shell's Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("\nstopped; run the same command again to go on", err=True)
        raise typer.Exit(130) from error


@contextmanager
def open_store(path: Path | None) -> Iterator[KnowledgeStore | None]:
    """Open the knowledge store that an option names, if it does; what it keeps makes the work resumable."""
    if path is None:
        yield None
        return
    from hf_mner.knowledge.store import KnowledgeStore

    with resumable(), KnowledgeStore(path) as store:
        yield store


def open_pipeline(model: str | None, **kwargs: Any) -> MultimodalNerPipeline:
    """Open the pipeline without the progress bars and notes of transformers."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    from hf_mner.pipelines import pipeline

    return pipeline("multimodal-ner", model=model, **kwargs)
