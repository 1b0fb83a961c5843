"""What the sources with an image-text model share: loading one, images without repetition, generated text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from hf_mner.data.images import load_rgb_image
from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import example_name
from hf_mner.knowledge.model_source import ModelSource, check_positive

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

Item = TypeVar("Item")


class ImageTextSource(ModelSource):
    """A knowledge source that lets a generating image-text model say something about each example's image.

    Subclasses name the `column` and build the model's inputs. The model is loaded at the first image, from safetensors
    only. Images with the same pixels are described once in a call.

    Args:
        model: name or folder of a model that `AutoModelForImageTextToText` loads, or such a model itself.
        processor: needed if and only if `model` is not a name.
        prompt: text that the model answers or continues; it is not part of the result. None = none.
        batch_size: images described at once.
        max_new_tokens: longest text in sub-words.
        device: where a model given by name is put; None = the first GPU if there is one, else the CPU.
        dtype: precision of a model given by name, e.g. `"float16"`; `"auto"` = as its weights are stored.
        revision: branch, tag or commit of a model on the Hub; None = the main branch.

    Raises:
        ValueError: if `batch_size` or `max_new_tokens` is below 1, or `processor` or `revision` does not fit `model`.
    """

    column: str
    reads: tuple[str, ...] = ("image",)
    generation: ClassVar[dict[str, Any]] = {"do_sample": False}
    unread = ("pooler",)

    def __init__(
        self,
        model: str | PreTrainedModel,
        processor: ProcessorMixin | None,
        prompt: str | None,
        batch_size: int,
        max_new_tokens: int,
        device: str | torch.device | None,
        dtype: str,
        revision: str | None,
    ):
        super().__init__(model, revision, batch_size, device, dtype, processor=processor)
        check_positive(max_new_tokens=max_new_tokens)
        self.prompt, self.max_new_tokens = prompt, max_new_tokens
        self._processor: Any = processor

    def __call__(self, examples: Sequence[MnerExample]) -> list[str | None]:
        """Return the text for each example's image, None for an example without an image.

        Raises:
            ValueError: if an image is of another type or cannot be decoded, see `rgb_image`.
        """
        return once_per_image(examples, self.batch_size, self._describe)

    def _inputs(self, images: list[Image.Image]) -> BatchFeature:
        """Return what the model reads of `b` images."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its model reads; define `_inputs`.")

    def _describe(self, images: list[Image.Image]) -> list[str]:
        import torch

        self._load()
        inputs = self._inputs(images).to(self._model.device, dtype=self._model.dtype)
        with torch.inference_mode():
            generated = self._model.generate(**inputs, max_new_tokens=self.max_new_tokens, **self.generation)
        texts = self._processor.batch_decode(without_input(generated, inputs), skip_special_tokens=True)
        return [without_prompt(text, self.prompt or "") for text in texts]

    def _load(self) -> None:
        if self._model is None:
            from transformers import AutoModelForImageTextToText

            self._model, self._processor = self._open(AutoModelForImageTextToText, load_processor)

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "max_new_tokens": self.max_new_tokens, "generation": self.generation}


def load_processor(name: str, revision: str | None = None) -> ProcessorMixin:
    """Load the processor of a model, without its part for videos where torchvision is missing.

    Args:
        name: a folder or a Hub name.
        revision: branch, tag or commit of a Hub name; None = the main branch.
    """
    from transformers import AutoConfig, AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
    from transformers.utils import is_torchvision_available

    revision = revision or "main"
    if not is_torchvision_available():
        config = AutoConfig.from_pretrained(name, revision=revision)
        processor_class = PROCESSOR_MAPPING.get(type(config), None)
        if processor_class is not None and "video_processor" in processor_class.get_attributes():
            return image_only(processor_class).from_pretrained(name, revision=revision)
    return AutoProcessor.from_pretrained(name, revision=revision)


