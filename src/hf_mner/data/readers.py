"""The public data sets as their authors publish them: which files, in which form, with which types."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .bio_files import BioFormat
from .type_lists import (
    CONLL_TYPES,
    CP_MNER_TYPES,
    FMNERG_COARSE_TYPES,
    FMNERG_FINE_TYPES,
    TWITTER_TYPES,
    WNUT17_TYPES,
)

SPLITS = ("train", "validation", "test")
DATA_VARIABLE = "HF_MNER_DATA"
Granularity = Literal["coarse", "fine"]


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What a dataset card says of a set.

    Attributes:
        license_text: what the authors say.
        provenance: what the data is and where it comes from.
        types: entity types as published, in the order of the label list; empty where no set of them is.
        language: ISO 639-1 code.
        license: identifier of the licence.
    """

    license_text: str
    provenance: str
    types: tuple[str, ...] = ()
    language: str = "en"
    license: str = "unknown"


@dataclass(frozen=True, kw_only=True)
class DatasetSource(DatasetFacts):
    """Where the parts of one data set lie below the data folder, and how they are written.

    Attributes:
        files: label file of each split.
        bio_format: columns of the label files.
        image_folders: glob patterns of folders that may hold `<id>.jpg`; several may exist.
        box_folder: folder of Pascal-VOC files.
        caption_files: BLIP-2 caption files, looked up by image id.
        chatgpt_files, description_files: ChatGPT and mPLUG-Owl text of each split.
        auxiliary: the source that `knowledge="auto"` puts into `knowledge.auxiliary`.
    """

    files: Mapping[str, str]
    bio_format: BioFormat = BioFormat()
    image_folders: tuple[str, ...] = ()
    box_folder: str | None = None
    caption_files: tuple[str, ...] = ()
    chatgpt_files: Mapping[str, str] = field(default_factory=dict)
    description_files: Mapping[str, str] = field(default_factory=dict)
    auxiliary: str | None = None


def _split_files(pattern: str, names: tuple[str, str, str] = ("train", "valid", "test")) -> dict[str, str]:
    return {split: pattern.format(name) for split, name in zip(SPLITS, names, strict=True)}


_TWITTER_IMAGES = ("images/twitter*/twitter*_images", "images/twitter*", "twitter*_images", "twitter*/twitter*_images")
_NO_LICENSE = "The authors state no licence; tweets stay under Twitter's terms."
_BLIP2_2015 = "knowledge/blip2_captions/twitter2015.txt"
_BLIP2_2017 = "knowledge/blip2_captions/twitter2017.txt"
_DEV = ("train", "dev", "test")
_LABELS_2015 = (
    "Tweets of Zhang et al. 2018 with the labels of the public MNER benchmark. Every split holds `I-`"
    " tags without a `B-` before them; `entities` reads them as conlleval does (they start an entity)."
)
_GMNER = "The tweets of Twitter-2015 and Twitter-2017, re-tokenised and grounded (Yu et al. 2023, Twitter10000 v2.0)."

