"""The protocol of every system's processor: examples to rows, rows to tensors, scores to entities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from transformers import BatchFeature, ProcessorMixin

from hf_mner.data.collator import pad_rows
from hf_mner.data.labels import encode_bio
from hf_mner.data.schema import MnerExample
from hf_mner.hub.remote_code import PublishesRemoteCode

from .backbones import resolve_backbone

MIN_LENGTH = 16  # tokens; less holds no prompt
NO_LIMIT = 10**6  # tokenizers that know no limit say 10**30

Row = dict[str, Any]  # one network input: unpadded lists, plus what `post_process_entities` needs to find its way back


class MnerProcessor(PublishesRemoteCode, ProcessorMixin):
    """Turns `MnerExample`s into tensors and raw scores into entities.

    A system reads an example in one or more `stages` (SCANNER: two). Each stage makes rows (`rows`), pads them
    (`pad`), and reads the scores (`post_process_entities`), whose result is the input of the next stage.
    """

    stages: ClassVar[tuple[str, ...]] = ("recognition",)
    stages_of_given: ClassVar[tuple[str, ...]] = ()  # those that find no entities, but tell more of given ones

    @classmethod
    def from_backbones(cls, text: str, vision: str | None = None, **kwargs: Any) -> Self:
        """Build a processor with the tokenizer, and the image processor, of pretrained encoders.

        Args:
            text: Hub name or folder of the text encoder; names of `PACKAGED_BACKBONES` work without the Hub.
            vision: Hub name or folder of the image encoder, for systems that read images.
            kwargs: of the processor's constructor.
        """
        from transformers import AutoImageProcessor, AutoTokenizer

        if vision is not None:
            kwargs["image_processor"] = AutoImageProcessor.from_pretrained(resolve_backbone(vision), backend="pil")
        return cls(AutoTokenizer.from_pretrained(resolve_backbone(text), add_prefix_space=True), **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoProcessor") -> None:  # noqa: ARG003 of the base class
        """Do nothing, where transformers would copy this file into every folder that is saved."""

    def knowledge_parts(self) -> set[str]:
        """Name the parts of `example["knowledge"]` that are read."""
        raise NotImplementedError

    def parts_shown(self, shown: Mapping[str, Any]) -> set[str]:
        """Name the parts of knowledge that went into what an entity's model was shown.

        Args:
            shown: see `rows`.
        """
        return {*shown, "object_similarities"} if "objects" in shown else set(shown)

    def rows(
        self, examples: Sequence[MnerExample], stage: str, label2id: Mapping[str, int] | None = None
    ) -> list[Row]:
        """Tokenise examples for one stage, without padding; a long text gives several rows.

        Args:
            examples: the examples.
            stage: one of `stages`.
            label2id: classes; given, every row also holds its `labels`.
        """
        raise NotImplementedError

    def post_process_entities(
        self,
        outputs: Sequence[Mapping[str, Any]],
        rows: Sequence[Row],
        examples: Sequence[MnerExample],
        stage: str,
        id2label: Mapping[int, str],
        threshold: float = 0.0,
    ) -> list[MnerExample]:
        """Return copies of the examples whose `entities` are what this stage found.

        Args:
            outputs: for each row its slice of the model's output, NumPy arrays by field name.
            rows: the rows that were scored, as `rows` made them.
            examples: the examples that the rows were made of.
            stage: one of `stages`.
            id2label: the model's classes.
            threshold: entities with a lower score are left out.
        """
        raise NotImplementedError

    def pad_values(self) -> dict[str, int | float]:
        """Name the fields that the model reads and the value that pads each (floats mark float fields)."""
        raise NotImplementedError

    def row_length(self, row: Row) -> int:
        """Return the number of tokens that the model reads for a row, by which rows of similar length are found."""
        return len(row["input_ids"])

    def pad(self, rows: Sequence[Row]) -> BatchFeature:
        """Stack rows to tensors; usable as a `data_collator`."""
        return BatchFeature(pad_rows(rows, self.pad_values()))

    def __call__(
        self,
        examples: MnerExample | Sequence[MnerExample],
        stage: str | None = None,
        label2id: Mapping[str, int] | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Tokenise and pad examples; a text that is too long gives several rows (see `rows`, which says which).

        Args:
            examples: one example or several.
            stage: one of `stages`; `None` = the first.
            label2id: classes; given, the result also holds `labels`.
            return_tensors: only `"pt"`.

        Raises:
            ValueError: if `return_tensors` is not `"pt"`, the stage is unknown, or something is no example.
        """
        if return_tensors != "pt":
            raise ValueError(f"`return_tensors={return_tensors!r}` is not supported; use 'pt'.")
        is_one = isinstance(examples, Mapping | str) or not isinstance(examples, Iterable)
        batch: list[Any] = [examples] if is_one else list(examples)
        rows = self.rows(batch, self.check_stage(stage), label2id)
        if not rows:
            raise ValueError(
                f"Stage {stage or self.stages[0]!r} has no input in these {len(batch)} examples;"
                " stage 'recognition' needs examples with `entities`."
            )
        return self.pad(rows)

    def check_stage(self, stage: str | None) -> str:
        """Return `stage`, or the first stage for `None`; an unknown name is an error that lists the names."""
        if stage is not None and stage not in self.stages:
            raise ValueError(f"`stage={stage!r}` is not known; choose one of {', '.join(self.stages)}.")
        return stage or self.stages[0]


