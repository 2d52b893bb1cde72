"""Device, memory and software versions of a run."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import pyrovae as pv
from pyrovae.recipes.refusal import Refusal


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA if available (the device of this process in
    distributed training), else the CPU. Raises Refusal for an unavailable device."""
    if name == "auto":
        return pv.Ranks(alone=True).device
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # the "meta" device holds no values
    except (RuntimeError, AssertionError) as error:
        raise Refusal(
            f"--device {name} is not available here ({str(error).splitlines()[0]}); use auto or cpu."
        ) from error
    return device


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """So many CPU threads inside: sums depend on their number in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def peak_memory_mib() -> float | None:
    """Peak memory of this process in MiB (with CUDA, of the device); None if the system does not
    report it."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def package_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """The commit of the code, followed by + if files have changed since; None outside a repository."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if dirty.stdout.strip() else "")
