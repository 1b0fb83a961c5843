"""What MNER-QG asks for each entity type: four ways to turn a type into a query."""

# No `from __future__ import annotations` here: recipes check the type of a style.

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import yaml

logger = logging.getLogger(__name__)

QueryStyle = Literal["keyword", "template", "wikipedia", "annotation"]
QUERY_STYLES: tuple[str, ...] = get_args(QueryStyle)


def build_queries(
    types: Sequence[str], style: QueryStyle = "annotation", queries: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Write a query for each entity type.

    Args:
        types: the entity types.
        style: one of Figure 4's transformations. `keyword`: "Organization"; `template`: "Please find Organization";
            `wikipedia`: the definition of the keyword; `annotation`: keyword and annotation, "Organization: Include
            club, ..." (the paper's choice).
        queries: queries of some or all types, in the place of built ones.

    Returns:
        The query of each type. A type that `queries.yaml` does not know is asked for by its name ("building_name":
        "Building name"), with a warning where the style wants more.

    Raises:
        ValueError: if the style is unknown, or `queries` holds a type that is not one of `types`.

    Source: MNER-QG, Table 1 and "Effect of Query Transformations".
    """
    if style not in QUERY_STYLES:
        raise ValueError(f"`query_style={style!r}` is not known; choose one of {', '.join(QUERY_STYLES)}.")
    given = dict(queries or {})
    if unknown := sorted(set(given) - set(types)):
        raise ValueError(f"`queries` asks for {unknown[0]!r}, which is not one of the types {', '.join(types)}.")
    return {name: given[name] if name in given else build_query(name, style) for name in types}


def build_query(entity_type: str, style: QueryStyle) -> str:
    """Write the query of one type, see `build_queries`."""
    texts = known_queries().get(entity_type, {})
    keyword = texts.get("keyword") or entity_type.replace("_", " ").replace("-", " ").replace("/", " ").capitalize()
    if style == "keyword":
        return keyword
    if style == "template":
        return f"Please find {keyword}"
    if not texts:
        logger.warning(
            "No %s is known for type %r; it is asked for by its name. Give `queries={%r: ...}` for a better query.",
            style,
            entity_type,
            entity_type,
        )
        return keyword
    return texts["wikipedia"] if style == "wikipedia" else f"{keyword}: {texts['annotation']}"


@cache
def known_queries() -> dict[str, dict[str, str]]:
    """Read the texts that queries are built of."""
    return yaml.safe_load(Path(__file__).with_name("queries.yaml").read_text(encoding="utf-8"))


__all__ = ["QUERY_STYLES", "QueryStyle", "build_queries"]
