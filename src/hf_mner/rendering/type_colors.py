"""A colour for each entity type, and the ink that can be read on it."""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

# Okabe and Ito (https://jfly.uni-koeln.de/color/): told apart with every common kind of colour vision.
PALETTE = ("#56b4e9", "#009e73", "#e69f00", "#cc79a7", "#f0e442", "#d55e00", "#0072b2")
USUAL_TYPES = {"PER": 0, "LOC": 1, "ORG": 2, "MISC": 3, "OTHER": 3}  # the data sets' types, places in the palette
BLACK, WHITE = "#000000", "#ffffff"


def color_of(entity_type: str, colors: Mapping[str, str] | None = None) -> str:
    """Return the colour of a type as `#rrggbb`; a type keeps its colour from one post and one call to the next.

    Args:
        entity_type: its name.
        colors: colours to use in place of the palette's, as hex digits or a name such as `gold`.

    Raises:
        ValueError: if a given colour is none.
    """
    given = (colors or {}).get(entity_type)
    if given is None:
        return PALETTE[USUAL_TYPES.get(entity_type, crc32(entity_type.encode()) % len(PALETTE))]
    return "#{:02x}{:02x}{:02x}".format(*_channels(given, entity_type))


def ink_on(color: str) -> str:
    """Return black or white, whichever has the higher contrast on a colour: at least 4.58 to 1 (WCAG 2.2, AA)."""
    luminance = sum(
        weight * _linear(channel / 255)
        for weight, channel in zip((0.2126, 0.7152, 0.0722), _channels(color, color), strict=True)
    )
    return BLACK if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else WHITE


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def _channels(color: str, entity_type: str) -> tuple[int, int, int]:
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(color)[:3]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"`colors` gives {entity_type} {color!r}, which is no colour; expected hex digits such as '#56b4e9', or a"
            " name such as 'gold'."
        ) from error
    return red, green, blue
