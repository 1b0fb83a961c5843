"""Sheets of planted examples with their gold boxes and names: `docs/planted_signal.png`, `docs/planted_relation.png`.

python -m benchmarks.planted_signal_sheet [--signal relation]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from hf_mner.data import MnerExample, PlantedSignal
from hf_mner.data.readers import GENERATED

ROOT = Path(__file__).resolve().parents[1]
COLUMNS, ROWS = 4, 3
CELL = (236, 200)  # of a picture, width and height in pixels
MARGIN, TEXT_LINES, LINE_HEIGHT, FONT_SIZE = 12, 3, 17, 14
COLORS = {"PER": (190, 30, 45), "LOC": (20, 120, 60), "ORG": (25, 80, 190), "MISC": (140, 70, 160)}
NAMES = {signal: name for name, signal in GENERATED.items()}
UNINFORMATIVE_SHARE = 0.1
INDICES = (1, 3, 2, 9, 21, 6, 24, 20, 4, 14, 11, 22)  # of split train; last row: no name, then nothing tells the type


def draw_sheet(shown: PlantedSignal, path: Path) -> None:
    """Write the examples of `INDICES` row by row, with few colours, so that the file is small."""
    step = CELL[0] + MARGIN, CELL[1] + TEXT_LINES * LINE_HEIGHT + 2 * MARGIN
    sheet = Image.new("RGB", (COLUMNS * step[0] + MARGIN, ROWS * step[1] + LINE_HEIGHT + MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for index, example in enumerate(shown.example("train", number) for number in INDICES):
        left, top = MARGIN + index % COLUMNS * step[0], MARGIN + index // COLUMNS * step[1]
        picture = draw_boxes(example)
        sheet.paste(picture, (left + (CELL[0] - picture.width) // 2, top + (CELL[1] - picture.height) // 2))
        write_text(draw, example, (left, top + CELL[1] + 6), font)
    draw.text((MARGIN, sheet.height - LINE_HEIGHT - MARGIN), describe_symbols(shown), fill="dimgray", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256, kmeans=2, dither=Image.Dither.NONE).save(path, optimize=True)


def describe_symbols(shown: PlantedSignal) -> str:
    """Return the line at the bottom: what decides which type, and what the last row shows."""
    symbols = ", ".join(f"{symbol.split(' from ')[0]}: {name}" for name, symbol in shown.symbols.items())
    symbols = symbols.replace(" degrees", "°").replace(", circle at", ",")
    return f"{symbols}. Last row: two posts without a name, two pictures that tell no type."


def draw_boxes(example: MnerExample) -> Image.Image:
    """Return the picture in the size of a cell, with the gold box (that of the first name: all have the same)."""
    picture = example["image"]
    scale = min(CELL[0] / picture.width, CELL[1] / picture.height)
    shown = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(shown)
    for entity in example["entities"][:1]:
        for xmin, ymin, xmax, ymax in entity["boxes"]:
            box = xmin * scale - 2, ymin * scale - 2, xmax * scale + 1, ymax * scale + 1
            draw.rectangle(box, outline="white", width=4)
            draw.rectangle((box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1), outline=COLORS[entity["type"]], width=2)
    return shown


def write_text(draw: Any, example: MnerExample, place: tuple[int, int], font: Any) -> None:
    """Write the words below the picture, each name underlined in the colour of its type, which follows it."""
    x, y = place
    for word, color, is_name in list_words(example):
        width = draw.textlength(word, font=font)
        if x + width > place[0] + CELL[0]:
            x, y = place[0], y + LINE_HEIGHT
        draw.text((x, y), word, fill=color, font=font)
        if is_name:
            draw.line((x, y + LINE_HEIGHT - 1, x + width, y + LINE_HEIGHT - 1), fill=color, width=2)
        x += width + draw.textlength(" ", font=font)


def list_words(example: MnerExample) -> list[tuple[str, tuple[int, int, int], bool]]:
    """Return the words and types to write: text, colour, and whether the word is part of a name."""
    words = [(token, (0, 0, 0), False) for token in example["tokens"]]
    for entity in reversed(example["entities"]):
        color, where = COLORS[entity["type"]], slice(entity["start"], entity["end"])
        words[where] = [*((token, color, True) for token, _, _ in words[where]), (f"[{entity['type']}]", color, False)]
    return words


def main() -> None:
    """Draw one sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signal", choices=NAMES, default="symbol")
    parser.add_argument("--output", type=Path, help="default: docs/NAME.png")
    options = parser.parse_args()
    output = options.output or ROOT / "docs" / f"{NAMES[options.signal]}.png"
    draw_sheet(PlantedSignal(signal=options.signal, uninformative_share=UNINFORMATIVE_SHARE), output)
    print(f"{output}: {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
