"""What a multimodal language model behind an endpoint knows about an image, asked without the text of its post."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.auxiliary import load_prompt
from hf_mner.knowledge.endpoint import Message
from hf_mner.knowledge.endpoint_source import EndpointSource
from hf_mner.knowledge.image_text_models import once_per_image
from hf_mner.knowledge.model_source import check_positive

if TYPE_CHECKING:
    from PIL import Image

JPEG_QUALITY = 90


@dataclass(eq=False, kw_only=True)
class EndpointAuxiliary(EndpointSource):
    """A knowledge source that asks a multimodal model behind an endpoint what each example's image relates to.

    It is `AuxiliaryKnowledge` for models that run elsewhere:
    `EndpointAuxiliary("Qwen/Qwen2-VL-7B-Instruct", "http://localhost:8000/v1")`. The request holds the image as JPEG
    and the prompt, never the words of the post. The answer is in single spaces; an empty one is malformed. Images with
    the same pixels are asked about once in a call.

    The arguments of `EndpointSource` and `EndpointSettings` belong to it as well.

    Args:
        prompt: the question itself; None = `load_prompt("mmavk")`.
        max_side_pixels: larger images are scaled down to this longest side before they are sent.

    Raises:
        ValueError: if a setting is out of its range, or `prompt` is empty.

    Source: Wang et al. 2025, MMAVK, Section 3.1, Eq. 1.
    Departure: that of `AuxiliaryKnowledge`, and the size limit.
    """

    prompt: str | None = None
    max_side_pixels: int = 1024

    column = "auxiliary"
    needs_entities = False
    reads = ("image",)

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_positive(max_side_pixels=self.max_side_pixels)
        if self.prompt is not None and not self.prompt.strip():
            raise ValueError(
                f"`prompt` is {self.prompt!r}; expected a question about the image, or None for that after MMAVK."
            )

    def __call__(self, examples: Sequence[MnerExample]) -> list[str | None]:
        """Return the text for each example's image, None for an example without an image.

        Raises:
            ValueError: if an image cannot be decoded, see `rgb_image`, or the key is missing.
            BudgetReached: if the budget does not suffice.
            EndpointError: if an answer stays empty, or the endpoint fails.
            ImportError: if `hf-mner[llm]` is missing.
        """
        return once_per_image(examples, self.concurrency, self._describe)

    def _describe(self, images: list[Image.Image]) -> list[str | None]:
        requests = [self._request(image) for image in images]
        names = [f"an image of {image.width} x {image.height} pixels" for image in images]
        return self._ask(requests, names, bool)

    def _request(self, image: Image.Image) -> list[Message]:
        url = {"url": jpeg_url(image, self.max_side_pixels)}
        content = [{"type": "image_url", "image_url": url}, {"type": "text", "text": self._prompt_text()}]
        return [{"role": "user", "content": content}]

    def _prompt_text(self) -> str:
        return load_prompt("mmavk") if self.prompt is None else self.prompt

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "max_side_pixels": self.max_side_pixels, "jpeg_quality": JPEG_QUALITY}


def jpeg_url(image: Image.Image, max_side_pixels: int) -> str:
    """Return an RGB image as the `data:` address of a JPEG.

    Args:
        image: not changed.
        max_side_pixels: a larger one is scaled down to this longest side.
    """
    if max(image.size) > max_side_pixels:
        image = image.copy()
        image.thumbnail((max_side_pixels, max_side_pixels))
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
