"""Progress bars, and messages printed above them."""

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

from pyrovae.core.progress import progress_bar
from pyrovae.data import Batches

__all__ = ["evidence_bar", "progress_bar", "quiet_bars", "say"]


def say(text: object) -> None:
    """Print to standard output, above the progress bars."""
    tqdm.write(str(text))


def evidence_bar(
    data: Batches, num_particles: int, *, desc: str = "log p(x)", **options: object
) -> tqdm:
    """A bar for the `progress` callback of `log_evidence`; it counts particles times data."""
    return progress_bar(
        total=len(data.data) * num_particles,
        desc=desc,
        unit=" particles",
        unit_scale=True,
        **options,
    )


@contextmanager
def quiet_bars() -> Iterator[None]:
    """Print log messages and warnings above the bars, and close all bars at the end."""
    logging.basicConfig(format="%(message)s", handlers=[_AboveBars()])
    logging.getLogger("pyrovae").setLevel(logging.INFO)
    shown, warnings.showwarning = warnings.showwarning, _show_warning
    own = {
        handler: handler.stream
        for handler in logging.getLogger("torch").handlers  # torch brings handlers of its own
        if isinstance(handler, logging.StreamHandler)
        and handler.stream in (sys.stderr, sys.__stderr__)
    }
    for handler in own:
        handler.setStream(_Above())
    try:
        yield
    finally:
        warnings.showwarning = shown
        for handler, stream in own.items():
            handler.setStream(stream)
        for bar in list(getattr(tqdm, "_instances", ())):
            bar.close()


class _Above(io.TextIOBase):
    def write(self, text: str) -> int:
        tqdm.write(text, file=sys.stderr, end="")
        return len(text)


class _AboveBars(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def _show_warning(message: Warning, category: type[Warning], *_: object) -> None:
    tqdm.write(f"{category.__name__}: {message}", file=sys.stderr)
