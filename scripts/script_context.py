"""Errors that a user can act on are reported in one line, without a traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from progress import quiet_bars

import pyrovae as pv
from pyrovae.data import DataError
from pyrovae.recipes.refusal import Refusal

KEPT = "Completed files are kept"


@contextmanager
def script_context() -> Iterator[None]:
    """Report errors that a user can act on in one line with exit status 2: refusals, a full disk, a
    folder that cannot be written, too little memory. Other errors keep their traceback.

    Log messages of the library, e.g. about compilation, are printed above the progress bars.
    """
    try:
        with quiet_bars():
            yield
    except (Refusal, DataError, pv.PairError, pv.CheckpointError, pv.NonFiniteLossError) as error:
        sys.exit(_complain(f"error: {error}", 2))
    except BrokenPipeError:  # the reader of the output has closed it
        _forget_output()
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(
            _complain(
                f"error: {place}{error.strerror or _line(error)}. {KEPT}; fix this, or choose another --out, "
                "and run the same command again (train_*.py --resume continues from the checkpoint).",
                2,
            )
        )
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        sys.exit(
            _complain(
                f"error: too little memory ({_line(error)}). {KEPT}; use a smaller network or data "
                "set, fewer particles or draws, a lower --batch-size.",
                2,
            )
        )
    except KeyboardInterrupt:
        sys.exit(
            _complain(
                "interrupted; saved files are intact: continue train_*.py with --out DIR --resume, the other "
                "scripts with the same command.",
                130,
            )
        )


def _lacks_memory(error: Exception) -> bool:
    words = (
        "allocate memory",
        "not enough memory",
        "out of memory",
        "Storage size calculation overflowed",
        "numel: integer multiplication overflow",
    )
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        word in str(error) for word in words
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _forget_output() -> None:
    """Redirect standard output, so that Python does not flush to a closed pipe at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, status: int) -> int:
    print(message, file=sys.stderr)
    return status
