"""Bounds of settings, declared with their types, as in `epochs: Count = 200`: the help, the checks
and the error messages are derived from them."""

import dataclasses
import math
import os
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, Union, cast

from pyrovae.core.modules import name_of
from pyrovae.recipes.refusal import Refusal

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
LARGEST = 2**32 - 1
"""The largest whole number accepted: the largest seed of NumPy, larger than any feasible count."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; `above` and `below` exclude the lower and the upper end."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, (int, float)):
            return False
        return ((value > self.low) if self.above else value >= self.low) and (
            (value < self.high) if self.below else value <= self.high
        )

    def __str__(self) -> str:
        if self.high == math.inf:
            return (
                "a positive number" if self.above and self.low == 0 else f"at least {self.low:g}"
            )
        if self.above or self.below:
            low, high = "above" if self.above else "at least", "below" if self.below else "at most"
            return f"{low} {self.low} and {high} {self.high}"
        return f"from {self.low} to {self.high}"


@dataclasses.dataclass(frozen=True)
class Some:
    """Tuples of at least one number."""

    def __contains__(self, value: object) -> bool:
        return isinstance(value, tuple) and len(value) > 0

    def __str__(self) -> str:
        return "at least one number"


@dataclasses.dataclass(frozen=True)
class Cores:
    """At most the number of cores of this machine."""

    def __contains__(self, value: object) -> bool:
        return value is None or isinstance(value, int) and value <= self.count

    def __str__(self) -> str:
        return f"at most {self.count}, the cores of this machine"

    @property
    def count(self) -> int:
        return os.cpu_count() or LARGEST


@dataclasses.dataclass(frozen=True)
class Writable:
    """A writable folder, existing or yet to be created."""

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, Path):
            return value is None
        there = next(path for path in (value, *value.absolute().parents) if path.exists())
        return there.is_dir() and os.access(there, os.W_OK | os.X_OK)

    def __str__(self) -> str:
        return "a folder that can be written, or a place for one"


@dataclasses.dataclass(frozen=True)
class WritableFile:
    """A file that can be written, or a place for one in a folder that is there."""

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, Path):
            return value is None
        if value.exists():
            return value.is_file() and os.access(value, os.W_OK)
        return value.parent.is_dir() and os.access(value.parent, os.W_OK | os.X_OK)

    def __str__(self) -> str:
        return "a file in a folder that can be written"


HERE = (Cores, Writable, WritableFile)
"""Bounds that depend on the machine: checked for a command line, not for settings loaded from the
run of another machine."""
Count = Annotated[int, Range(1)]
FromZero = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
Scale = Annotated[float, Range(1e-10, 1e10)]
"""Standard deviations and other scales whose squares are representable in float32."""
Networks = Annotated[int, Range(1, 10_000)]
"""Numbers of networks that are trained together."""
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1, below=True)]
Seed = Annotated[int, Range(0, LARGEST)]
Threads = Annotated[int, Range(1), Cores()]
OutFolder = Annotated[Path, Writable()]
OutFile = Annotated[Path, WritableFile()]


@dataclasses.dataclass(frozen=True)
class Suffix:
    """A file name with this ending."""

    ending: str

    def __contains__(self, value: object) -> bool:
        return not isinstance(value, Path) or value.suffix == self.ending

    def __str__(self) -> str:
        return f"a name that ends in {self.ending}"


NpzFile = Annotated[OutFile, Suffix(".npz")]
HtmlFile = Annotated[OutFile, Suffix(".html")]
Widths = Annotated[tuple[Count, ...], Some()]
BOUNDS = (Range, Some, Suffix)


def check(settings: "DataclassInstance") -> None:
    """Raise Refusal for the first field of a dataclass whose value has the wrong type or lies
    outside its bounds."""
    for field, hint in _hints(type(settings)).items():
        if found := _unfit(getattr(settings, field), hint):  # a field by its name
            value, expected = found
            raise Refusal(f"{flag(field)} {shown(value)}: expected {expected}.")


def flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def shown(value: object) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, tuple):
        return " ".join(map(shown, value)) or "without a number"
    return (
        repr(value)
        if isinstance(value, str) and not value.isprintable() or value == ""
        else str(value)
    )


def bound_of(hint: object) -> str:
    """The bounds of a field's type as `--help` shows them; empty if there are none."""
    return ", ".join(str(bound) for bound in metadata(hint) if isinstance(bound, (*BOUNDS, Cores)))


def metadata(hint: object) -> Iterator[object]:
    """All annotations of a type and of the types inside it."""
    if typing.get_origin(hint) is Annotated:
        inner, *own = typing.get_args(hint)
        yield from metadata(inner)
        yield from own
    elif typing.get_origin(hint) is not Literal:
        for inner in typing.get_args(hint):
            yield from metadata(inner)


def parsed(value: object, hint: object) -> object:
    """The value of a setting from JSON: lists become tuples, strings paths where the type is a path."""
    if isinstance(value, list):
        return tuple(value)
    return Path(value) if isinstance(value, str) and Path in _options(hint) else value


def _hints(settings: "type[DataclassInstance]") -> dict[str, object]:
    hints = typing.get_type_hints(settings, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(settings)}


def _options(hint: object) -> tuple:
    """The types of a union, or the one type, without annotations."""
    if typing.get_origin(hint) is Annotated:
        return _options(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (Union, type(int | None)):
        return tuple(option for inner in typing.get_args(hint) for option in _options(inner))
    return (hint,)


def _unfit(value: object, hint: object) -> tuple[object, str] | None:
    """(the invalid value, what is expected), or None for a valid value."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    found: tuple[object, str] | None
    if origin is Annotated:
        bounds = [bound for bound in inner[1:] if isinstance(bound, BOUNDS)]
        if (found := _unfit(value, inner[0])) is None:
            return next(((value, str(bound)) for bound in bounds if value not in bound), None)
        return (value, str(bounds[0])) if bounds and found[1] == _TYPES[float] else found
    if origin in (Union, type(int | None)):
        each = [_unfit(value, option) for option in inner]
        return (
            None
            if None in each
            else next(one for one, option in zip(each, inner) if option is not type(None))
        )
    if origin is Literal:
        return (
            None
            if value in inner and type(value) is str
            else (value, f"one of {', '.join(map(str, inner))}")
        )
    if origin is tuple:
        hints = (
            inner
            if inner[-1] is not ...
            else inner[:1] * len(value)
            if isinstance(value, tuple)
            else ()
        )
        if not isinstance(value, tuple) or len(value) != len(hints):
            return value, f"{len(hints)} values" if hints else "several values"
        return next(filter(None, map(_unfit, value, hints)), None)
    return None if _is(value, hint) else (value, _TYPES.get(hint, f"a {name_of(hint)}"))


_TYPES: dict[object, str] = {
    int: f"a whole number of at most {LARGEST}",
    float: "a finite number",
    str: "a name",
    bool: "true or false",
    Path: "the path of a folder",
    type(None): "nothing",
}


def _is(value: object, kind: object) -> bool:
    if kind is float:
        return _is_number(value, (int, float)) and math.isfinite(cast(float, value))
    if kind is int:
        return _is_number(value, (int,)) and abs(cast(int, value)) <= LARGEST
    if kind is str:
        return isinstance(value, str) and value != "" and "\0" not in value
    known = isinstance(kind, type) and isinstance(value, kind)
    return known and not (kind is Path and "\0" in str(value))


def _is_number(value: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
