"""Elements of HTML that reports and rendered posts share; whatever they are given is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any


def escape(value: Any) -> str:
    """Return a value as text that is safe in HTML, in attributes too."""
    return html.escape(str(value), quote=True)


def definition_list(entries: Mapping[str, str]) -> str:
    """Return names with what they stand for."""
    pairs = "".join(
        f'<div><dt>{escape(name)}</dt><dd dir="auto">{escape(text)}</dd></div>' for name, text in entries.items()
    )
    return f"<dl>{pairs}</dl>"
