"""`load_mner_dataset`: any supported data set as a `DatasetDict` of `MnerExample` rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .folder_dataset import plan_folder
from .images import index_images
from .knowledge_columns import check_knowledge_names, join_knowledge
from .labels import bio_labels
from .readers import (
    DATA_VARIABLE,
    DATASET_NAMES,
    FLICKR30K,
    GENERATED,
    PHRASE_SETS,
    YOLO,
    DatasetSource,
    find_data_dir,
    find_file,
    get_source,
)
from .rows import LoadingPlan, OnError, RowPlan, find_image_folders, iterate_rows, list_types, make_voc_finder
from .schema import mner_features

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

DRAWING = "drawing"  # the knowledge of generated sets: what their pictures show


def load_mner_dataset(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    granularity: Literal["coarse", "fine"] = "coarse",
    unify_types: bool = True,
    knowledge: Literal["auto"] | Sequence[str] = "auto",
    image_dir: str | os.PathLike[str] | None = None,
    on_error: OnError = "raise",
) -> DatasetDict:
    """Load a data set from the files that its authors publish, or from your own folder.

    The rows are those of `schema.mner_features`. `ner_tags` are the published tags (stray `I-` tags stay), `entities`
    their conlleval reading. Everything is read anew at each call and held in memory; no cache can become stale.

    Args:
        name: `twitter2015`, `twitter2017`, `twitter_gmner`, `twitter_fmnerg`, `conll2003`, `wnut17`, `cp_mner`,
            `flickr30k_entities` and `yolo` (phrases with boxes, see `flickr30k_entities` and `yolo_labels`),
            `planted_signal` and `planted_relation` (generated, see `synthetic`), or `folder` (see `folder_dataset`).
        data_dir: the folder that holds all published sets (default: the environment variable `HF_MNER_DATA`); for
            `folder`, the user's own folder; not read for generated sets.
        granularity: `"fine"` reads the 51 fine types of `twitter_fmnerg` instead of its 8 coarse ones.
        unify_types: spell the fourth class `MISC` everywhere; False keeps the published `OTHER`.
        knowledge: `"auto"` joins what lies under `<data_dir>/knowledge`: BLIP-2 captions become `knowledge.caption`;
            ChatGPT's text (2015, 2017) or mPLUG-Owl's description (GMNER, FMNERG) becomes `knowledge.auxiliary`. A
            list selects by folder name: `blip2_captions`, `chatgpt`, `mplug_owl_captions`; `[]` joins nothing.
            For `folder` it is the file `knowledge.jsonl`. For generated sets, `["drawing"]` says what the pictures
            show, and `"auto"` nothing, so that a system that reads knowledge is told on request only.
        image_dir: folder of `<id>.jpg` files; default: the folders `images/twitter*` and the like below `data_dir`.
            A row whose image is not there has `image=None`.
        on_error: `"raise"` stops at the first bad row; `"skip"` logs its place and goes on.

    Returns:
        The splits `train`, `validation` and `test` (`folder`: those that exist).

    Raises:
        ValueError: for an unknown name, option or knowledge source, and for a bad row.
        FileNotFoundError: if a folder or file is missing.
    """
    if name not in DATASET_NAMES:
        raise ValueError(f"Data set {name!r} is not known; choose one of {', '.join(DATASET_NAMES)}.")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error={on_error!r}` is not known; choose 'raise' or 'skip'.")
    if name in ("folder", *GENERATED, *PHRASE_SETS) and granularity != "coarse":
        raise ValueError(f"`granularity={granularity!r}` is for 'twitter_fmnerg' only; leave it out for {name!r}.")
    if name in GENERATED:
        return _generate(name, knowledge, image_dir)
    plans: Sequence[LoadingPlan | RowPlan]
    if name in PHRASE_SETS:
        plans = _plan_phrases(name, find_data_dir(data_dir, name), knowledge, image_dir)
    elif name == "folder":
        plans = plan_folder(find_data_dir(data_dir, name), unify_types, knowledge, image_dir)
    else:
        source = get_source(name, granularity)
        plans = _plan_published(name, source, find_data_dir(data_dir, name), unify_types, knowledge, image_dir)
    return _build(plans, on_error)


def _generate(
    name: str, knowledge: Literal["auto"] | Sequence[str], image_dir: str | os.PathLike[str] | None
) -> DatasetDict:
    from .synthetic import load_planted_signal

    if image_dir is not None:
        raise ValueError(f"`image_dir={str(image_dir)!r}` is for sets with files; leave it out for {name!r}.")
    selected = [] if knowledge == "auto" else check_knowledge_names(name, {DRAWING: None}, knowledge)
    return load_planted_signal(signal=GENERATED[name], with_knowledge=DRAWING in selected)


def _plan_phrases(
    name: str,
    data_dir: Path,
    knowledge: Literal["auto"] | Sequence[str],
    image_dir: str | os.PathLike[str] | None,
) -> list[RowPlan]:
    from .flickr30k_entities import plan_flickr30k
    from .yolo_labels import plan_yolo

    if knowledge != "auto":
        check_knowledge_names(name, {}, knowledge)
    if name == FLICKR30K:
        return plan_flickr30k(data_dir, image_dir)
    if image_dir is not None:
        raise ValueError(f"`image_dir={str(image_dir)!r}` is not for {YOLO!r}, whose labels lie beside its images.")
    return plan_yolo(data_dir)


def _plan_published(
    name: str,
    source: DatasetSource,
    data_dir: Path,
    use_unified: bool,
    knowledge: Literal["auto"] | Sequence[str],
    image_dir: str | os.PathLike[str] | None,
) -> list[LoadingPlan]:
    first = LoadingPlan(
        name=name,
        split="",
        path=data_dir,
        bio_format=source.bio_format,
        published_types=source.types,
        types=list_types(source.types, use_unified),
        use_unified=use_unified,
        images=index_images(find_image_folders(data_dir, source.image_folders, image_dir)),
        find_boxes=make_voc_finder(_find_box_folder(data_dir, source)),
        find_knowledge=lambda *_: None,
    )
    return [
        replace(
            first,
            split=split,
            path=find_file(data_dir, relative),
            find_knowledge=join_knowledge(name, source, data_dir, split, knowledge),
        )
        for split, relative in source.files.items()
    ]


def _find_box_folder(data_dir: Path, source: DatasetSource) -> Path | None:
    if source.box_folder is None:
        return None
    folder = data_dir / source.box_folder
    if not folder.is_dir():
        raise FileNotFoundError(
            f"Box folder '{folder}' is missing, and without it every entity would look ungroundable; point `data_dir=`"
            f" or {DATA_VARIABLE} at the folder that holds '{source.box_folder}'."
        )
    return folder


def _build(plans: Sequence[LoadingPlan | RowPlan], on_error: OnError) -> DatasetDict:
    from datasets import DatasetDict

    return DatasetDict({plan.split: _build_split(plan, on_error) for plan in plans})


def _build_split(plan: LoadingPlan | RowPlan, on_error: OnError) -> Dataset:
    from datasets import Dataset, NamedSplit

    features = mner_features(plan.types)
    index = {label: number for number, label in enumerate(bio_labels(plan.types))}
    columns: dict[str, list[Any]] = {column: [] for column in features}
    for row in plan.rows(on_error) if isinstance(plan, RowPlan) else iterate_rows(plan, on_error):
        for column, values in columns.items():
            values.append(row[column])
    if not columns["id"]:
        raise ValueError(f"'{plan.path}' holds no sentence that could be read; check the file and the log.")
    columns["ner_tags"] = [[index[tag] for tag in tags] for tags in columns["ner_tags"]]
    return Dataset.from_dict(columns, features=features, split=NamedSplit(plan.split))
