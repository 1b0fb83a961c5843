"""`pipeline("multimodal-ner")`: text with an image in; entities with character offsets, boxes and knowledge out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from numbers import Real
from os import PathLike
from typing import Any, NamedTuple, cast

from torch.utils.data import DataLoader, Dataset
from transformers import AutoModelForTokenClassification, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator
from transformers.utils import logging

from hf_mner.data.alignment import Word, join_words, split_words
from hf_mner.data.images import load_rgb_image
from hf_mner.data.schema import TEXT_PARTS, Entity, Knowledge, MnerExample, check_knowledge
from hf_mner.hub.remote_code import PublishesRemoteCode
from hf_mner.knowledge.base import KnowledgeSource, check_source, source_name, sources_read
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.processing_base import has_words
from hf_mner.models.base.recognition import recognize_entities
from hf_mner.pipelines import DEFAULT_CHECKPOINT

logger = logging.get_logger(__name__)

TASK = "multimodal-ner"
INPUT_KEYS = ("text", "tokens", "image", "knowledge", "id")
READ_AHEAD = 64  # batches of a list whose texts are sorted by length together
BAD_POST = (ValueError, TypeError, OSError)  # what an unreadable post or image raises


class Post(NamedTuple):
    """One input on its way through the pipeline: the text, its words with offsets, and the example made of it."""

    text: str
    words: list[Word]
    example: MnerExample


class NumberedPosts(PipelineDataset):
    """The posts of a list, prepared when asked for; an error says which post it was."""

    def __getitem__(self, index: int) -> Post:
        """Prepare one post."""
        try:
            return super().__getitem__(index)
        except BAD_POST as error:
            if len(self) == 1:
                raise
            kind = type(error) if type(error) in (TypeError, OSError, FileNotFoundError) else ValueError
            raise kind(f"Post number {index} (counted from 0): {error}") from error


class Rows(Dataset):
    """A data set of the `datasets` library as one of PyTorch, which `Pipeline` reads without a copy."""

    def __init__(self, rows: Any):
        self.rows = rows

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        """Return a row."""
        return self.rows[index]


class MultimodalNerPipeline(PublishesRemoteCode, Pipeline):
    """Finds the named entities of posts.

    Inputs: a text; `{"text", "image"}` (a path, a PIL image, bytes, a NumPy array, or `None`); `{"tokens", "image"}`
    with words; either with `"knowledge"` (`caption`, `objects`, ... as in `hf_mner.data.schema.Knowledge`); a list, a
    generator or a data set of these. The keywords `text=` and `image=` do the same.

    Returns:
        For each input the list of its entities, in text order: `{"entity_group", "score", "word", "start", "end",
        "boxes"}` (`hf_mner.data.schema.Entity`). One input gives one list, a list gives a list, a generator or a data
        set gives an iterator. Offsets of words (`tokens`) count in `" ".join(tokens)`.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_video_processor = False

    def _sanitize_parameters(
        self,
        knowledge: KnowledgeSource | Sequence[KnowledgeSource] | Knowledge | None = None,
        threshold: float | None = None,
        return_knowledge: bool | None = None,
        is_split_into_words: bool | None = None,
        max_pixels: int | None = None,
        allow_urls: bool | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Sort the parameters of a call by step; a name that nothing reads is a `TypeError`.

        Args:
            knowledge: sources that are asked for what the inputs do not bring along; or a mapping (`{"caption": ...}`)
                that holds for every input without `"knowledge"` of its own.
            threshold: entities with a lower score are left out (default 0: all that the model decides on).
            return_knowledge: add to each entity the knowledge that the model was shown for it, and under `"sources"`
                where that is from.
            is_split_into_words: a list of strings is one text's words, not several texts.
            max_pixels: images with more pixels are refused (default 50 million).
            allow_urls: fetch images from `http(s)://` addresses (never from private ones; default False).
        """
        if threshold is not None:
            check_threshold(threshold)
        preprocess: dict[str, Any] = {"max_pixels": max_pixels, "allow_urls": allow_urls}
        preprocess["is_split_into_words"] = is_split_into_words
        forward: dict[str, Any] = {"threshold": threshold}
        if isinstance(knowledge, Mapping):
            preprocess["knowledge"] = knowledge
        elif knowledge is not None:
            forward["sources"] = check_sources(knowledge)
        return given(preprocess), given(forward), given({"return_knowledge": return_knowledge})

    def __call__(self, inputs: Any = None, *, text: Any = None, image: Any = None, **kwargs: Any) -> Any:
        """Find the entities of one post or of many; see the class for inputs and results.

        Args:
            inputs: the posts.
            text: instead of `inputs`, a text or a list of texts.
            image: with `text`, an image or as many images as texts.
            kwargs: `batch_size` and the parameters of `_sanitize_parameters`.

        Raises:
            ValueError: if both or neither of `inputs` and `text` are given, or their numbers differ.
        """
        if (inputs is None) == (text is None):
            raise ValueError("Pass either the posts themselves or `text=` (with `image=`), not both and not neither.")
        if text is not None:
            inputs = join_text_and_image(text, image)
        elif image is not None:
            inputs = join_text_and_image(inputs, image)
        is_split = kwargs.get("is_split_into_words", self._preprocess_params.get("is_split_into_words"))
        if is_split and isinstance(inputs, (list, tuple)) and inputs and isinstance(inputs[0], str):
            inputs = {"tokens": list(inputs)}
        if isinstance(inputs, tuple):
            inputs = list(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        if is_dataset(inputs):
            if isinstance(inputs, Mapping):
                raise ValueError(f"The data set has the splits {', '.join(inputs)}; pass one of them.")
            inputs = Rows(inputs) if hasattr(inputs, "__len__") else (row for row in inputs)
        return super().__call__(inputs, **kwargs)

    def get_iterator(
        self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params
    ) -> Iterator[list[Entity]]:
        """Read the posts in batches; texts with and without images share a batch.

        Of a list or a data set, the posts of up to `READ_AHEAD` batches are known before the first is read, so that
        texts of similar length share one and padding costs little. A generator may wait for the answer to its last
        post, so that its batches are read as they come.

        Departure from `Pipeline`: tensors are made in `_forward`, by the processor, because the number of network
        inputs follows from the texts (windows, candidates) and not from the number of posts.
        """
        is_sized = hasattr(inputs, "__len__")
        wrapper = NumberedPosts if is_sized else PipelineIterator
        posts = wrapper(inputs, self.preprocess, preprocess_params)
        loader = DataLoader(posts, num_workers=num_workers if is_sized else 0, batch_size=batch_size, collate_fn=list)
        # What is encoded for one post (its image's knowledge) is kept for the other posts of this call.
        forward_params = {**forward_params, "batch_size": max(batch_size, 1), "cache": EncodingCache()}
        return (
            self.postprocess(output, **postprocess_params)
            for batch in (read_ahead(loader, READ_AHEAD) if is_sized else loader)
            for output in self.forward(batch, **forward_params)
        )

    def run_single(self, inputs, preprocess_params, forward_params, postprocess_params) -> list[Entity]:
        """Read one post."""
        params = (preprocess_params, forward_params, postprocess_params)
        return next(iter(self.get_iterator([inputs], 0, 1, *params)))

    def preprocess(
        self,
        inputs: Any,
        is_split_into_words: bool = False,
        max_pixels: int = 50_000_000,
        allow_urls: bool = False,
        knowledge: Knowledge | None = None,
    ) -> Post:
        """Turn one input into words with offsets and an example."""
        fields = input_fields(inputs, is_split_into_words)
        text = fields["text"] if fields.get("tokens") is None else " ".join(fields["tokens"])
        check_characters(text)
        words = split_words(text) if fields.get("tokens") is None else join_words(fields["tokens"])
        example: MnerExample = {
            "id": str(fields.get("id") or ""),
            "tokens": [word.text for word in words],
            "knowledge": fields.get("knowledge") or knowledge,
            "image": None,
        }
        if fields.get("image") is not None:
            example["image"] = load_rgb_image(fields["image"], max_pixels=max_pixels, allow_urls=allow_urls)
            example["image_size"] = list(example["image"].size)
        if example["knowledge"] is not None:
            check_knowledge(example["knowledge"], example.get("image_size"))
            for part, known in knowledge_texts(example["knowledge"]):
                check_characters(known, f"`knowledge['{part}']`")
        return Post(text, words, example)

    def _forward(
        self,
        batch: list[Post],
        sources: Sequence[KnowledgeSource] = (),
        threshold: float = 0.0,
        batch_size: int = 1,
        cache: EncodingCache | None = None,
    ) -> list[tuple[Post, MnerExample]]:
        """Recognise the entities of a batch; a text without words has none."""
        sources, idle = sources_read(sources, self.processor.knowledge_parts())
        for source in idle:
            logger.warning_once(
                f"{source_name(source)} is not asked: {type(self.model).__name__} reads {self.parts_read()}."
            )
        self.warn_of_unread_images(batch, sources)
        self.warn_of_unread_knowledge(batch)
        readable = [post.example for post in batch if has_words(post.example["tokens"])]
        found = iter(
            recognize_entities(
                self.model,
                self.processor,
                readable,
                sources=sources,
                threshold=threshold,
                batch_size=batch_size,
                cache=cache,
            )
        )
        empty: MnerExample = {"entities": []}
        return [(post, next(found) if has_words(post.example["tokens"]) else empty) for post in batch]

    def warn_of_unread_images(self, batch: list[Post], sources: Sequence[KnowledgeSource]) -> None:
        """Say once that images pass by: the model reads text, and nothing was given that turns images into text."""
        is_read = "image" in self.model.input_modalities or any(not source.needs_entities for source in sources)
        for post in batch:
            if not is_read and post.example["image"] is not None and post.example["knowledge"] is None:
                logger.warning_once(
                    f"{type(self.model).__name__} reads images through knowledge, and none was given: this image does"
                    " not count. Pass a source such as `knowledge=ImageCaptioner(...)`, or text about the image in the"
                    f" input's `'knowledge'`; this model reads {self.parts_read()}."
                )

    def warn_of_unread_knowledge(self, batch: list[Post]) -> None:
        """Say once that the knowledge of a post passes by because the model reads other parts."""
        for post in batch:
            given = {part for part, value in (post.example["knowledge"] or {}).items() if value}
            if given and not given & self.processor.knowledge_parts():
                logger.warning_once(
                    f"The knowledge of a post has {', '.join(sorted(given))}; {type(self.model).__name__} reads"
                    f" {self.parts_read()}, so it does not count."
                )

    def parts_read(self) -> str:
        """Name the parts of knowledge that the model reads."""
        return ", ".join(f"`{part}`" for part in sorted(self.processor.knowledge_parts())) or "no knowledge"

    def forward(self, batch: list[Post], **forward_params: Any) -> list[tuple[Post, MnerExample]]:
        """Run `_forward` on the pipeline's device; the processor's tensors follow the model there."""
        with self.device_placement(), self.get_inference_context()():
            return self._forward(batch, **forward_params)

    def postprocess(self, output: tuple[Post, MnerExample], return_knowledge: bool = False) -> list[Entity]:
        """Give the entities of one post their characters."""
        post, example = output
        knowledge = example.get("knowledge") or Knowledge()
        entities = [to_entity(post, entity) for entity in example["entities"]]
        if return_knowledge:
            for found, entity in zip(entities, example["entities"], strict=True):
                shown: dict[str, Any] = cast(dict, entity).get("shown", {})
                mention = " ".join(word.text for word in post.words[entity["start"] : entity["end"]])
                notes = origins(knowledge, self.processor.parts_shown(shown), mention)
                found["knowledge"] = {**shown, "sources": notes} if shown else {}
        return sorted(entities, key=lambda entity: entity["start"])

    def save_pretrained(self, save_directory: str | PathLike[str], **kwargs: Any) -> None:
        """Save the model and its processor.

        Departure from `Pipeline`, which forgets the processor, and which copies this file into the folder.
        `push_to_hub` adds the file that opens the model without `import hf_mner`; `hf-mner push` adds a card, too.
        """
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)


def read_ahead(batches: Iterable[list[Post]], count: int) -> Iterator[list[Post]]:
    """Join batches, up to `count` at once; as images fill the memory, no more than one batch with an image.

    If a batch cannot be read, those before it are given first.
    """
    joined: list[Post] = []
    number = 0
    try:
        for batch in batches:
            joined += batch
            number += 1
            if number == count or any(post.example["image"] is not None for post in batch):
                yield joined
                joined, number = [], 0
    except BAD_POST:
        if joined:
            yield joined
        raise
    if joined:
        yield joined


def given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the parameters that were not given."""
    return {name: value for name, value in parameters.items() if value is not None}


def check_threshold(threshold: Any) -> None:
    """Refuse what is no number in [0, 1]; `True` is none.

    Raises:
        ValueError: naming the value.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, Real) or not 0 <= float(threshold) <= 1:
        raise ValueError(f"`threshold` must be between 0 and 1, got {threshold!r}.")


def check_characters(text: str, where: str = "The text") -> None:
    """Refuse halves of characters (lone surrogates), which no tokenizer reads.

    Raises:
        ValueError: naming the first one and its place.
    """
    if lone := re.search("[\ud800-\udfff]", text):
        raise ValueError(
            f"{where} has {lone[0]!r} at character {lone.start()}, half of a character; expected whole ones. Decode"
            " it with `errors='replace'`, or remove it."
        )


def knowledge_texts(knowledge: Knowledge) -> Iterator[tuple[str, str]]:
    """Yield the texts of a post's knowledge, each behind its name."""
    for part in TEXT_PARTS:
        yield part, cast(dict, knowledge).get(part) or ""
    for part, keys in (("objects", ("label", "caption")), ("encyclopedia", ("mention", "title", "text"))):
        for record in cast(dict, knowledge).get(part) or ():
            yield from ((part, record.get(key) or "") for key in keys)


def check_sources(knowledge: KnowledgeSource | Sequence[KnowledgeSource]) -> list[KnowledgeSource]:
    """Return the sources as a list; what is no source is an error."""
    sources: list[Any] = list(knowledge) if isinstance(knowledge, list | tuple) else [knowledge]
    for source in sources:
        try:
            check_source(source)
        except ValueError as error:
            raise ValueError(
                f"`knowledge`: {error} `hf_mner.open_sources([...])` makes sources of names; a mapping such as"
                " `{'caption': 'a man in a suit'}` is knowledge itself."
            ) from error
    return sources


def is_dataset(inputs: Any) -> bool:
    """Tell whether this is a data set of the `datasets` library, without importing it."""
    return type(inputs).__module__.partition(".")[0] == "datasets"


def join_text_and_image(text: Any, image: Any) -> Any:
    """Pair a text with its image, or as many texts with as many images."""
    if isinstance(text, str):
        return {"text": text, "image": image}
    texts = list(text)
    images = list(image) if isinstance(image, (list, tuple)) else [image] * len(texts)
    if image is not None and len(images) != len(texts):
        raise ValueError(f"Got {len(texts)} texts and {len(images)} images; pass as many, with `None` for no image.")
    return [{"text": one, "image": picture} for one, picture in zip(texts, images, strict=True)]


def input_fields(inputs: Any, is_split_into_words: bool) -> dict[str, Any]:
    """Read one input's fields; anything but a text, words or a mapping with them is an error."""
    if isinstance(inputs, str):
        return {"text": inputs}
    if isinstance(inputs, Mapping):
        check_spelling(inputs)
        fields = {key: inputs[key] for key in INPUT_KEYS if key in inputs}
        text, tokens = fields.get("text"), fields.get("tokens")
        if text is not None and tokens is not None:
            raise ValueError(
                "An input has both `text` and `tokens`; give the one whose characters you want offsets of."
            )
        if is_split_into_words and tokens is None and is_words(text):
            fields["tokens"] = list(text or ())
        elif not isinstance(text, str) and not is_words(tokens):
            raise ValueError(
                f"An input has the keys {sorted(map(str, inputs))} but no text; give it `text` (a string) or `tokens`"
                " (a list of words)."
            )
        return fields
    if is_split_into_words and is_words(inputs):
        return {"tokens": list(inputs)}
    raise ValueError(
        f"Cannot read an input of type {type(inputs).__name__}; pass a text, `{{'text': ..., 'image': ...}}`, or words"
        " as `{'tokens': [...]}`."
    )


def check_spelling(inputs: Mapping[str, Any]) -> None:
    """Refuse a key that is almost one that is read; all other keys, such as a data set's own columns, pass."""
    for key in map(str, inputs):
        # 0.79 catches "imgae", "images", "texts", but not "image_id" or "text_id".
        if key not in INPUT_KEYS and (meant := get_close_matches(key, INPUT_KEYS[:-1], n=1, cutoff=0.79)):
            raise ValueError(f"An input has the key {key!r}, which nothing reads; did you mean {meant[0]!r}?")


def is_words(value: Any) -> bool:
    """Tell whether this is a list of strings."""
    return isinstance(value, Iterable) and not isinstance(value, str) and all(isinstance(word, str) for word in value)


def to_entity(post: Post, entity: Mapping[str, Any]) -> Entity:
    """Turn an entity of words into one of characters, in the schema that leaves the package.

    Args:
        post: where it was found.
        entity: with word indices, see `recognize_entities`.
    """
    start, end = post.words[entity["start"]].start, post.words[entity["end"] - 1].end
    result: Entity = {
        "entity_group": entity["type"],
        "score": entity["score"],
        "word": post.text[start:end],
        "start": start,
        "end": end,
        "boxes": [
            {"box": dict(zip(("xmin", "ymin", "xmax", "ymax"), item["box"], strict=True)), "score": item["score"]}
            for item in entity["boxes"]
        ],
    }
    return result


def origins(knowledge: Knowledge, parts: set[str], mention: str) -> list[dict[str, Any]]:
    """Return where the knowledge is from that an entity's model was shown.

    Args:
        knowledge: of the post, with the notes of the sources that filled it in.
        parts: the parts that were shown.
        mention: the entity's words; the article that was found for it is named.

    Returns:
        `{"part", "source", "model", "revision", "prompt"}` for each source; that of an encyclopedia also has the
        article's `title`, the `rule` that led to it, and `record`, where the article is from.
    """
    notes: list[dict[str, Any]] = [dict(note) for note in knowledge.get("sources") or () if note["part"] in parts]
    for note in notes:
        if note["part"] == "encyclopedia":
            entries = [entry for entry in knowledge.get("encyclopedia") or () if entry["mention"] == mention]
            for entry in entries[:1]:
                note |= {"title": entry["title"], "rule": entry.get("rule"), "record": entry.get("source")}
    return notes


def register() -> None:
    """Register the task with transformers; without a model it uses the checkpoint that the package carries."""
    if TASK in PIPELINE_REGISTRY.supported_tasks:
        return
    PIPELINE_REGISTRY.register_pipeline(
        TASK,
        MultimodalNerPipeline,
        pt_model=AutoModelForTokenClassification,
        default={"model": (str(DEFAULT_CHECKPOINT), "main")},
        type="multimodal",
    )
