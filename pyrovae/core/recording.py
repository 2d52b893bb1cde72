"""Whether a program is being recorded for capture: what it computes in Python is then constant in
all replays."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

from pyrovae.core.errors import CaptureError

_recording: ContextVar[bool] = ContextVar("pyrovae_recording", default=False)


@contextmanager
def recording() -> Iterator[None]:
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)


def is_recording() -> bool:
    return _recording.get()


def refuse_number(value: object, source: object) -> None:
    """Raise CaptureError where a schedule returns a Python number, which would be constant in
    replays."""
    if _recording.get() and not isinstance(value, Tensor):
        raise CaptureError(
            f"the schedule {source!r} returns the Python number {value!r}, which would be constant in replays; "
            "let it return a tensor and count in a buffer, as LinearWarmup does."
        )