def distinct(keys: Sequence[Any]) -> tuple[list[int], torch.Tensor]:
    """Find the first position of each distinct key that is not empty (`()` or `None`).

    Returns:
        The positions, and for each key the number of its position among them (`b`, long), -1 for an empty key.
    """
    numbers: dict[Any, int] = {}
    chosen: list[int] = []
    index: list[int] = []
    for position, key in enumerate(keys):
        is_empty = key is None or key == ()
        if not is_empty and key not in numbers:
            numbers[key] = len(chosen)
            chosen.append(position)
        index.append(-1 if is_empty else numbers[key])
    return chosen, torch.tensor(index)


def has_words(tokens: Sequence[str]) -> bool:
    """Tell whether there is anything to read: a token that is not blank."""
    return any(token.strip() for token in tokens)


def check_tokens(examples: Sequence[MnerExample]) -> None:
    """Refuse what is no example, and an example without words.

    Raises:
        ValueError: naming the example.
    """
    for position, example in enumerate(examples):
        check_is_example(example, position)
        if not has_words(example["tokens"]):
            name = example.get("id") or f"number {position}"
            raise ValueError(
                f"Example {name} has no words (`tokens={list(example['tokens'])!r}`); leave it out or give it text."
            )


def check_is_example(example: Any, position: int) -> None:
    """Refuse what is no mapping with `tokens`, a list of words.

    Raises:
        ValueError: naming the example by its id or its position, and what it is.
    """
    if not isinstance(example, Mapping):
        given = f"number {position} is {example!r}"
    else:
        tokens = example.get("tokens")
        words = tokens if isinstance(tokens, Iterable) and not isinstance(tokens, str | Mapping) else [None]
        if all(isinstance(word, str) for word in words):
            return
        has = f"`tokens={tokens!r}`" if "tokens" in example else f"the keys {', '.join(map(str, example)) or '(none)'}"
        given = f"{example.get('id') or f'number {position}'} has {has}"
    raise ValueError(
        f"Example {given}; an example is a mapping with `tokens`, a list of words. For texts use the pipeline"
        " (`hf_mner.pipeline`)."
    )


def check_knowledge_parts(knowledge: Sequence[str], known: Sequence[str]) -> None:
    """Refuse parts of knowledge that a system does not know.

    Args:
        knowledge: the processor's argument.
        known: the parts that there are.

    Raises:
        ValueError: naming the unknown parts and the known ones.
    """
    if isinstance(knowledge, str):
        raise ValueError(f"`knowledge={knowledge!r}` is one text; give a list such as [{knowledge!r}].")
    if unknown := sorted(set(knowledge) - set(known)):
        raise ValueError(f"`knowledge` has unknown parts {unknown}; choose from {', '.join(known)}.")


def check_tokenizer(tokenizer: Any) -> None:
    """Refuse a tokenizer that the systems cannot use, saying what to do."""
    name = type(tokenizer).__name__
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"`{name}` is not a fast tokenizer; load it with `AutoTokenizer.from_pretrained`.")
    if tokenizer.mask_token is None:
        raise ValueError(f"`{name}` has no mask token; choose the tokenizer of a masked-language-model encoder.")
    if "ByteLevel(add_prefix_space=False" in repr(tokenizer.backend_tokenizer.pre_tokenizer):
        raise ValueError(
            f"`{name}` glues words together; load it with `AutoTokenizer.from_pretrained(..., add_prefix_space=True)`."
        )


def check_lengths(tokenizer: Any, **lengths: int) -> None:
    """Refuse lengths (tokens, by the name of the argument) that the encoder cannot read."""
    most = tokenizer.model_max_length
    for name, length in lengths.items():
        if not MIN_LENGTH <= length <= most:
            limit = f" and at most {most}, which the encoder takes" if most < NO_LIMIT else ""
            raise ValueError(f"`{name}={length}` is not possible; choose at least {MIN_LENGTH}{limit}.")


def example_tags(example: MnerExample) -> list[str]:
    """Write an example's entities as BIO tags; entities that overlap or do not fit are an error that names it."""
    spans = [(entity["start"], entity["end"], entity["type"]) for entity in example.get("entities") or ()]
    try:
        return encode_bio(spans, len(example["tokens"]))
    except ValueError as error:
        raise ValueError(
            f"Example {example.get('id')!r}: {error} The systems read flat entities; keep one."
        ) from error


def known_class(name: str, example: MnerExample, label2id: Mapping[str, int]) -> int:
    """Return the index of a labelled class; an unknown one is an error."""
    if name not in label2id:
        raise ValueError(
            f"Type {name!r} of example {example.get('id')!r} is not one of the model's classes"
            f" ({', '.join(label2id)}); map it to one of them, or train a model with it."
        )
    return label2id[name]
