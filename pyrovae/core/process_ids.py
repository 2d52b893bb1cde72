"""Which process wrote something, and whether it still runs."""

import hashlib
import os
import socket
from pathlib import Path

STILL_ACTIVE, MAY_ASK = 259, 0x1000
"""Windows constants: the exit status of a process that still runs, and the right to query it."""


def host() -> str:
    return socket.gethostname()


def machine() -> str:
    """Eight hex digits that identify this host, or the container: the scope of process ids."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{host()} {space}".encode()).hexdigest()[:8]


def started(pid: int) -> str | None:
    """When a process started, which distinguishes it from a later one of the same id; None where
    the system does not tell."""
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
    try:  # Z: a process that has ended, but whose parent has not waited for it
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
