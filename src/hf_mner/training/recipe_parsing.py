"""Nested plain values to strict dataclasses: every leftover, gap or wrong type is an error that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError


def require(is_met: bool, name: str, value: Any, expected: str) -> None:
    """Raise a `ValueError` that names a recipe's value and what was expected."""
    if not is_met:
        raise ValueError(f"`{name}` must be {expected}, got {value!r}.")


def innermost(error: BaseException) -> str:
    """Return what the error under all others says, where it says more than the field's own error."""
    cause = error.__cause__.__cause__ if error.__cause__ else None
    return f"({cause})" if cause else ""


def set_dotted(values: dict[str, Any], key: str, value: Any) -> None:
    """Set `values["a"]["b"]` for the key `"a.b"`."""
    *parents, last = key.split(".")
    for parent in parents:
        if values.get(parent) is None:  # not there, or an optional section that a saved recipe has left empty
            values[parent] = {}
        values = values[parent]
        if not isinstance(values, dict):
            raise ValueError(f"`{key}` cannot be set: {parent!r} is a value ({values!r}), not a section.")
    values[last] = value


def parse_value(value: Any, hint: Any, where: str) -> Any:
    """Parse the value of one key: a section where its type is a dataclass; `null` where that is optional.

    A list of dataclasses is read as a list of sections.
    """
    sections: list[Any] = [kind for kind in (get_args(hint) or (hint,)) if is_dataclass(kind)]
    if sections and get_origin(hint) is list and isinstance(value, list):
        return [parse_recipe(item, sections[0], where) for item in value]
    is_section = bool(sections) and not (value is None and type(None) in get_args(hint))
    return parse_recipe(value, sections[0], where) if is_section else value


def parse_recipe(values: Mapping[str, Any], recipe_class: type, where: str) -> Any:
    """Build a recipe dataclass from a mapping; leftovers, gaps and wrong types are errors that name the key."""
    if not isinstance(values, Mapping):
        raise ValueError(f"Recipe {where} is {values!r}; expected a section of keys and values.")
    known = {item.name for item in fields(recipe_class)}
    unused = sorted(set(values) - known)
    if unused:
        raise ValueError(f"Recipe {where} has keys that nothing reads: {unused}. Known keys: {sorted(known)}.")
    hints = get_type_hints(recipe_class)
    parsed = {key: parse_value(value, hints[key], f"{where}, {key}") for key, value in values.items()}
    try:
        return recipe_class(**parsed)
    except StrictDataclassClassValidationError as error:
        raise ValueError(f"Recipe {where}: {error.__cause__ or error}") from error
    except StrictDataclassFieldValidationError as error:
        text = " ".join(f"{error} {innermost(error)}".split())
        hint = " (YAML reads 1e-4 as text: write 1.0e-4)" if "expected float, got str" in text else ""
        raise ValueError(f"Recipe {where}: {text}{hint}") from error
    except TypeError as error:
        raise ValueError(f"Recipe {where} is not complete: {error}.") from error
