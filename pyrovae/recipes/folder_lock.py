"""A lock file that lets one process at a time write to a folder."""

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyrovae.core.process_ids import host, is_running, machine, started
from pyrovae.recipes.refusal import Refusal

NAME, TRIES, PAUSE = ".lock", 50, 0.02
"""Name of the lock file; how often, and at which interval in seconds, an empty one is read again."""


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder. The folder is created if needed, and removed again if it is empty
    at the end.

    A lock left by a dead process of this machine is taken over. Raises Refusal if another process
    holds the lock.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / NAME
    mine = json.dumps(
        {
            "pid": os.getpid(),
            "host": host(),
            "machine": machine(),
            "started": started(os.getpid()),
            "key": secrets.token_hex(8),
        }
    )
    _take(lock, mine)
    try:
        yield
    finally:
        if _content(lock) == mine:
            lock.unlink(missing_ok=True)
        if new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _take(lock: Path, mine: str) -> None:
    empty = 0
    while True:
        try:
            handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            theirs = _content(lock)
            if theirs is None:  # released in the meantime
                if lock.is_symlink():
                    raise Refusal(f"{lock} is a dangling link; remove it.") from None
                continue
            empty += not theirs
            if theirs:
                _refuse_the_living(lock, theirs)
            if theirs or empty > TRIES:
                _bury(lock, theirs)
            time.sleep(PAUSE)
            continue
        with os.fdopen(handle, "w") as file:
            file.write(mine)
        return


def _content(lock: Path) -> str | None:
    try:
        return lock.read_text(errors="replace")
    except FileNotFoundError:
        return None


def _refuse_the_living(lock: Path, text: str) -> None:
    """Raise Refusal unless the process that wrote the lock is known to have ended."""
    try:
        owner = json.loads(text)
        pid, began = int(owner["pid"]), owner["started"]
        same_process = began is None or started(pid) in (None, began)
        dead = owner["machine"] == machine() and not (is_running(pid) and same_process)
        who = f"process {pid} on {owner['host']}"
    except (ValueError, KeyError, TypeError):
        dead, who = False, "an unknown process"
    if not dead:
        raise Refusal(
            f"{lock.parent} is being written to by {who}; wait until it ends, choose another --out, or remove "
            f"{lock} if you know that it has ended."
        )


def _bury(lock: Path, text: str) -> None:
    """Remove the lock of a dead process; if another process has replaced it in the meantime, put
    that lock back."""
    grave = lock.with_name(f"{NAME}.{secrets.token_hex(8)}")
    try:
        os.rename(lock, grave)
    except FileNotFoundError:
        return
    if _content(grave) != text and not lock.exists():
        os.rename(grave, lock)
    else:
        grave.unlink(missing_ok=True)
