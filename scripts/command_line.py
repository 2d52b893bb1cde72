"""Command lines from settings dataclasses: flags without prefixes, in groups, with help texts
wrapped to the terminal."""

import ast
import dataclasses
import inspect
import shutil
import sys
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, TypeVar

import tyro

from pyrovae.recipes.bounds import bound_of, metadata
from pyrovae.recipes.nesting import build, values_of
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.setting_rules import OnlyWith, Rule, refuse_unused, ruled, with_rule

T = TypeVar("T")


def parse(settings: type[T], description: str, args: Sequence[str] | None = None) -> T:
    """An instance of the dataclass `settings` from the command line.

    Nested dataclasses are flattened: their fields are flags too. `GROUPS` of a dataclass maps the
    first field of each group, in the order of declaration, to the title of the group in `--help`;
    other fields are plain options. Bounds and rules of the fields (`bounds`, `uses`) are shown in
    the help and checked.

    Raises:
        Refusal: an empty argument, a value outside its bounds, a setting without effect.
    """
    words = sys.argv[1:] if args is None else list(args)
    if {"-h", "--help"} & set(words):
        print(wrapped(description) + "\n")
    for before, word in zip(["the name of the script", *words], words):
        if word == "" or word.startswith("--") and word.endswith("="):
            raise Refusal(
                f"the argument after {before if word == '' else word} is empty; expected a value."
            )
    groups: dict[str, list[tuple]] = {}
    for group, leaf in _leaves(settings):
        groups.setdefault(group, []).append(leaf)
    top = [
        (title, tyro.conf.OmitArgPrefixes[_dataclass(title, leaves)])
        for title, leaves in groups.items()
        if title
    ]
    found = tyro.cli(_dataclass("Options", groups.get("", []) + top), description="", args=args)
    values = {
        name: value
        for title in groups
        for name, value in vars(getattr(found, title) if title else found).items()
    }
    built = build(settings, values)
    refuse_unused(built)
    return built


def wrapped(text: str) -> str:
    """Paragraphs filled to the width of the terminal; indented ones, such as commands, are kept."""
    width = min(shutil.get_terminal_size().columns, 120)
    return "\n\n".join(
        paragraph
        if paragraph.startswith(" ")
        else textwrap.fill(" ".join(paragraph.split()), width)
        for paragraph in text.rstrip().split("\n\n")
    )


def docstrings(settings: type) -> dict[str, str]:
    """Field -> its docstring, on one line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    return {
        field.target.id: " ".join(doc.value.value.split())
        for field, doc in zip(body.body, body.body[1:])
        if isinstance(field, ast.AnnAssign)
        and isinstance(doc, ast.Expr)
        and isinstance(doc.value, ast.Constant)
    }


def _leaves(
    settings: type,
    given: Mapping[str, Rule] | None = None,
    group: str = "",
    start: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[tuple[str, tuple]]:
    """(group, field in the form of `make_dataclass`) for every flag; `start` has the defaults that the
    dataclass around this one gives it."""
    hints, docs = typing.get_type_hints(settings, include_extras=True), docstrings(settings)
    starts, rules = getattr(settings, "GROUPS", {}), ruled(settings, given)
    for field in dataclasses.fields(settings):
        group, hint = starts.get(field.name, group), hints[field.name]
        if dataclasses.is_dataclass(hint):
            made = field.default_factory
            own = {} if made is dataclasses.MISSING else values_of(made())
            yield from _leaves(hint, rules, group, {**own, **start})
            continue
        hint = with_rule(hint, rules.get(field.name))
        words = _help(docs.get(field.name, ""), hint)
        hint = Annotated[hint, tyro.conf.arg(help=words)] if words else hint
        value = start.get(field.name, field.default)
        default = () if value is dataclasses.MISSING else (dataclasses.field(default=value),)
        yield group, (field.name, hint, *default)


def _help(doc: str, hint: object) -> str:
    """Help text of a field: the values of other settings it applies to, its docstring, its
    bounds."""
    uses, bound = (
        ", ".join(str(one) for one in metadata(hint) if isinstance(one, OnlyWith)),
        bound_of(hint),
    )
    text = ": ".join(filter(None, (uses, doc)))
    return f"{text} ({bound})" if text and bound else text or bound


def _dataclass(name: str, fields: list[tuple]) -> type:
    made = dataclasses.make_dataclass(name, fields, kw_only=True)
    made.__doc__ = None
    return made
