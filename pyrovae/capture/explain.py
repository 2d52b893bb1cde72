"""Explain a replay that failed: the program, run eagerly, raises an error that names the data."""

from collections.abc import Callable
from typing import TypeVar

from pyrovae.core.errors import first_line

Result = TypeVar("Result")
Explained = TypeVar("Explained")


def replay_or_explain(
    replay: Callable[[], Result],
    explain: Callable[[], Explained],
    give_up: Callable[[str], object],
) -> Result | Explained:
    """Return `replay()`. If it raises, return `explain()`, which runs the program eagerly and so
    raises the error of the data if they are the cause; if they are not, the graph is, and
    `give_up(reason)` is called to drop it.

    Example:
        >>> replay_or_explain(lambda: 1 / 0, lambda: "eager result", print)
        a replay failed (ZeroDivisionError: division by zero)
        'eager result'
    """
    try:
        return replay()
    except Exception as error:
        result = explain()
        give_up(f"a replay failed ({type(error).__name__}: {first_line(error)})")
        return result
