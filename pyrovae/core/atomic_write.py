"""Atomic writes: a file has its old content or its new one, never a part of it."""

import os
import re
import tempfile
from pathlib import Path

from pyrovae.core.process_ids import is_running, machine

PART = re.compile(r"\..*\.([0-9a-f]{8})-(\d+)-[^.]*\.part")
"""The name of a temporary file, with the machine and the process that write it."""


def write_atomically(path: str | Path, content: bytes) -> None:
    """Replace `path` by `content` so that a process or a machine that dies at any moment leaves
    the previous file intact.

    Temporary files of processes that died while writing are removed from the folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    here = machine()
    _sweep(path.parent, here)
    handle, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.{here}-{os.getpid()}-", suffix=".part"
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _keep_names(path.parent)


def _keep_names(folder: Path) -> None:
    """Flush the list of names in a folder to disk, where the system can (not on Windows)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:  # a file system that cannot
        pass
    finally:
        os.close(handle)


def _sweep(folder: Path, here: str) -> None:
    """Remove temporary files of processes of this machine that have ended."""
    for name in os.listdir(folder):
        found = PART.fullmatch(name)
        if found and found[1] == here and not is_running(int(found[2])):
            (folder / name).unlink(missing_ok=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
