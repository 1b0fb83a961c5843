"""Scoring a model on a data set: every stage, every type, seen and unseen entities, and boxes where there are any."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from hf_mner.data.boxes import Box
from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import KnowledgeSource
from hf_mner.metrics import score_grounded_entities, score_grounding, score_seen_unseen, score_spans
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.processing_base import MnerProcessor
from hf_mner.models.base.recognition import recognize_by_stage

CHUNK = 256  # examples between two steps of the progress bar


def evaluate_model(
    model: Any,
    processor: MnerProcessor,
    examples: Sequence[MnerExample],
    *,
    training_entities: Iterable[str] | None = None,
    sources: Sequence[KnowledgeSource] = (),
    threshold: float = 0.0,
    batch_size: int = 32,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> dict[str, Any]:
    """Score a model on examples with gold `entities`.

    Args:
        model: a trained model in evaluation mode.
        processor: its processor.
        examples: gold examples; their `ner_tags` are not read.
        training_entities: surface forms of the training entities (`hf_mner.metrics.surface_forms`), for the split into
            seen and unseen.
        sources: knowledge sources, see `recognize_entities`.
        threshold: entities with a lower score are left out.
        batch_size: rows in one forward pass.
        progress: wraps the list of chunks, for example `rich.progress.track`.

    Returns:
        `stages` (for each stage the span F1 of what it found, whatever the type), `examples` and `seconds`; unless the
        model stops before the last stage also `entities` (exact span and type: conlleval reading of the gold, as the
        loaders give it), and `seen_unseen` and `grounded` where asked for and possible. Models that answer queries
        with boxes also have `grounding`: the accuracy of the best box of each query that has gold boxes, whatever
        entities were found. Fractions are in [0, 1].
    """
    started = time.perf_counter()
    found = find_entities(
        model,
        processor,
        examples,
        sources=sources,
        threshold=threshold,
        batch_size=batch_size,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    return {**score_found(found, processor, examples, training_entities), "seconds": seconds}


def find_entities(
    model: Any,
    processor: MnerProcessor,
    examples: Sequence[MnerExample],
    *,
    sources: Sequence[KnowledgeSource] = (),
    threshold: float = 0.0,
    batch_size: int = 32,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> dict[str, list[MnerExample]]:
    """Return, for each stage that the model runs, copies of the examples with the entities that it found.

    The arguments are those of `evaluate_model`.
    """
    cache = EncodingCache()  # one image's knowledge is encoded once, whatever the chunk it is in
    found: dict[str, list[MnerExample]] = {stage: [] for stage in model.stages or processor.stages}
    for first in progress(range(0, len(examples), CHUNK)):
        chunk = [examples[index] for index in range(first, min(first + CHUNK, len(examples)))]
        for stage, part in recognize_by_stage(
            model, processor, chunk, sources=sources, threshold=threshold, batch_size=batch_size, cache=cache
        ):
            found[stage].extend(part)
    return found


def score_found(
    found: Mapping[str, Sequence[MnerExample]],
    processor: MnerProcessor,
    examples: Sequence[MnerExample],
    training_entities: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Score what a model found by stage (`find_entities`); see `evaluate_model`."""
    examples = list(examples)
    gold = [spans_of(example) for example in examples]
    scores: dict[str, Any] = {
        "stages": {
            stage: score_spans([spans_of(example) for example in part], gold, typed=False)
            for stage, part in found.items()
            if stage not in processor.stages_of_given
        },
        "examples": len(examples),
    }
    queries = [pair for stage, part in found.items() for pair in answered_queries(part, examples, stage)]
    if queries:
        scores["grounding"] = score_grounding(*zip(*queries, strict=True))
    if processor.stages[-1] not in found:
        return scores
    last = found[processor.stages[-1]]
    predicted = [spans_of(example) for example in last]
    scores["entities"] = score_spans(predicted, gold)
    if training_entities is not None:
        tokens = [example["tokens"] for example in examples]
        scores["seen_unseen"] = score_seen_unseen(predicted, gold, tokens, set(training_entities))
    if any(entity["boxes"] for example in examples for entity in example["entities"]):
        references = [example["entities"] for example in examples]
        scores["grounded"] = score_grounded_entities([grounded_of(example) for example in last], references)
    return scores


def answered_queries(
    found: Sequence[Mapping[str, Any]], examples: Sequence[MnerExample], stage: str
) -> Iterator[tuple[Box | None, list[Box]]]:
    """Yield predicted box (or None) and gold boxes of each query that has gold boxes.

    Args:
        found: what a stage found; without `query_boxes` there is nothing to yield.
        examples: the gold.
        stage: a query is a phrase in `grounding`, a type in all others.
    """

    def query_of(item: Mapping[str, Any]) -> Any:
        return (item["start"], item["end"]) if stage == "grounding" else item["type"]

    for answer, example in zip(found, examples, strict=True):
        if "query_boxes" in answer:
            boxes = {query_of(item): item["box"] for item in answer["query_boxes"]}
            gold: dict[Any, list[Box]] = {}
            for entity in example["entities"]:
                gold.setdefault(query_of(entity), []).extend(entity["boxes"])
            yield from ((boxes.get(query), acceptable) for query, acceptable in gold.items() if acceptable)


def spans_of(example: MnerExample) -> list[tuple[int, int, str]]:
    """Return an example's entities as `(start, end, type)`; the type of a mere candidate is empty."""
    return [(entity["start"], entity["end"], entity.get("type") or "") for entity in example["entities"]]


def grounded_of(example: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return an example's predicted entities as the grounded metric reads them."""
    return [{**entity, "boxes": [item["box"] for item in entity["boxes"]]} for entity in example["entities"]]