def image_only(processor_class: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """Return the processor class without its part for videos, e.g. for a Qwen2-VL that reads images alone.

    All video processors of transformers need torchvision. Without it, 5.23 can neither load nor construct a processor
    that has one: depending on the files, `AutoProcessor` asks for torchvision or says "Can't load video processor";
    the constructor fails with an `AttributeError`. Images do not pass through that part, and transformers finds the
    parts of a processor by the names in its `__init__`, so a subclass that does not name it works. It keeps its name,
    hence what it saves loads anywhere.

    Args:
        processor_class: a class whose parts are image processor, tokenizer and video processor, in this order.

    Raises:
        ImportError: if the class has other parts; install torchvision, in the build that fits the installed torch.
    """
    if (parts := processor_class.get_attributes()) != ["image_processor", "tokenizer", "video_processor"]:
        raise ImportError(
            f"`{processor_class.__name__}` has the parts {', '.join(parts)}; its video processor needs torchvision and"
            " cannot be left out. Install the build of torchvision that fits the installed torch, or give another"
            " `model`."
        )

    # `chat_template` is named because transformers hands on what a checkpoint says to named arguments only.
    def __init__(
        self: Any, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None, **kwargs: Any
    ) -> None:
        processor_class.__init__(self, image_processor, tokenizer, chat_template=chat_template, **kwargs)

    members = {"__init__": __init__, "__doc__": processor_class.__doc__}
    return type(processor_class.__name__, (processor_class,), members)


def without_input(generated: torch.Tensor, inputs: BatchFeature) -> torch.Tensor:
    """Return `b t`, the sub-words that were generated, without the input before them.

    Most decoder-only models repeat their input, some return new sub-words alone, as encoder-decoders do. So the input
    is cut off only where it is there.

    Args:
        generated: `b t`, what `generate` returned.
        inputs: what `generate` got; `input_ids` is `b t`, or absent for a model that reads no text.
    """
    given = inputs.get("input_ids")
    if given is None or not generated[:, : given.shape[1]].equal(given):
        return generated
    return generated[:, given.shape[1] :]


def without_prompt(text: str, prompt: str) -> str:
    """Return a text in single spaces, without the prompt where it begins with it.

    This catches what `without_input` cannot: BLIP replaces the first sub-word of its input and drops the last, and
    uncased vocabularies change the prompt's case.
    """
    text, prompt = " ".join(text.split()), " ".join(prompt.split())
    return text[len(prompt) :].strip() if text.casefold().startswith(prompt.casefold()) else text


def first_places(examples: Sequence[MnerExample]) -> dict[int, int]:
    """Map the index of each example with an image to the index of the first example with the same pixels.

    Raises:
        ValueError: if an image is of another type or cannot be decoded, see `rgb_image`.
    """
    first: dict[tuple[tuple[int, int], bytes], int] = {}
    places = {}
    for index, example in enumerate(examples):
        if example.get("image") is not None:
            image = rgb_image(example)
            places[index] = first.setdefault((image.size, hashlib.sha256(image.tobytes()).digest()), index)
    return places


def once_per_image(
    examples: Sequence[MnerExample], batch_size: int, answer: Callable[[list[Image.Image]], Iterable[Item]]
) -> list[Item | None]:
    """Return the answer to each example's image, None without one; images with the same pixels are asked about once.

    Args:
        examples: what a knowledge source gets.
        batch_size: images in one call of `answer`.
        answer: maps RGB images to one answer for each.

    Raises:
        ValueError: if an image is of another type or cannot be decoded, see `rgb_image`.
    """
    places = first_places(examples)
    answers: dict[int, Item] = {}
    for chunk in chunks(list(dict.fromkeys(places.values())), batch_size):
        answers.update(zip(chunk, answer([rgb_image(examples[index]) for index in chunk]), strict=True))
    return [answers[places[index]] if index in places else None for index in range(len(examples))]


def rgb_image(example: MnerExample) -> Image.Image:
    """Return the example's image as RGB: one of any kind that `load_rgb_image` takes, files of this machine alone.

    Raises:
        FileNotFoundError: if its file does not exist.
        OSError: if its file cannot be read.
        ValueError: if it is of another type, is an address, is too large, or cannot be decoded.
    """
    image = example["image"]
    path = image if isinstance(image, str) else image.get("path") if isinstance(image, Mapping) else None
    if isinstance(path, str) and path.lower().startswith(("http://", "https://")) and _content(image) is None:
        raise ValueError(
            f"{example_name(example)} has the address {path!r} as image; sources fetch nothing. Give a file, or an"
            " opened image."
        )
    try:
        return load_rgb_image(image)
    except TypeError as error:
        raise ValueError(
            f"{example_name(example)} has an image of type {type(image).__name__}; give a path, a PIL image, e.g. by"
            " `dataset.cast_column('image', datasets.Image())`, or a mapping with its `bytes` or `path`."
        ) from error
    except ValueError as error:
        raise ValueError(f"{example_name(example)}: {error}") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{example_name(example)}: its image {str(path or image)!r} does not exist; correct the path, or give None"
            " for no image."
        ) from error
    except OSError as error:
        raise OSError(f"{example_name(example)}: its image cannot be read ({error}).") from error


def _content(image: Any) -> Any:
    return image.get("bytes") if isinstance(image, Mapping) else None


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield the items in runs of `size`; the last may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
