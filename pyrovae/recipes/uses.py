"""Settings that count for some of the others' values only, as in `alpha: Annotated[float,
Only(objective="renyi")] = 0.5`.

`--help` names those values, and a command line that sets what nothing would use is refused.
"""

import dataclasses
import typing
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

from pyrovae.recipes.bounds import HERE, flag, metadata, shown
from pyrovae.recipes.nesting import values_of
from pyrovae.recipes.refusal import Refusal

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Values = Mapping[str, object]
Allowed = str | bool | Container[object]
"""A value, or several."""


class Only:
    """The setting counts where any one of the `others` has a value among those given (a word,
    several, or `Several()`)."""

    def __init__(self, **others: Allowed) -> None:
        self.others: dict[str, Container[object]] = {
            name: (value,) if isinstance(value, (str, bool)) else value
            for name, value in others.items()
        }

    def ignored(self, field: str, values: Values) -> str | None:
        """Why the setting would say nothing; None where it counts."""
        if any(values[name] in allowed for name, allowed in self.others.items()):
            return None
        return (
            f"says nothing with {_and(_option(name, values[name]) for name in self.others)}; it is for "
            f"{' or '.join(self._words())}"
        )

    def __str__(self) -> str:
        """In the words of `--help`."""
        return ", ".join(self._words(short=True))

    def _words(self, short: bool = False) -> Iterator[str]:
        for name, allowed in self.others.items():
            if allowed == (True,):
                yield flag(name)
            elif isinstance(allowed, tuple):
                yield ("" if short else f"{flag(name)} ") + ", ".join(map(str, allowed))
            else:
                yield f"{flag(name)} {allowed}"


class NotWith:
    """The setting (where `of` is given, those values of it) says nothing where all the `others`
    have one of their values."""

    def __init__(self, why: str, of: Container[object] = (), **others: Container[object]) -> None:
        self.why, self.of, self.others = why, of, others

    def ignored(self, field: str, values: Values) -> str | None:
        if (
            self.of
            and values[field] not in self.of
            or not all(values[name] in some for name, some in self.others.items())
        ):
            return None
        return f"with {_and(_option(name, values[name]) for name in self.others)} {self.why}"

    def __str__(self) -> str:
        return ""


@dataclasses.dataclass(frozen=True)
class Several:
    """Tuples of two numbers or more."""

    def __contains__(self, value: object) -> bool:
        return isinstance(value, tuple) and len(value) > 1

    def __str__(self) -> str:
        return "with several numbers"


@dataclasses.dataclass(frozen=True)
class Naming:
    """Lists of names, joined by commas, that hold `name`."""

    name: str

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and self.name in value.split(",")

    def __str__(self) -> str:
        return self.name


Rule = Only | NotWith


def ruled(settings: type, given: Mapping[str, Rule] | None = None) -> dict[str, Rule]:
    """Setting -> rule: those that the class declares as `RULES`, for its own fields and those of
    the dataclasses among them, beside those that are `given` from outside."""
    return {**(given or {}), **getattr(settings, "RULES", {})}


def leaves(
    settings: type, given: Mapping[str, Rule] | None = None
) -> Iterator[tuple[dataclasses.Field, object]]:
    """The fields of a dataclass and of the dataclasses among them, with their types and rules."""
    hints, rules = typing.get_type_hints(settings, include_extras=True), ruled(settings, given)
    for field in dataclasses.fields(settings):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from leaves(hints[field.name], rules)
        else:
            yield field, with_rule(hints[field.name], rules.get(field.name))


def with_rule(hint: object, rule: Rule | None) -> object:
    """A field's type with a rule beside it."""
    return hint if rule is None else Annotated[hint, rule]


def refuse_unused(settings: "DataclassInstance") -> None:
    """Raise Refusal for a setting other than its default that would change nothing, and for what
    this machine lacks.

    Settings with a method `variants` stand for several runs, each of which changes some of them:
    what one of these uses may be set for all. A run that is resumed keeps the settings that it
    began with.
    """
    values = values_of(settings)
    runs = [
        {**values, **changes}
        for changes in (settings.variants() if hasattr(settings, "variants") else [{}])
    ]
    for field, hint in leaves(type(settings)):
        for declared in metadata(hint):
            if isinstance(declared, HERE) and (
                bad := [run for run in runs if run[field.name] not in declared]
            ):
                raise Refusal(
                    f"{flag(field.name)} {shown(bad[0][field.name])}: expected {declared}."
                )
            if isinstance(declared, (Only, NotWith)) and not values.get("resume"):
                _refuse_unused(field, declared, runs)


def _refuse_unused(
    field: dataclasses.Field, declared: Only | NotWith, runs: Iterable[Values]
) -> None:
    users = [
        run
        for run in runs
        if run[field.name] != field.default
        and not (
            isinstance(declared, NotWith) and declared.of and run[field.name] not in declared.of
        )
    ]
    reasons = [declared.ignored(field.name, run) for run in users]
    if reasons and all(reasons):
        raise Refusal(f"{_option(field.name, users[0][field.name])} {reasons[0]}.")


def _option(name: str, value: object) -> str:
    if isinstance(value, bool):
        return flag(name) if value else f"no {flag(name)}"
    return f"no {flag(name)}" if value is None else f"{flag(name)} {shown(value)}"


def _and(words: Iterable[str]) -> str:
    return " and ".join(words)
