"""What is published names no folder of the machine that it was made on, and no way into a server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

from hf_mner.knowledge.registry import parse_spec

LOCAL = re.compile(r"/|~|\.\.[/\\]|file:|[A-Za-z]:[/\\]")


def publishable_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe as it may be published; sources that were written in one text become mappings.

    Of a backbone that is a folder here, relative ones too, the name stays: nobody else finds it by its path.
    """
    sources = [dict([parse_spec(spec)]) for spec in recipe.get("sources") or ()]
    folders = {name: recipe.get(name) for name in ("backbone", "vision_backbone")}
    names = {name: Path(folder).name for name, folder in folders.items() if folder and Path(folder).is_dir()}
    return without_local_paths({**recipe, **names, **({"sources": sources} if sources else {})})


def without_local_paths(value: Any) -> Any:
    """Return nested values in which a local path is only its last part, and an address has no user and no query."""
    if isinstance(value, Mapping):
        return {without_local_paths(name): without_local_paths(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_local_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    if LOCAL.match(value):
        return PureWindowsPath(value).name or value
    if re.match(r"https?://", value):
        parts = urlsplit(value)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return value
