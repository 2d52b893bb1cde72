"""Progress bars that leave each other's lines whole, on a terminal and in a log file."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from tqdm import tqdm

LOG_SECONDS = 30.0
"""Seconds between two lines of one bar in a log file."""


def progress_bar(iterable: Iterable | None = None, **options: object) -> "tqdm":
    """tqdm's bar on standard error: one within another vanishes when it is done; to a file each
    state is a line.

    options: those of `tqdm.tqdm`; None as `file` is standard error. Nothing is printed before the
        call.

    Example:
        >>> import io
        >>> log = io.StringIO()
        >>> for _ in progress_bar(range(3), file=log, bar_format="{n}/{total}"):
        ...     pass
        >>> log.getvalue().splitlines()
        ['0/3', '3/3']
    """
    from tqdm.auto import tqdm

    stream = cast(TextIO, options.pop("file", None) or sys.stderr)
    if stream.isatty() or "ipykernel" in sys.modules:
        return tqdm(iterable, **{"file": stream, "leave": None, "dynamic_ncols": True, **options})
    return tqdm(
        iterable,
        **{
            **options,
            "mininterval": LOG_SECONDS,
            "maxinterval": LOG_SECONDS,
            "file": Lines(stream),
            "position": 0,
            "leave": True,
        },
    )


class Lines:
    """A file for tqdm that is not a terminal: each state of the bar is a line of its own, where a
    terminal would overwrite the last."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        if state := text.strip():
            self.stream.write(f"{state}\n")

    def flush(self) -> None:
        self.stream.flush()
