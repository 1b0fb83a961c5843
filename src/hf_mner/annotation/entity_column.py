"""The column of entities that is written: one Arrow type, whatever was found, and numbers rounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

# Sums of single precision differ by about 1e-7 with the width of a batch; four decimals hide that.
SCORE_DECIMALS = 4
EDGE_DECIMALS = 2  # of a pixel
CORNERS = ("xmin", "ymin", "xmax", "ymax")

BOX = pa.struct([(corner, pa.float32()) for corner in CORNERS])
ENTITY = pa.struct(
    [
        ("entity_group", pa.string()),
        ("score", pa.float32()),
        ("word", pa.string()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("boxes", pa.list_(pa.struct([("box", BOX), ("score", pa.float32())]))),
    ]
)
ENTITIES = pa.list_(ENTITY)


def make_column(entities: Sequence[Sequence[Mapping[str, Any]]]) -> pa.Array:
    """Return the entities of each post as an Arrow array."""
    return pa.array([[round_entity(entity) for entity in found] for found in entities], type=ENTITIES)


def round_entity(entity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entity with its scores and edges rounded."""
    boxes = [
        {
            "box": {corner: round(float(item["box"][corner]), EDGE_DECIMALS) for corner in CORNERS},
            "score": round(float(item["score"]), SCORE_DECIMALS),
        }
        for item in entity["boxes"]
    ]
    return {**entity, "score": round(float(entity["score"]), SCORE_DECIMALS), "boxes": boxes}


def output_schema(schema: pa.Schema, kept: Sequence[str], name: str) -> pa.Schema:
    """Return the schema of the output: the columns that are kept, and the entities.

    The notes that `datasets` leaves in a schema (which column is an image, which a class) are kept up to date.
    """
    fields = [schema.field(column) for column in kept]
    plain = pa.schema([*fields, pa.field(name, ENTITIES)])
    if b"huggingface" not in (schema.metadata or {}):
        return plain
    from datasets import Features

    known = Features.from_arrow_schema(schema)
    added = Features.from_arrow_schema(pa.schema([pa.field(name, ENTITIES)]))
    return Features({**{column: known[column] for column in kept}, **added}).arrow_schema
