"""Which settings of a comparison are of all its methods, and which of one alone."""

from collections.abc import Iterable, Mapping

from pyrovae.recipes.bnn_methods import METHODS
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.nesting import flatten
from pyrovae.recipes.resumed_settings import ADDED, as_json

OF_SOME = {name for method in METHODS.values() for name in method.settings}
NO_RESULT = {"dataset", "threads", "device", "compile"}
"""Settings that the caption of a table leaves out."""


def shared_settings(s: BnnSettings) -> dict[str, object]:
    """The settings that all methods use."""
    return {name: value for name, value in flatten(as_json(s)).items() if name not in OF_SOME}


def own_settings(method: str, s: BnnSettings) -> dict[str, object]:
    """The settings of this method that not all methods use."""
    settings = flatten(as_json(s))
    return {name: settings[name] for name in METHODS[method].settings}


def with_added(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings of a method of an earlier version, and the defaults of those that came later and
    change nothing."""
    usual = flatten(as_json(BnnSettings()))
    return {**{name: usual[name] for name in ADDED & usual.keys()}, **settings}


def caption(s: BnnSettings, own: Mapping[str, Mapping[str, object]]) -> str:
    """The settings other than the defaults, in words: of all methods, and `own` of each."""
    usual = flatten(as_json(BnnSettings()))

    def words(settings: Iterable[tuple[str, object]]) -> str:
        return ", ".join(
            f"--{name.replace('_', '-')} {_value(value)}"
            for name, value in settings
            if value != usual[name] and name not in NO_RESULT
        )

    parts = [words(shared_settings(s).items())]
    parts += [f"{method}: {text}" for method, one in own.items() if (text := words(one.items()))]
    return "; ".join(part for part in parts if part) or "the defaults"


def _value(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
