"""What a language model says about a post's entities, and why: the auxiliary knowledge of PGIM.

    LlmRationales("gpt-4o-mini-2024-07-18", max_cost=2.0, input_price=0.15, output_price=0.6)

or in a recipe or a file of sources

    sources:
      - rationales: {model: llama3.1, base_url: "http://localhost:11434/v1", requests_per_minute: 60}

`hf_mner.knowledge.endpoint` tells how the addresses of OpenAI, vLLM, Ollama and llama.cpp look, and where keys go.
Wrapped in `Stored`, nothing is asked twice: a run that ends with an error or with its budget goes on where it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.annotated_samples import AnnotatedSample, WordSimilarity, make_sample, nearest, read_samples
from hf_mner.knowledge.auxiliary import PROMPTS, load_prompt
from hf_mner.knowledge.endpoint import Message
from hf_mner.knowledge.endpoint_source import EndpointSource
from hf_mner.knowledge.registry import resolve

PACKAGED_EXAMPLES = PROMPTS / "pgim_examples.yaml"
QUESTION = (
    "Question: Read the text and the image together. Which named entities does the text hold, and of which kind is"
    " each? Explain why."
)
SHAPE = re.compile(
    r"\W*(?:possible )?named entit(?:y|ies)\W*:(?P<entities>.*?\w.*?)reasoning\W*?:\W*(?P<reasoning>\w.*)",
    re.IGNORECASE | re.DOTALL,
)


class Rationale(NamedTuple):
    """An answer in its parts: the entities, each with its kind as written, and the explanation."""

    entities: tuple[str, ...]
    reasoning: str


@dataclass(eq=False, kw_only=True)
class LlmRationales(EndpointSource):
    """A knowledge source that lets a language model name the entities of each post and explain itself.

    The model gets an instruction, the annotated posts that are most like the example, the most similar one last, and
    the example: its words and the caption of its image, where it has one. The answer is kept in single spaces as it
    is, "Named entities: 1. Name (kind) 2. ... Reasoning: ..."; one without this shape is malformed. Equal posts are
    asked about once in a call. If a request fails, the call does: wrapped in `Stored`, what other requests of the same
    batch brought is lost (up to 7 answers with its `batch_size=8`, none with 1), and every batch before is kept.

    The arguments of `EndpointSource` and `EndpointSettings` belong to it as well.

    Args:
        examples: annotated posts, `{"text" or "tokens", "caption", "answer"}` each: a file in YAML or JSON lines, here
            or in the data folder, or the records themselves; None = eight made-up posts of this package.
        num_examples: how many are shown. A post with the words of the example is left out. 0 = none is shown.
        encoder: text encoder whose sentence embeddings choose them, e.g. `"sentence-transformers/all-MiniLM-L6-v2"`,
            see `CaptionSimilarity`; None = words in common, rare ones counting more.

    Raises:
        ValueError: if a setting is out of its range, or `examples` holds something else.
        FileNotFoundError: if the file is in neither place.

    Source: Li et al. 2023, Prompting ChatGPT in MNER (PGIM), Findings of EMNLP, the first of its two stages
        (https://arxiv.org/abs/2305.12212).
    Departure: PGIM chooses by the fused features of text and image of a multimodal NER model, among tweets that the
        authors annotated. Here the words and the caption choose, so that no model has to be trained before; without
        `encoder` no meaning is compared, only words. The wording of instruction and question is ours.
    """

    examples: str | Sequence[Mapping[str, Any]] | None = field(default=None, repr=False)
    num_examples: int = 5
    encoder: str | None = None

    column = "auxiliary"
    needs_entities = False
    reads = ("tokens", "caption")

    def __post_init__(self) -> None:
        """Check the settings and read the annotated posts."""
        super().__post_init__()
        if self.num_examples < 0:
            raise ValueError(f"`num_examples` must be at least 0, got {self.num_examples}.")
        self._samples = load_samples(self.examples) if self.num_examples else []
        self._texts = [" ".join([sample.text, sample.caption]).strip() for sample in self._samples]
        self._instruction = load_prompt("pgim")

    def __call__(self, examples: Sequence[MnerExample]) -> list[str | None]:
        """Return the answer for each example.

        Raises:
            BudgetReached: if the budget does not suffice for all; nothing was asked then, see `ChatEndpoint`.
            EndpointError: if an answer stays malformed, or the endpoint fails.
            ImportError, ValueError: if `hf-mner[llm]` or the key is missing.
        """
        posts = [(" ".join(example["tokens"]), _caption(example)) for example in examples]
        names: dict[tuple[str, str], str] = {}
        for post, example in zip(posts, examples, strict=True):
            names.setdefault(post, f"example {example.get('id')!r}")
        requests = [self._request(post, shown) for post, shown in zip(names, self._choose(list(names)), strict=True)]
        answers = self._ask(requests, list(names.values()), lambda text: parse_rationale(text) is not None)
        found = dict(zip(names, answers, strict=True))
        return [found[post] for post in posts]

    def _choose(self, posts: Sequence[tuple[str, str]]) -> list[list[AnnotatedSample]]:
        """Return the annotated posts that each post is shown with, the most similar one last."""
        if not self._samples or not posts:
            return [[] for _ in posts]
        texts = [" ".join(post).strip() for post in posts]
        rows = self._embedded_similarities(texts) if self.encoder else map(self._word_similarity, texts)
        chosen = []
        for (text, _), similarities in zip(posts, rows, strict=True):
            same = [place for place, sample in enumerate(self._samples) if _is_same(sample.text, text)]
            chosen.append([self._samples[place] for place in nearest(similarities, self.num_examples, same)])
        return chosen

    @cached_property
    def _word_similarity(self) -> WordSimilarity:
        return WordSimilarity(self._texts)

    @cached_property
    def _embedder(self) -> Any:
        from hf_mner.knowledge.similarity import CaptionSimilarity

        return CaptionSimilarity(cast(str, self.encoder))

    def _embedded_similarities(self, texts: Sequence[str]) -> list[list[float]]:
        import torch

        left, right = (
            torch.nn.functional.normalize(self._embedder.embed(each), dim=-1) for each in (texts, self._texts)
        )
        return (left @ right.T).tolist()

    def _request(self, post: tuple[str, str], shown: Sequence[AnnotatedSample]) -> list[Message]:
        blocks = [self._instruction, *(show_post(*sample) for sample in shown), show_post(*post)]
        return [{"role": "user", "content": "\n\n".join(blocks)}]

    def _prompt_text(self) -> str:
        return json.dumps([self._instruction, show_post("text", "caption", "answer"), self._samples])

    def _settings(self) -> dict[str, Any]:
        encoder = self._embedder.identity if self.encoder else {"model": "", "revision": ""}
        chosen_by = {"encoder": encoder["model"], "encoder_revision": encoder["revision"]}
        return {**super()._settings(), "num_examples": self.num_examples, **chosen_by}


def load_samples(examples: str | Sequence[Mapping[str, Any]] | None) -> list[AnnotatedSample]:
    """Return annotated posts from a file, from records, or those of this package.

    Raises:
        ValueError, FileNotFoundError: see `LlmRationales`.
    """
    if examples is None:
        return read_samples(PACKAGED_EXAMPLES)
    if isinstance(examples, Sequence) and not isinstance(examples, str):
        return [make_sample(record, f"`examples`, entry {place}") for place, record in enumerate(examples, start=1)]
    return read_samples(Path(resolve(examples, None)))


def show_post(text: str, caption: str, answer: str = "") -> str:
    """Return how a post stands in the prompt; without a caption it has no line for the image."""
    image = [f"Image: {caption}"] if caption else []
    return "\n".join([f"Text: {text}", *image, QUESTION, f"Answer: {answer}".strip()])


def parse_rationale(text: str) -> Rationale | None:
    """Return the parts of an answer, None if it has not the shape "Named entities: ... Reasoning: ...".

    "Named entities: None." is an answer without entities. An entity without a number is taken as it is. Marks of bold
    type do not count.
    """
    match = SHAPE.match(text.replace("**", ""))
    if match is None:
        return None
    return Rationale(_split_numbered(match["entities"]), " ".join(match["reasoning"].split()))


def _split_numbered(text: str) -> tuple[str, ...]:
    """Split "1. a 2. b" at the numbers, which must count up, so that those inside of names do not split."""
    places: list[tuple[int, int]] = []
    end = 0
    while match := re.compile(rf"(?<!\d){len(places) + 1}\.\s*").search(text, end):
        places.append(match.span())
        end = match.end()
    if not places:
        whole = " ".join(text.split())
        return () if re.match(r"none\b", whole, re.IGNORECASE) else (whole,)
    ends = [start for start, _ in places[1:]] + [len(text)]
    items = (" ".join(text[start:end].split()) for (_, start), end in zip(places, ends, strict=True))
    return tuple(item for item in items if item)


def _caption(example: MnerExample) -> str:
    return " ".join(((example.get("knowledge") or {}).get("caption") or "").split())


def _is_same(one: str, other: str) -> bool:
    return one.split() == other.split()
