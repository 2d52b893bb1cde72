"""Files that are either the old ones or the new ones, never half of each."""

import os
import re
import tempfile
from pathlib import Path

from pyrovae.core.processes import is_running, machine

PART = re.compile(r"\..*\.([0-9a-f]{8})-(\d+)-[^.]*\.part")
"""The name of a file that is being written: the machine and the process that write it."""


def write_atomically(path: str | Path, content: bytes) -> None:
    """Replace `path` by `content` so that a process or a machine that dies at any moment leaves
    the previous file intact.

    What processes that died while they wrote left in the folder is removed.
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
    """Have the system write down which names a folder holds, where it can be asked to (not on
    Windows)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:  # a file system without it
        pass
    finally:
        os.close(handle)


def _sweep(folder: Path, here: str) -> None:
    """Remove what processes of this machine that are no more have begun to write."""
    for name in os.listdir(folder):
        found = PART.fullmatch(name)
        if found and found[1] == here and not is_running(int(found[2])):
            (folder / name).unlink(missing_ok=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
