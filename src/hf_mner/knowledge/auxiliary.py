"""What a multimodal language model knows about an image, asked without the text of its post (MMAVK)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hf_mner.knowledge.image_text_models import ImageTextSource

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

PROMPTS = Path(__file__).parent / "prompts"


class AuxiliaryKnowledge(ImageTextSource):
    """A knowledge source that asks a multimodal language model what names each example's image relates to.

    The model sees the image and the prompt, never the words of the post: so it cannot recognise entities wrongly in
    their stead. The answer is greedy and in single spaces. Images with the same pixels are described once in a call.
    The model is loaded at the first image, from safetensors only. The paper reports 14.7 s for an image and 16.5 GB
    of memory for the default model on one RTX 3090.

    Args:
        model: name or folder of a model that `AutoModelForImageTextToText` loads, or such a model itself.
        processor: needed if and only if `model` is not a name. Its chat template is used where it has one.
        prompt: the question itself; None = `load_prompt("mmavk")`.
        batch_size: images described at once.
        max_new_tokens: longest answer in sub-words; a longer one is cut off.
        device: where a model given by name is put; None = the first GPU if there is one, else the CPU.
        dtype: precision of a model given by name, e.g. `"float16"`; `"auto"` = as its weights are stored.
        revision: branch, tag or commit of a model on the Hub; None = the main branch.

    Raises:
        ValueError: if `batch_size` or `max_new_tokens` is below 1, `prompt` is empty, or `processor` or
            `revision` does not fit `model`.

    Source: Wang et al. 2025, MMAVK, Section 3.1, Eq. 1, and Section 4.2 for the model, which is not fine-tuned; Wang
        et al. 2024, Qwen2-VL (https://arxiv.org/abs/2409.12191).
    Departure: the paper prints no prompt (its Figure 3 is a picture of the scheme). Ours names the four categories of
        targets and all the visual elements that Section 3.1 lists, in one prompt, because Eq. 1 has one. The length
        limit is ours too, as the paper gives none.
    """

    column = "auxiliary"
    generation: ClassVar = {"do_sample": False, "num_beams": 1}

    def __init__(
        self,
        model: str | PreTrainedModel = "Qwen/Qwen2-VL-7B-Instruct",
        processor: ProcessorMixin | None = None,
        prompt: str | None = None,
        batch_size: int = 4,
        max_new_tokens: int = 256,
        device: str | torch.device | None = None,
        dtype: str = "auto",
        revision: str | None = None,
    ):
        prompt = load_prompt("mmavk") if prompt is None else prompt
        if not prompt.strip():
            raise ValueError(
                f"`prompt` is {prompt!r}; expected a question about the image, or None for the prompt after MMAVK."
            )
        super().__init__(model, processor, prompt, batch_size, max_new_tokens, device, dtype, revision)

    def _inputs(self, images: list[Image.Image]) -> BatchFeature:
        # A decoder-only model continues the last position, so that padding has to stand before the text.
        is_encoder_decoder = getattr(self._model.config, "is_encoder_decoder", False)
        padding = {"padding": True} if is_encoder_decoder else {"padding": True, "padding_side": "left"}
        if getattr(self._processor, "chat_template", None) is None:
            texts = [self.prompt] * len(images)
            return self._processor(images=images, text=texts, return_tensors="pt", **padding)
        text = {"type": "text", "text": self.prompt}
        return self._processor.apply_chat_template(
            [[{"role": "user", "content": [{"type": "image", "image": image}, text]}] for image in images],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=padding,
        )


def load_prompt(name: str | Path) -> str:
    """Return the text of a prompt of this package, or of a text file.

    Args:
        name: a packaged prompt, e.g. `"mmavk"`, or the path of a UTF-8 text file.

    Raises:
        ValueError: if it is neither; the message lists the packaged prompts.
    """
    packaged = {path.stem: path for path in sorted(PROMPTS.glob("*.txt"))}
    path = packaged.get(str(name), Path(name))
    if not path.is_file():
        raise ValueError(
            f"Prompt {str(name)!r} is neither packaged nor a file; choose one of {', '.join(packaged)}, or give the"
            " path of a text file. A prompt's own words go into `AuxiliaryKnowledge(prompt=...)`."
        )
    return path.read_text(encoding="utf-8").strip()
