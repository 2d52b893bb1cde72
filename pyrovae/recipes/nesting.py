"""Nested settings addressed by the names of their leaves: flags, grids, run.json."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from pyrovae.recipes import bounds
from pyrovae.recipes.refusal import Refusal

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def hints_of(settings: type) -> dict[str, object]:
    """Name -> type of every leaf, without bounds and rules."""
    hints = typing.get_type_hints(settings)
    found: dict[str, object] = {}
    for field in dataclasses.fields(settings):
        hint = hints[field.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            found |= hints_of(hint)
        else:
            found[field.name] = hint
    return found


def build(settings: type[T], values: Mapping[str, object]) -> T:
    """An instance from values by name; the others keep their defaults."""
    hints = typing.get_type_hints(settings)
    given: dict[str, object] = {}
    for field in dataclasses.fields(settings):
        hint = hints[field.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            given[field.name] = build(hint, values)
        elif field.name in values:
            given[field.name] = values[field.name]
    return settings(**given)


def replace(settings: T, **changes: object) -> T:
    """A copy of the settings with some values changed, by name."""
    return build(type(settings), {**values_of(settings), **changes})


def values_of(settings: "DataclassInstance") -> dict[str, object]:
    """Name -> value of every leaf."""
    found: dict[str, object] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)  # a field by its name
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found |= values_of(value)
        else:
            found[field.name] = value
    return found


def defaults_of(settings: type) -> dict[str, object]:
    """Name -> default of every leaf that has one."""
    hints = typing.get_type_hints(settings)
    found: dict[str, object] = {}
    for field in dataclasses.fields(settings):
        hint = hints[field.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            found |= defaults_of(hint)
        elif field.default is not dataclasses.MISSING:
            found[field.name] = field.default
    return found


def flatten(arguments: object) -> dict[str, object]:
    """Name -> value of every leaf of nested JSON objects; a flat object (schema 2) is unchanged.

    Raises Refusal if `arguments` is not a JSON object.
    """
    if not isinstance(arguments, dict):
        raise Refusal(
            f"the run's settings are {type(arguments).__name__}, expected a JSON object, so run.json is damaged."
        )
    found: dict[str, object] = {}
    for name, value in arguments.items():
        found |= flatten(value) if isinstance(value, dict) else {name: value}
    return found


def from_json(settings: type[T], arguments: object) -> T:
    """Settings from JSON, nested or flat, with their bounds checked. Unknown names, of earlier
    versions, are ignored."""
    values, hints = flatten(arguments), hints_of(settings)
    known = {name: value for name, value in values.items() if name in hints}
    return build(
        settings, {name: bounds.parsed(value, hints[name]) for name, value in known.items()}
    )
