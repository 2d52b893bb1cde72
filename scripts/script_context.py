"""What a user can act on is one line on standard error, not a traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from progress import quiet_bars

import pyrovae as pv
from pyrovae.data import DataError
from pyrovae.recipes.refusal import Refusal

KEPT = "Files that were complete stay as they are"


@contextmanager
def script_context() -> Iterator[None]:
    """Turn what a user can act on into one line and exit status 2: refusals, a full disk, a folder
    that cannot be written, too little memory. Bugs keep their traceback.

    What the library logs, such as what was compiled or why not, goes to the terminal, above the
    bars.
    """
    try:
        with quiet_bars():
            yield
    except (Refusal, DataError, pv.PairError, pv.CheckpointError, pv.NonFiniteLossError) as error:
        sys.exit(_complain(f"error: {error}", 2))
    except BrokenPipeError:  # whoever read the output has enough of it
        _forget_output()
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(
            _complain(
                f"error: {place}{error.strerror or _line(error)}. {KEPT}; mend that, or choose another --out, "
                "and start again with the same command (train_*.py --resume goes on from the checkpoint).",
                2,
            )
        )
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        sys.exit(
            _complain(
                f"error: too little memory ({_line(error)}). {KEPT}; ask for less: a smaller net or data "
                "set, fewer particles or draws, a lower --batch-size.",
                2,
            )
        )
    except KeyboardInterrupt:
        sys.exit(
            _complain(
                "interrupted; what was saved is intact: train_*.py goes on with --out DIR --resume, the other "
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
    """So that Python, as it ends, does not try to write to a closed pipe once more."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, status: int) -> int:
    print(message, file=sys.stderr)
    return status
