"""Pictures of the demo in a real browser: `docs/demo.png` with boxes, `docs/demo_caption.png` with the embedded model.

    python -m benchmarks.demo_screenshot --grounded CHECKPOINT

CHECKPOINT is a model of `recipes/mner_qg/planted_signal-mini.yaml`; the post is of the test split of that set, which
is drawn by a program. All that is seen on the pictures is what the models say.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from hf_mner.data import PlantedSignal
from hf_mner.demo.interface import build_demo, launch_demo
from hf_mner.demo.posts import demo_posts

ROOT = Path(__file__).resolve().parent.parent
PLANTED_POST = 3  # of the test split
NAME = "mner_qg"
HEIGHT = 1080  # pixels of the pictures; the examples are below


def fill(page: Any, text: str, image: str, caption: str = "", model: str | None = None) -> None:
    """Fill in a post, and wait for its entities."""
    page.get_by_label(re.compile(r"^\s*Post")).fill(text)
    page.locator("input[type=file]").first.set_input_files(image)
    page.get_by_label("Remove Image").wait_for()
    page.get_by_label(re.compile(r"^\s*Caption")).fill(caption)
    if model:
        page.get_by_label(re.compile(r"^\s*Model")).click()
        page.get_by_role("option", name=re.compile(f"^{model}")).click()
    page.get_by_role("button", name="Find entities").click()
    page.locator("#entities mark").first.wait_for()
    page.wait_for_timeout(1500)  # until the progress bar has gone


def save(page: Any, path: Path) -> None:
    """Write what the page shows with few colours, so that the file is small."""
    area = {"x": 0, "y": 0, "width": 1200, "height": HEIGHT}
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=area))).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Serve the demo, ask it, and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grounded", required=True, help="folder of a trained MNER-QG")
    options = parser.parse_args()
    demo = build_demo({NAME: options.grounded})
    _, url, _ = launch_demo(demo, "127.0.0.1", prevent_thread_lock=True, quiet=True)
    planted, (*_, photo) = PlantedSignal().example("test", PLANTED_POST), demo_posts()
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        planted["image"].save(Path(folder) / "planted.png")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": HEIGHT})
        for name, filled in {
            "demo_caption": (photo["text"], photo["image"], photo["knowledge"]["caption"]),
            "demo": (" ".join(planted["tokens"]), str(Path(folder) / "planted.png"), "", NAME),
        }.items():
            page.goto(url)
            fill(page, *filled)
            for summary in page.locator("#entities summary").all()[:1]:
                summary.click()
            save(page, ROOT / "docs" / f"{name}.png")
        browser.close()
    demo.close(verbose=False)


if __name__ == "__main__":
    main()
