"""Run the scripts in forked children, which start at once since everything is imported already,
and can be killed."""

import os
import runpy
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import pyro
import torch
from tqdm import tqdm

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
KILLED = -signal.SIGKILL


def preload() -> None:
    """Import what the scripts import, some of it only once they run, so that the children need not."""
    if str(SCRIPTS) not in sys.path:
        sys.path.insert(0, str(SCRIPTS))
    import arviz  # noqa: F401
    import compare_bnn  # noqa: F401
    import compare_vae  # noqa: F401
    import continual  # noqa: F401
    import h5netcdf  # noqa: F401
    import matplotlib.backends.backend_agg  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch._dynamo  # noqa: F401
    import train_bnn  # noqa: F401


def leave_figures_blank() -> None:
    """Figures of the children are made and written, but not rendered, which takes longest of a small
    run and of which no attack asks more than that the file is there."""
    from matplotlib.figure import Figure

    Figure.savefig = lambda figure, file, **options: file.write(b"\x89PNG\r\n\x1a\n")


def run_script(
    script: str, *arguments: object, log: Path, limit: float, kill_after: float | None = None
) -> int:
    """Exit status of `script` in a child; KILLED where it was killed after so many seconds.

    `log` receives what it prints. Raises: TimeoutError for a child that has not ended after
    `limit` seconds.
    """

    def work() -> None:
        sys.argv = [str(SCRIPTS / script), *map(str, arguments)]
        runpy.run_path(sys.argv[0], run_name="__main__")

    return in_child(work, log=log, limit=limit, kill_after=kill_after)


def in_child(
    work: Callable[[], object], *, log: Path, limit: float, kill_after: float | None = None
) -> int:
    """Call `work` in a forked child; its exit status (1 where an exception came through)."""
    sys.stdout.flush(), sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # fork beside threads, of which none holds a lock here
        child = os.fork()
    if child == 0:
        _become(work, log)
    start = time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        passed = time.monotonic() - start
        if passed > limit or kill_after is not None and passed > kill_after:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            if passed > limit:
                raise TimeoutError(f"a child has not ended after {limit} s; see {log}")
            return KILLED
        time.sleep(0.005)


def _become(work: Callable[[], object], log: Path) -> None:
    """The child's whole life."""
    status = 1
    try:
        # tqdm's own lock is shared with the parent, which would wait for ever for a killed child's
        tqdm.set_lock(threading.RLock())
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1), os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(1)
        pyro.enable_validation(__debug__)
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        work()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
