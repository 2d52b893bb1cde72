"""Rules for settings that take effect only with some values of other settings, as in
`alpha: Annotated[float, OnlyWith(objective="renyi")] = 0.5`.

`--help` names those values, and a command line that sets an option without effect is refused.
"""

import dataclasses
import typing
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Protocol, runtime_checkable

from pyrovae.recipes.bounds import HERE, flag, metadata, shown
from pyrovae.recipes.nesting import values_of
from pyrovae.recipes.refusal import Refusal

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Values = Mapping[str, object]
Allowed = str | bool | Container[object]
"""One value, or a collection of them."""


class OnlyWith:
    """The setting takes effect if any of the `others` has one of the values given: a word, a
    collection, or a predicate such as `Several()`."""

    def __init__(self, **others: Allowed) -> None:
        self.others: dict[str, Container[object]] = {
            name: (value,) if isinstance(value, (str, bool)) else value
            for name, value in others.items()
        }

    def ignored(self, field: str, values: Values) -> str | None:
        """Why the setting has no effect; None if it has one."""
        if any(values[name] in allowed for name, allowed in self.others.items()):
            return None
        return (
            f"has no effect with {_and(_option(name, values[name]) for name in self.others)}; it is for "
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
    """The setting (with `of`: those values of it) has no effect if every one of the `others` has
    one of the values given; `why` completes the message."""

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
    """Comma-separated lists of names that contain `name`."""

    name: str

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and self.name in value.split(",")

    def __str__(self) -> str:
        return self.name


Rule = OnlyWith | NotWith


@runtime_checkable
class HasVariants(Protocol):
    """Settings that describe several runs."""

    def variants(self) -> list[dict[str, object]]:
        """What each of them changes."""


def ruled(settings: type, given: Mapping[str, Rule] | None = None) -> dict[str, Rule]:
    """Setting -> rule: the `RULES` that the class declares for its fields, nested ones included,
    added to the rules `given` by the enclosing class."""
    # most settings declare no rules
    return {**(given or {}), **getattr(settings, "RULES", {})}


def leaves(
    settings: type, given: Mapping[str, Rule] | None = None
) -> Iterator[tuple[dataclasses.Field, object]]:
    """The fields of a dataclass, nested dataclasses expanded, with their types and rules."""
    hints, rules = typing.get_type_hints(settings, include_extras=True), ruled(settings, given)
    for field in dataclasses.fields(settings):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from leaves(hints[field.name], rules)
        else:
            yield field, with_rule(hints[field.name], rules.get(field.name))


def with_rule(hint: object, rule: Rule | None) -> object:
    """The type of a field, annotated with a rule if there is one."""
    return hint if rule is None else Annotated[hint, rule]


def refuse_unused(settings: "DataclassInstance") -> None:
    """Raise Refusal for a setting that differs from its default and has no effect, and for one
    that this machine cannot meet.

    A class with a method `variants` describes several runs, each with some settings changed; a
    setting may be given if it has an effect in one of them. A resumed run keeps its settings, so
    only the machine is checked.
    """
    values = values_of(settings)
    runs = [
        {**values, **changes}
        for changes in (settings.variants() if isinstance(settings, HasVariants) else [{}])
    ]
    for field, hint in leaves(type(settings)):
        for declared in metadata(hint):
            if isinstance(declared, HERE) and (
                bad := [run for run in runs if run[field.name] not in declared]
            ):
                raise Refusal(
                    f"{flag(field.name)} {shown(bad[0][field.name])}: expected {declared}."
                )
            if isinstance(declared, (OnlyWith, NotWith)) and not values.get("resume"):
                _refuse_unused(field, declared, runs, values)


def without_effect(settings: "DataclassInstance") -> set[str]:
    """The settings that have no effect with the values of the others."""
    values = values_of(settings)
    return {
        field.name
        for field, hint in leaves(type(settings))
        for declared in metadata(hint)
        if isinstance(declared, (OnlyWith, NotWith)) and declared.ignored(field.name, values)
    }


def _refuse_unused(
    field: dataclasses.Field, declared: OnlyWith | NotWith, runs: Iterable[Values], given: Values
) -> None:
    """given: the settings of the command line, whose --methods are the --method of each run."""
    users = [
        run
        for run in runs
        if run[field.name] != field.default
        and not (
            isinstance(declared, NotWith) and declared.of and run[field.name] not in declared.of
        )
    ]
    reasons = [declared.ignored(field.name, run) for run in users]
    if not reasons or not all(reasons):
        return
    reason = f"{_option(field.name, users[0][field.name])} {reasons[0]}."
    for name in [name for name in users[0].keys() - given.keys() if f"{name}s" in given]:
        reason = reason.replace(f"{flag(name)} ", f"{flag(name)}s ")
    raise Refusal(reason)


def _option(name: str, value: object) -> str:
    if isinstance(value, bool):
        return flag(name) if value else f"no {flag(name)}"
    return f"no {flag(name)}" if value is None else f"{flag(name)} {shown(value)}"


def _and(words: Iterable[str]) -> str:
    return " and ".join(words)
