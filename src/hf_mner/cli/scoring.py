"""What `hf-mner evaluate` and `hf-mner report` share: a model, a split of a data set, and the knowledge joined."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from .options import open_pipeline, open_store, read_source_specs

if TYPE_CHECKING:
    from hf_mner.data.schema import MnerExample

DatasetName = Annotated[str, typer.Option(help="Name of the data set, see `hf-mner data list`.")]
Split = Annotated[str, typer.Option(help="train, validation or test.")]
JoinedKnowledge = Annotated[
    list[str] | None, typer.Option(help="Knowledge to join, as in a recipe; default: the recipe's own.")
]
IsTextOnly = Annotated[bool, typer.Option("--no-knowledge", help="Show the model the text alone.")]


class Scoring(NamedTuple):
    """A model that is to be scored, and on what.

    Args:
        pipe: the pipeline with the model.
        model: its folder or name.
        revision: what changes with its weights, see `model_revision`.
        dataset: name of the data set.
        split: of the data set.
        data_dir: folder of the public data sets.
        names: published knowledge that is joined.
        sources: opened sources that the model reads.
        knowledge: all of that in words.
        granularity: types of `twitter_fmnerg`.
        train_splits: of this data set, what the model was trained on; `train` for a model of another data set.
    """

    pipe: Any
    model: str
    revision: str
    dataset: str
    split: str
    data_dir: Path | None
    names: list[str]
    sources: list[Any]
    knowledge: list[str]
    granularity: Literal["coarse", "fine"]
    train_splits: list[str]

    def facts(self) -> dict[str, Any]:
        """Return what a results file says of how the scores came about."""
        return {
            "model": self.model,
            "model_revision": self.revision,
            "dataset": self.dataset,
            "split": self.split,
            "reading": "conlleval",
            "knowledge": self.knowledge,
        }


class ScoredSplit(NamedTuple):
    """The examples that are scored.

    Args:
        examples: with images where the model or a source looks at them.
        training_entities: surface forms of the splits that were trained on; None where there are none.
        image_names: file name of each example's image; None where it has none.
        label_files_sha256: hash of the label files.
    """

    examples: list[MnerExample]
    training_entities: set[str] | None
    image_names: list[str | None]
    label_files_sha256: str | None


@contextmanager
def open_scoring(
    model: str | None,
    dataset: str,
    split: str,
    data_dir: Path | None,
    knowledge: list[str] | None,
    source: list[str] | None,
    sources: Path | None,
    store: Path | None,
    is_text_only: bool,
    **pipe_options: Any,
) -> Iterator[Scoring]:
    """Open a model and its sources; what the command line does not say is as in the model's recipe.

    `pipe_options` are those of `hf_mner.pipeline`.

    Raises:
        ValueError: if the model was trained on texts of the split, or a source is unknown.
    """
    from hf_mner.data.leakage import refuse_leakage
    from hf_mner.knowledge.base import source_name, sources_read
    from hf_mner.knowledge.model_identity import model_revision
    from hf_mner.knowledge.registry import describe_spec, open_sources
    from hf_mner.pipelines import DEFAULT_CHECKPOINT

    pipe = open_pipeline(model, **pipe_options)
    recipe = saved_recipe(model)
    if split == "test" and recipe:
        refuse_leakage(recipe["dataset"], dataset)
    known = recipe.get("knowledge", []) if recipe.get("dataset") == dataset else []
    names = [] if is_text_only else known if knowledge is None else knowledge
    granularity: Any = recipe.get("granularity", "coarse") if recipe.get("dataset") == dataset else "coarse"
    specs = read_source_specs(source or [], sources) or recipe.get("sources", [])
    specs = [] if is_text_only else specs
    with open_store(store) as kept:
        opened = open_sources(specs, data_dir, kept)
        read, idle = sources_read(opened, pipe.processor.knowledge_parts())
        for unread in idle:
            typer.echo(f"{source_name(unread)} is not asked: the model does not read it.", err=True)
        asked = [describe_spec(spec) for spec, one in zip(specs, opened, strict=True) if one in read]
        yield Scoring(
            pipe=pipe,
            model=model or "embedded default",
            revision=model_revision(model or str(DEFAULT_CHECKPOINT)),
            dataset=dataset,
            split=split,
            data_dir=data_dir,
            names=names,
            sources=list(read),
            knowledge=[*names, *asked],
            granularity=granularity,
            train_splits=recipe.get("train_splits", ["train"]) if recipe.get("dataset") == dataset else ["train"],
        )


def read_split(scoring: Scoring) -> ScoredSplit:
    """Load the split that is scored, and what the training split holds.

    Raises:
        ValueError: if the data set has no such split.
    """
    from datasets import Image

    from hf_mner.data.counting import label_file_hash
    from hf_mner.data.loaders import load_mner_dataset
    from hf_mner.evaluation import spans_of
    from hf_mner.metrics import surface_forms
    from hf_mner.training.run import examples_of

    loaded = load_mner_dataset(
        scoring.dataset, scoring.data_dir, knowledge=scoring.names, granularity=scoring.granularity
    )
    if scoring.split not in loaded:
        raise ValueError(f"`--split {scoring.split}` is not in {scoring.dataset}; it has {', '.join(loaded)}.")
    is_seen = "image" in scoring.pipe.model.input_modalities
    has_images = is_seen or any("image" in getattr(source, "reads", ("image",)) for source in scoring.sources)
    train = [example for name in scoring.train_splits if name in loaded for example in examples_of(loaded[name])]
    images = loaded[scoring.split].select_columns("image").cast_column("image", Image(decode=False))["image"]
    forms = surface_forms([e["tokens"] for e in train], [spans_of(e) for e in train])
    return ScoredSplit(
        examples=examples_of(loaded[scoring.split], has_images),
        training_entities=forms if train else None,
        image_names=[Path(image["path"]).name if image and image["path"] else None for image in images],
        label_files_sha256=label_file_hash(scoring.dataset, scoring.data_dir),
    )


def saved_recipe(model: str | None) -> dict[str, Any]:
    """Return the recipe that lies beside a checkpoint (or beside the run of one stage), empty where there is none."""
    import yaml

    from hf_mner.hub.repository import recipe_file
    from hf_mner.pipelines import DEFAULT_CHECKPOINT

    folder = Path(model or str(DEFAULT_CHECKPOINT))
    path = recipe_file(folder)
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def warn_of_unknown_types(scoring: Scoring, scores: dict[str, Any]) -> None:
    """Say which types of the data set the model has no class for."""
    if unknown := sorted(set(scores.get("entities", {}).get("per_type", {})) - set(scoring.pipe.model.entity_types)):
        typer.echo(f"The model has no class {', '.join(unknown)}; those entities count as missed.", err=True)
