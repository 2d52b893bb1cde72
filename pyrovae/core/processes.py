"""Which process wrote something, and whether it still runs."""

import hashlib
import os
import socket
from pathlib import Path

STILL_ACTIVE, MAY_ASK = 259, 0x1000
"""Of Windows: the exit status of a process that has none yet, and the right to ask for it."""


def host() -> str:
    return socket.gethostname()


def machine() -> str:
    """Eight letters for this host, and in a container for it: where process ids mean the same."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{host()} {space}".encode()).hexdigest()[:8]


def started(pid: int) -> str | None:
    """When a process began, so that a later one of the same id is told from it; None where the
    system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return f"{boot} {fields[19]}"


def is_running(pid: int) -> bool:
    """Whether this machine runs a process of that id."""
    if os.name == "nt":
        return _is_running_on_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    except (OverflowError, ValueError):
        return False
    try:  # one that has ended, and whose parent has not asked how
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, UnicodeDecodeError):
        return True


def _is_running_on_windows(pid: int) -> bool:
    import ctypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]  # there on Windows alone
    status = ctypes.c_ulong()
    handle = kernel.OpenProcess(MAY_ASK, False, pid)
    if not handle:
        return kernel.GetLastError() == 5  # it is there, but another user's
    try:
        return (
            bool(kernel.GetExitCodeProcess(handle, ctypes.byref(status)))
            and status.value == STILL_ACTIVE
        )
    finally:
        kernel.CloseHandle(handle)
