"""Options that several commands share, and what they open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
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
EncyclopediaFiles = Annotated[
    list[Path] | None, typer.Option("--encyclopedia", help="JSON lines or TSV of articles; may be repeated.")
]
Captioner = Annotated[str | None, typer.Option(help="Image-to-text model that captions the images.")]
Describer = Annotated[
    str | None, typer.Option(help="Multimodal language model that says what names the images relate to.")
]
Clip = Annotated[str | None, typer.Option(help="Dual encoder, such as CLIP, that compares each text with its image.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Texts in one forward pass.")]
Threshold = Annotated[float, typer.Option(min=0, max=1, help="Leave out entities with a lower score.")]


def open_sources(
    encyclopedia: list[Path] | None,
    captioner: str | None = None,
    describer: str | None = None,
    clip: str | None = None,
) -> list[Any]:
    """Open the knowledge sources that the options name."""
    sources: list[Any] = []
    if encyclopedia:
        from hf_mner.knowledge.encyclopedia import Encyclopedia

        sources.append(Encyclopedia.from_files(encyclopedia))
    if captioner:
        from hf_mner.knowledge.captions import ImageCaptioner

        sources.append(ImageCaptioner(captioner))
    if describer:
        from hf_mner.knowledge.auxiliary import AuxiliaryKnowledge

        sources.append(AuxiliaryKnowledge(describer))
    if clip:
        from hf_mner.knowledge.similarity import ClipSimilarity

        sources.append(ClipSimilarity(clip))
    return sources


def open_pipeline(model: str | None, **kwargs: Any) -> MultimodalNerPipeline:
    """Open the pipeline without the progress bars and notes of transformers."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    from hf_mner.pipelines import pipeline

    return pipeline("multimodal-ner", model=model, **kwargs)
