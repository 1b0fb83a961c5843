"""`hf-mner inspect`: pictures of what a system sees, and of how it learns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .examples import read_examples
from .options import DataDir, check_file

if TYPE_CHECKING:
    from PIL import Image

    from hf_mner.data.schema import MnerExample, ObjectKnowledge

app = typer.Typer(no_args_is_help=True, help="Draw what a system sees, and how it learns.")
OBJECTS_EXPECTED = "a .npz file or a .tsv file of VinVL, or a folder of .npz files"
Pictured = tuple["Image.Image", list["ObjectKnowledge"]]


@app.callback()
def describe() -> None:
    """Draw what a system sees, and how it learns."""


@app.command()
def graph(
    image: Annotated[Path | None, typer.Argument(help="Image file, with `--objects`.", show_default=False)] = None,
    objects: Annotated[
        Path | None,
        typer.Option(
            help="Objects that VinVL found: a .npz file of this image, or a .tsv file or folder of .npz files that has"
            " it by its id.",
            show_default=False,
        ),
    ] = None,
    examples: Annotated[
        str | None,
        typer.Option(
            help="Instead of an image: a .jsonl of {id, text|tokens, image, knowledge: {objects}}, or the name or the"
            " folder of a data set, with `--joined`.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="Which image of `--objects` (default: the name of the image file without its suffix), or which of"
            " `--examples`.",
            show_default=False,
        ),
    ] = None,
    joined: Annotated[
        list[str] | None,
        typer.Option(
            help="Knowledge of the data set that holds the objects: knowledge.jsonl of a folder, drawing of a"
            " generated set (may be repeated).",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    max_objects: Annotated[
        int, typer.Option(min=1, help="Objects of the graph, those of the highest scores; 15 as in the paper.")
    ] = 15,
    output: Annotated[Path, typer.Option(help="PNG file for the picture.")] = Path("graph.png"),
) -> None:
    """Draw the relation graph that HamLearning builds of an image and its objects, and count its edges as JSON.

    Relations are inside, cover, overlap, and class1 to class8: eight directions of 45 degrees, clockwise from the
    right. Each pair of objects has one arrow, from the better-scored one. The image is a node too and includes all
    objects; its edges are counted, not drawn.
    """
    from hf_mner.knowledge.detections import best_objects
    from hf_mner.layers.relations import RELATIONS
    from hf_mner.visualization.relation_graph import draw_relation_graph

    if output.suffix.lower() != ".png":
        raise ValueError(f"`--output` is '{output}'; expected a file that ends in .png. Rename it.")
    check_inputs(image, objects, examples, joined)
    if image is not None and objects is not None:
        picture, found = read_detections(image, objects, name, max_objects)
    else:
        picture, found = read_example(pick_example(read_examples(str(examples), data_dir, joined=joined), name))
    kept = best_objects(found, max_objects)
    labels = [[RELATIONS[index] for index in row] for row in build_graph(kept, picture.size)]
    drawing = draw_relation_graph(picture, kept, [row[1:] for row in labels[1:]])
    output.parent.mkdir(parents=True, exist_ok=True)
    drawing.quantize(256, kmeans=2).save(output, optimize=True)
    between = Counter(label for row in labels[1:] for label in row[1:])
    counts = {
        "picture": str(output),
        "nodes": len(labels),
        "edges_between_objects": {name: between[name] for name in RELATIONS[1:]},
        "edges_with_image": {"inside": labels[0].count("inside"), "cover": [row[0] for row in labels].count("cover")},
    }
    typer.echo(json.dumps(counts, indent=2))


@app.command()
def curves(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Folders of `hf-mner train`, also of runs that still train, each as FOLDER or LABEL=FOLDER.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option(help="PNG or SVG file for the picture.")] = Path("curves.png"),
) -> None:
    """Draw loss and validation F1 of runs by epoch, and write each run's best epoch as JSON."""
    from hf_mner.visualization.learning_curve import SUFFIXES, draw_learning_curves, summarise_curves

    if output.suffix.lower() not in SUFFIXES:
        raise ValueError(f"`--output` is '{output}'; expected a file that ends in .png or .svg. Rename it.")
    drawn = draw_learning_curves(label_runs(runs), output)
    summary = {label: summarise_curves(found) for label, found in drawn.items()}
    typer.echo(json.dumps({"picture": str(output), "runs": summary}, indent=2))


