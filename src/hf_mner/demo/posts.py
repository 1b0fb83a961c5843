"""The posts that the demos show: two texts, and one with a photograph."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

# What an image captioner says of the photograph; written by hand, because no captioner installs without the Hub.
CAPTION = "a woman in a navy uniform in front of an American flag"


def photograph() -> str | None:
    """Return the portrait of Grace Hopper in matplotlib's sample data, `None` without matplotlib."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    return str(path) if path.is_file() else None


def demo_posts() -> list[dict[str, Any]]:
    """Return the posts of the demo."""
    return [
        {"text": "Steve Kerr and the #Warriors land in Oakland after beating the Cleveland Cavaliers"},
        {"text": "Justin Bieber sings at the Grammy Awards in Los Angeles tonight, via @BBCNews"},
        {
            "text": "Rear Admiral Grace Hopper of the United States Navy visits Yale University",
            "image": photograph(),
            "knowledge": {"caption": CAPTION},
        },
    ]
