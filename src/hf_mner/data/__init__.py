"""Examples, labels, and the readers of the public data sets."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .labels import Span, bio_labels, decode_bio, encode_bio
from .schema import Entity, MnerExample, mner_features

if TYPE_CHECKING:
    from .counting import count_dataset, label_file_hash
    from .images import load_rgb_image, read_image_size
    from .leakage import drop_leaked, find_leaks, refuse_leakage
    from .loaders import load_mner_dataset
    from .noise import corrupt_labels
    from .publishing import write_parquet_dataset
    from .readers import DATASET_NAMES
    from .synthetic import PlantedSignal, load_planted_signal
    from .synthetic_chance import chance_level
    from .synthetic_folder import write_planted_folder

# Names that are imported on first use, so that `import hf_mner.data` costs next to nothing.
_LAZY = {
    "DATASET_NAMES": "readers",
    "PlantedSignal": "synthetic",
    "chance_level": "synthetic_chance",
    "corrupt_labels": "noise",
    "count_dataset": "counting",
    "drop_leaked": "leakage",
    "find_leaks": "leakage",
    "label_file_hash": "counting",
    "load_mner_dataset": "loaders",
    "load_planted_signal": "synthetic",
    "load_rgb_image": "images",
    "read_image_size": "images",
    "refuse_leakage": "leakage",
    "write_parquet_dataset": "publishing",
    "write_planted_folder": "synthetic_folder",
}

__all__ = [
    "DATASET_NAMES",
    "Entity",
    "MnerExample",
    "PlantedSignal",
    "Span",
    "bio_labels",
    "chance_level",
    "corrupt_labels",
    "count_dataset",
    "decode_bio",
    "drop_leaked",
    "encode_bio",
    "find_leaks",
    "label_file_hash",
    "load_mner_dataset",
    "load_planted_signal",
    "load_rgb_image",
    "mner_features",
    "read_image_size",
    "refuse_leakage",
    "write_parquet_dataset",
    "write_planted_folder",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
