"""The writing in images, by the models that the package rapidocr carries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import SourceIdentity
from hf_mner.knowledge.image_text_models import once_per_image
from hf_mner.knowledge.model_source import check_fraction, check_installed
from hf_mner.knowledge.source_pickles import PickledUnopened

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


class OcrText(PickledUnopened):
    """A knowledge source: the writing in each example's image, in reading order, as one text.

    It works without network. It reads Latin and Chinese script, upright or upside down. The models are loaded at the
    first image. They compute on the CPU with as many threads as torch has; so does OpenCV from then on, in the whole
    process. Images with the same pixels are read once in a call.

    Args:
        min_score: lines that are read with less confidence, in [0, 1], are left out.

    Raises:
        ImportError: without rapidocr or onnxruntime; `pip install hf-mner[ocr]`.
        ValueError: if `min_score` is not in [0, 1].

    Source: Cui et al. 2025, PaddleOCR 3.0 (https://arxiv.org/abs/2507.05595), as ONNX files of
        https://github.com/RapidAI/RapidOCR.
    """

    column = "ocr"
    needs_entities = False
    reads = ("image",)
    before_use: ClassVar[Mapping[str, Any]] = {"_engine": None}

    def __init__(self, min_score: float = 0.5):
        check_fraction(min_score=min_score)
        check_installed("`OcrText`", "ocr", ["rapidocr", "onnxruntime"])
        self.min_score = min_score
        self._engine: Any = None

    @property
    def identity(self) -> SourceIdentity:
        """Say what decides the answers; the models are those of the installed rapidocr."""
        return {
            "source": type(self).__name__,
            "model": "rapidocr",
            "revision": version("rapidocr"),
            "prompt": "",
            "settings": json.dumps({"min_score": self.min_score}),
        }

    def __call__(self, examples: Sequence[MnerExample]) -> list[str | None]:
        """Return the writing in each example's image, `""` where there is none, None without an image.

        Raises:
            ValueError: if an image is of another type or cannot be decoded, see `rgb_image`.
        """
        return once_per_image(examples, 1, lambda images: [self._read(image) for image in images])

    def _read(self, image: Image.Image) -> str:
        import numpy as np

        self._load()
        blue_green_red = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])  # h w 3
        # Where nothing is found, rapidocr 3.10 returns a result whose parts are None.
        found = self._engine(blue_green_red, text_score=self.min_score)
        texts = getattr(found, "txts", None) or ()
        return joined_lines(found.boxes, texts) if texts else ""

    def _load(self) -> None:
        if self._engine is None:
            import cv2
            import torch
            from rapidocr import RapidOCR

            threads = torch.get_num_threads()
            cv2.setNumThreads(threads)
            engine = "EngineConfig.onnxruntime"
            self._engine = RapidOCR(
                params={
                    "Global.log_level": "error",
                    f"{engine}.intra_op_num_threads": threads,
                    f"{engine}.inter_op_num_threads": 1,
                }
            )


def joined_lines(corners: np.ndarray, texts: Sequence[str]) -> str:
    """Return pieces of writing in reading order, in single spaces.

    Args:
        corners: `k 4 2`, the corners of each piece in pixels.
        texts: `k`.
    """
    return " ".join(" ".join(texts[index] for index in reading_order(corners)).split())


def reading_order(corners: np.ndarray) -> list[int]:
    """Return the indices of pieces of writing line by line from above, each line from the left.

    A piece belongs to a line if its middle is within the height of the line's first piece, and the other way round:
    so a large heading takes in no small print beside it.

    Args:
        corners: `k 4 2`, `(x, y)` in pixels.
    """
    lefts = [float(piece[:, 0].min()) for piece in corners]
    heights = [(float(piece[:, 1].min()), float(piece[:, 1].max())) for piece in corners]
    lines: list[list[int]] = []
    for index in sorted(range(len(heights)), key=lambda piece: sum(heights[piece])):
        for line in lines:
            if _share_line(heights[line[0]], heights[index]):
                line.append(index)
                break
        else:
            lines.append([index])
    return [index for line in lines for index in sorted(line, key=lambda piece: lefts[piece])]


def _share_line(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= sum(other) / 2 <= one[1] and other[0] <= sum(one) / 2 <= other[1]