def label_runs(runs: Sequence[str]) -> dict[str, Path]:
    """Return the folder of each run by its label: the one given, else the folder's name, or its path if that is taken.

    A folder's own name may hold `=`, as those of a sweep do.

    Raises:
        ValueError: if a label is given twice.
    """
    labelled = [split_label(run) for run in runs]
    names = Counter(label or folder.resolve().name for label, folder in labelled)
    found: dict[str, Path] = {}
    for given, folder in labelled:
        name = folder.resolve().name
        label = given or (name if names[name] == 1 else str(folder))
        if label in found:
            raise ValueError(f"Two runs have the label {label!r}; give each its own, as LABEL=FOLDER.")
        found[label] = folder
    return found


def split_label(run: str) -> tuple[str, Path]:
    """Return label and folder of `LABEL=FOLDER`, or no label and the folder."""
    label, _, folder = run.partition("=")
    return (label, Path(folder)) if label and folder and not Path(run).exists() else ("", Path(run))


def build_graph(objects: Sequence[ObjectKnowledge], image_size: tuple[int, int]) -> list[list[int]]:
    """Return the relation graph of one image, see `relation_graph`."""
    import torch

    from hf_mner.layers.relations import relation_graph

    boxes = torch.tensor([item["box"] for item in objects], dtype=torch.float32).reshape(1, -1, 4)
    return relation_graph(boxes, torch.ones(1, len(objects)), torch.tensor([image_size]))[0].tolist()


def check_inputs(image: Path | None, objects: Path | None, examples: str | None, joined: list[str] | None) -> None:
    """Refuse options that do not fit together.

    Raises:
        ValueError: naming what was given, and what goes together.
    """
    options = {"IMAGE": image, "--objects": objects, "--examples": examples, "--joined": joined}
    given = {name for name, value in options.items() if value}
    if given not in ({"IMAGE", "--objects"}, {"--examples"}, {"--examples", "--joined"}):
        raise ValueError(
            f"Got {' and '.join(name for name in options if name in given) or 'no input'}; give either an image file"
            " with `--objects FILE`, or `--examples FILE` (and `--joined` for a data set)."
        )


def read_detections(image: Path, objects: Path, name: str | None, max_objects: int) -> Pictured:
    """Read an image file, and what VinVL found in it."""
    from hf_mner.data.images import load_rgb_image
    from hf_mner.knowledge.vinvl import index_detections, read_objects

    check_file(image, "IMAGE", "an image file")
    picture = load_rgb_image(image)
    if not objects.is_dir():
        check_file(objects, "--objects", OBJECTS_EXPECTED)
    if objects.is_file() and objects.suffix not in (".npz", ".tsv"):
        raise ValueError(f"`--objects` is '{objects}'; expected {OBJECTS_EXPECTED}. For JSON lines use `--examples`.")
    if objects.suffix == ".npz" and objects.is_file():
        if name is not None:
            raise ValueError(f"`--id` is {name!r}, but '{objects}' holds the objects of one image; leave it out.")
        return picture, read_objects(objects, picture.size, max_objects=max_objects)
    places = index_detections(objects)
    name = name or image.stem
    if name not in places:
        raise ValueError(f"'{objects}' has no image {name!r}; it has {list_some(places)}. Give one with `--id`.")
    return picture, read_objects(places[name], picture.size, max_objects=max_objects)


def pick_example(examples: Sequence[MnerExample], name: str | None) -> MnerExample:
    """Return the example of an id, or the only one."""
    if name is None and len(examples) == 1:
        return examples[0]
    for example in examples:
        if example["id"] == name:
            return example
    asked = "`--id` is missing" if name is None else f"No example has the id {name!r}"
    raise ValueError(f"{asked}; the examples are {list_some([example['id'] for example in examples])}. Name one.")


def read_example(example: MnerExample) -> Pictured:
    """Return the image and the objects of an example."""
    from hf_mner.data.images import load_rgb_image
    from hf_mner.data.schema import check_knowledge
    from hf_mner.knowledge.store.pictures import describe_file_error

    image, knowledge = example.get("image"), example.get("knowledge") or {}
    if image is None:
        raise ValueError(f"Example {example['id']!r} has no image; choose another with `--id`.")
    try:
        picture = load_rgb_image(image)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Example {example['id']!r}: {describe_file_error(error, 'image')}") from error
    check_knowledge(knowledge, picture.size)
    if (objects := knowledge.get("objects")) is None:
        raise ValueError(
            f"Example {example['id']!r} has no `knowledge['objects']`; expected a list such as"
            ' [{"label": "cat", "score": 0.9, "box": [xmin, ymin, xmax, ymax]}]. Add it to the file, name the'
            " knowledge of a data set with `--joined`, or give an image with `--objects`."
        )
    return picture, list(objects)


def list_some(names: Collection[str], most: int = 5) -> str:
    """Return the first names for an error text."""
    shown = ", ".join(map(repr, list(names)[:most])) or "none"
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
