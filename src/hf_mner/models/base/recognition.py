"""The loop that every system shares: examples in, entities out, whatever the number of stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import KnowledgeSource, add_knowledge

from .modeling_base import EncodingCache, MnerPreTrainedModel
from .processing_base import MnerProcessor, Row


def recognize_entities(
    model: MnerPreTrainedModel,
    processor: MnerProcessor,
    examples: Sequence[MnerExample],
    *,
    sources: Sequence[KnowledgeSource] = (),
    threshold: float = 0.0,
    batch_size: int = 32,
    batch_tokens: int | None = None,
    cache: EncodingCache | None = None,
) -> list[MnerExample]:
    """Find the entities of some examples.

    Args:
        model: a trained model in evaluation mode.
        processor: its processor.
        examples: what to read; only `tokens` is needed.
        sources: knowledge sources that fill what the examples lack. Those that read entities (`needs_entities`) see
            the candidates of the stage before.
        threshold: entities with a lower score are left out.
        batch_size: most rows in one forward pass (texts in stage 1, candidates of all texts together in stage 2).
        batch_tokens: most tokens in one forward pass, padding included; a longer row is alone. None = no such limit.
        cache: encodings that several calls with the same model share (an image's knowledge, say).

    Returns:
        Copies of the examples, in order, whose `entities` are
        `{"start", "end", "type", "score", "boxes": [{"box": [xmin, ymin, xmax, ymax], "score"}], "shown"}` with word
        indices; `shown` is the knowledge that was read for the entity.
    """
    stages = recognize_by_stage(
        model,
        processor,
        examples,
        sources=sources,
        threshold=threshold,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        cache=cache,
    )
    return list(stages)[-1][1]


def recognize_by_stage(
    model: MnerPreTrainedModel,
    processor: MnerProcessor,
    examples: Sequence[MnerExample],
    *,
    sources: Sequence[KnowledgeSource] = (),
    threshold: float = 0.0,
    batch_size: int = 32,
    batch_tokens: int | None = None,
    cache: EncodingCache | None = None,
) -> Iterator[tuple[str, list[MnerExample]]]:
    """Yield each stage's name and what it found; arguments as in `recognize_entities`, whose result comes last."""
    found = add_knowledge(examples, [source for source in sources if not source.needs_entities])
    for stage in model.stages or processor.stages:
        if stage != processor.stages[0]:
            found = add_knowledge(found, [source for source in sources if source.needs_entities])
        rows = processor.rows(found, stage)
        outputs = run_rows(model, processor, rows, batch_size, cache, batch_tokens)
        found = processor.post_process_entities(outputs, rows, found, stage, model.config.id2label, threshold)
        yield stage, found


@torch.inference_mode()
def run_rows(
    model: MnerPreTrainedModel,
    processor: MnerProcessor,
    rows: Sequence[Row],
    batch_size: int,
    cache: EncodingCache | None = None,
    batch_tokens: int | None = None,
) -> list[dict[str, Any]]:
    """Run the model over rows of similar length and return each row's slice of the output, in the rows' order."""
    shared = model.encode_shared(rows, processor, batch_size, EncodingCache() if cache is None else cache)
    outputs: list[dict[str, Any]] = [{} for _ in rows]
    for chosen in plan_batches([processor.row_length(row) for row in rows], batch_size, batch_tokens):
        batch = processor.pad([shared[index] for index in chosen]).to(model.device)
        for index, output in zip(chosen, unbatch(model(**batch)), strict=True):
            outputs[index] = output
    return outputs


def plan_batches(lengths: Sequence[int], batch_size: int, batch_tokens: int | None = None) -> Iterator[list[int]]:
    """Yield the places of rows that are read together, longest first.

    Args:
        lengths: tokens of each row.
        batch_size: most rows of a batch.
        batch_tokens: most tokens of a batch, padding included; a longer row is alone.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        longest = max(lengths[order[start]], 1)
        size = batch_size if batch_tokens is None else max(1, min(batch_size, batch_tokens // longest))
        yield order[start : start + size]
        start += size


def unbatch(output: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Cut a model output into one dictionary of NumPy arrays for each row (half precision becomes float32)."""
    arrays = {
        name: value.float().cpu().numpy() for name, value in output.items() if torch.is_tensor(value) and value.ndim
    }
    size = min((len(value) for value in arrays.values()), default=0)
    return ({name: value[row] for name, value in arrays.items()} for row in range(size))
