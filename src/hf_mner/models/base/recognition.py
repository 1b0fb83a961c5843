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
        batch_size: rows in one forward pass (texts in stage 1, candidates of all texts together in stage 2).
        cache: encodings that several calls with the same model share (an image's knowledge, say).

    Returns:
        Copies of the examples, in order, whose `entities` are
        `{"start", "end", "type", "score", "boxes": [{"box": [xmin, ymin, xmax, ymax], "score"}], "shown"}` with word
        indices; `shown` is the knowledge that was read for the entity.
    """
    stages = recognize_by_stage(
        model, processor, examples, sources=sources, threshold=threshold, batch_size=batch_size, cache=cache
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
    cache: EncodingCache | None = None,
) -> Iterator[tuple[str, list[MnerExample]]]:
    """Yield each stage's name and what it found; arguments as in `recognize_entities`, whose result comes last."""
    found = add_knowledge(examples, [source for source in sources if not source.needs_entities])
    for stage in model.stages or processor.stages:
        if stage != processor.stages[0]:
            found = add_knowledge(found, [source for source in sources if source.needs_entities])
        rows = processor.rows(found, stage)
        outputs = run_rows(model, processor, rows, batch_size, cache)
        found = processor.post_process_entities(outputs, rows, found, stage, model.config.id2label, threshold)
        yield stage, found


@torch.inference_mode()
def run_rows(
    model: MnerPreTrainedModel,
    processor: MnerProcessor,
    rows: Sequence[Row],
    batch_size: int,
    cache: EncodingCache | None = None,
) -> list[dict[str, Any]]:
    """Run the model over rows of similar length and return each row's slice of the output, in the rows' order."""
    shared = model.encode_shared(rows, processor, batch_size, EncodingCache() if cache is None else cache)
    order = sorted(range(len(rows)), key=lambda index: -processor.row_length(rows[index]))
    outputs: list[dict[str, Any]] = [{} for _ in rows]
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = processor.pad([shared[index] for index in chosen]).to(model.device)
        for index, output in zip(chosen, unbatch(model(**batch)), strict=True):
            outputs[index] = output
    return outputs


def unbatch(output: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Cut a model output into one dictionary of NumPy arrays for each row (half precision becomes float32)."""
    arrays = {
        name: value.float().cpu().numpy() for name, value in output.items() if torch.is_tensor(value) and value.ndim
    }
    size = min((len(value) for value in arrays.values()), default=0)
    return ({name: value[row] for name, value in arrays.items()} for row in range(size))
