"""Settings that are several names in one word, joined by commas."""

from collections.abc import Iterable

from pyrovae.recipes.data_choice import did_you_mean
from pyrovae.recipes.refusal import Refusal


def several(option: str, text: str, known: Iterable[str]) -> list[str]:
    """The names in `text`, each once and one of `known`. Raises Refusal for others.

    Example:
        >>> several("--methods", "map,bbb", ["map", "bbb", "swag"])
        ['map', 'bbb']
    """
    names, known = text.split(","), list(known)
    if unknown := [name for name in names if name not in known]:
        raise Refusal(
            f"{option} names {', '.join(unknown)}; expected some of {', '.join(known)}."
            + did_you_mean(unknown[0], known)
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Refusal(f"{option} names {', '.join(twice)} more than once; expected each once.")
    return names
