"""Annotate large collections of posts: shards of Parquet that a killed job does not compute again."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .inputs import open_collection
    from .jobs import Summary, annotate

_LAZY = {"Summary": "jobs", "annotate": "jobs", "open_collection": "inputs"}

__all__ = ["Summary", "annotate", "open_collection"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
