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
BatchSize = Annotated[int, typer.Option(min=1, help="Texts in one forward pass.")]
Threshold = Annotated[float, typer.Option(min=0, max=1, help="Leave out entities with a lower score.")]


@contextmanager
def open_store(path: Path | None) -> Iterator[KnowledgeStore | None]:
    """Open the knowledge store that an option names, if it does."""
    if path is None:
        yield None
        return
    from hf_mner.knowledge.store import KnowledgeStore

    with KnowledgeStore(path) as store:
        yield store


def open_pipeline(model: str | None, **kwargs: Any) -> MultimodalNerPipeline:
    """Open the pipeline without the progress bars and notes of transformers."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    from hf_mner.pipelines import pipeline

    return pipeline("multimodal-ner", model=model, **kwargs)
