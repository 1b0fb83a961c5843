"""What is published names no folder of the machine that it was made on."""

from __future__ import annotations

from pathlib import PureWindowsPath
from typing import Any


def without_local_paths(value: Any) -> Any:
    """Return nested values in which a path from the root of a file system is only its last part."""
    if isinstance(value, dict):
        return {name: without_local_paths(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_local_paths(item) for item in value]
    if isinstance(value, str) and (value.startswith(("/", "~")) or PureWindowsPath(value).drive):
        return PureWindowsPath(value).name or value
    return value