SOURCES: dict[str, DatasetSource] = {
    "twitter2015": DatasetSource(
        files=_split_files("twitter2015/{}.txt"),
        types=TWITTER_TYPES,
        license_text=_NO_LICENSE,
        provenance=_LABELS_2015,
        image_folders=_TWITTER_IMAGES,
        caption_files=(_BLIP2_2015,),
        chatgpt_files=_split_files("knowledge/chatgpt/twitter2015/{}.txt"),
        auxiliary="chatgpt",
    ),
    "twitter2017": DatasetSource(
        files=_split_files("twitter2017/{}.txt"),
        types=CONLL_TYPES,
        license_text=_NO_LICENSE,
        provenance="Tweets of Lu et al. 2018 in the splits of the public MNER benchmark.",
        image_folders=_TWITTER_IMAGES,
        caption_files=(_BLIP2_2017,),
        chatgpt_files=_split_files("knowledge/chatgpt/twitter2017/{}.txt"),
        auxiliary="chatgpt",
    ),
    "twitter_gmner": DatasetSource(
        files=_split_files("twitter_gmner/txt/{}.txt", _DEV),
        types=TWITTER_TYPES,
        license_text=_NO_LICENSE,
        provenance=_GMNER,
        image_folders=_TWITTER_IMAGES,
        box_folder="twitter_gmner/xml",
        caption_files=(_BLIP2_2015, _BLIP2_2017),
        chatgpt_files=_split_files("knowledge/chatgpt/twitter_gmner/{}.txt"),
        description_files=_split_files("knowledge/mplug_owl_captions/{}.txt", _DEV),
        auxiliary="mplug_owl_captions",
    ),
    "twitter_fmnerg": DatasetSource(
        files=_split_files("twitter_fmnerg/{}.txt", _DEV),
        types=FMNERG_COARSE_TYPES,
        license_text=_NO_LICENSE,
        provenance=f"{_GMNER} With the 8 coarse and 51 fine types of Wang et al. 2023 (FMNERG).",
        bio_format=BioFormat(columns=3),
        image_folders=_TWITTER_IMAGES,
        box_folder="twitter_gmner/xml",
        caption_files=(_BLIP2_2015, _BLIP2_2017),
        chatgpt_files=_split_files("knowledge/chatgpt/twitter_gmner/{}.txt"),
        description_files=_split_files("knowledge/mplug_owl_captions/{}.txt", _DEV),
        auxiliary="mplug_owl_captions",
    ),
    "conll2003": DatasetSource(
        files=_split_files("conll2003/eng.{}", ("train", "testa", "testb")),
        types=CONLL_TYPES,
        license_text="The text is Reuters RCV1: research use only, under Reuters' agreement.",
        provenance="English news of the CoNLL-2003 shared task (Tjong Kim Sang and De Meulder 2003), IOB1 made BIO.",
        bio_format=BioFormat(separator=" ", columns=4, tag_column=3, iob1=True, skipped_token="-DOCSTART-"),
        license="other",
    ),
    "wnut17": DatasetSource(
        files={
            "train": "wnut17/wnut17train.conll",
            "validation": "wnut17/emerging.dev.conll",
            "test": "wnut17/emerging.test.annotated",
        },
        types=WNUT17_TYPES,
        license_text="CC-BY 4.0.",
        provenance="Emerging and rare entities in noisy text, WNUT 2017 shared task (Derczynski et al. 2017).",
        license="cc-by-4.0",
    ),
    "cp_mner": DatasetSource(
        files=_split_files("cp_mner/{}.txt"),
        types=CP_MNER_TYPES,
        license_text="The authors state no licence.",
        provenance="Descriptions of Chinese paintings with their images, one token a character (CP-MNER).",
        bio_format=BioFormat(separator=" "),
        language="zh",
        image_folders=("cp_mner/images",),
    ),
}
PlantedKind = Literal["symbol", "relation"]
# Sets that need no files, see `synthetic`: the `signal` of each.
GENERATED: dict[str, PlantedKind] = {"planted_signal": "symbol", "planted_relation": "relation"}
FLICKR30K, YOLO = "flickr30k_entities", "yolo"  # see the modules `flickr30k_entities` and `yolo_labels`
PHRASE_SETS = (FLICKR30K, YOLO)  # phrases with boxes, and no files of words and tags
_GENERATED_LICENCE = "Generated by `hf_mner` from no one's texts and images, under its licence, Apache 2.0."
OTHER_FACTS: dict[str, DatasetFacts] = {
    FLICKR30K: DatasetFacts(
        license_text=(
            "The images are given to researchers and educators for non-commercial use and stay under Flickr's terms;"
            " those of the annotations are with their authors."
        ),
        provenance=(
            "Captions of Flickr30K (Young et al. 2014) whose phrases are tied to boxes (Flickr30K Entities, Plummer et"
            " al. 2015). Each caption is a row, each phrase an entity with all boxes of its chain."
        ),
    ),
    YOLO: DatasetFacts(
        license_text="State the licence of your images and labels here before you share them.",
        provenance=(
            "Images with boxes in YOLO's format. Each class in an image is a row: the words of its name, with all of"
            " its boxes."
        ),
    ),
    "planted_signal": DatasetFacts(
        license_text=_GENERATED_LICENCE,
        license="apache-2.0",
        provenance=(
            "A generated set: made-up names in short texts, whose types and boxes can only be known from the picture."
            " It shows whether a system reads images, and says nothing on language."
        ),
    ),
    "planted_relation": DatasetFacts(
        license_text=_GENERATED_LICENCE,
        license="apache-2.0",
        provenance=(
            "A generated set: made-up names in short texts, whose types can only be known from how two shapes in the"
            " picture lie to each other. It shows whether a system reads relations, and says nothing on language."
        ),
    ),
}
DATASET_NAMES = (*SOURCES, *PHRASE_SETS, *GENERATED, "folder")


def get_source(name: str, granularity: str = "coarse") -> DatasetSource:
    """Return the description of a published data set.

    Raises:
        ValueError: if the name is not known, or has no such granularity (only `twitter_fmnerg` has `"fine"`).
    """
    if name not in SOURCES:
        raise ValueError(f"Data set {name!r} is not known; choose one of {', '.join(DATASET_NAMES)}.")
    if granularity not in ("coarse", "fine"):
        raise ValueError(f"`granularity={granularity!r}` is not known; choose 'coarse' or 'fine'.")
    source = SOURCES[name]
    if granularity == "coarse":
        return source
    if name != "twitter_fmnerg":
        raise ValueError(f"`granularity='fine'` is for 'twitter_fmnerg' only, not {name!r}; leave it out.")
    fine_format = BioFormat(columns=3, tag_column=2)
    return DatasetSource(**{**source.__dict__, "types": FMNERG_FINE_TYPES, "bio_format": fine_format})


def find_facts(name: str) -> DatasetFacts | None:
    """Return what a dataset card says of a set, None for a folder of one's own."""
    return SOURCES.get(name) or OTHER_FACTS.get(name)


def find_data_dir(data_dir: str | os.PathLike[str] | None, name: str) -> Path:
    """Return the data folder: the argument, else the environment variable `HF_MNER_DATA`.

    Raises:
        FileNotFoundError: if neither names an existing folder.
    """
    chosen = data_dir if data_dir is not None else os.environ.get(DATA_VARIABLE)
    if not chosen:
        raise FileNotFoundError(
            f"No data folder for {name!r}: pass `data_dir=` (`--data-dir`), or set {DATA_VARIABLE} to it."
        )
    if not Path(chosen).is_dir():
        raise FileNotFoundError(
            f"Data folder '{chosen}' for {name!r} does not exist; check `data_dir=`/{DATA_VARIABLE}."
        )
    return Path(chosen)


def find_file(data_dir: Path, relative: str) -> Path:
    """Return a file below the data folder.

    Raises:
        FileNotFoundError: if it is not there.
    """
    path = data_dir / relative
    if not path.is_file():
        raise FileNotFoundError(
            f"'{path}' is missing; point `data_dir=` or {DATA_VARIABLE} at the folder that holds '{relative}'."
        )
    return path
