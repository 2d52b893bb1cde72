"""What the scripts share: a run's folder on disk, the choice of a device, and one-line refusals."""
import dataclasses
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from progress import quiet_bars

import pyrovae as pv
from pyrovae.data import DataError
from pyrovae.files import write_atomically

MAY_CHANGE = {"epochs", "out", "resume", "device", "threads", "compile", "eval_particles", "eval_data", "tensorboard",
              "bands"}
"""Settings that a resumed run may change."""
KEPT = "Files that were complete stay as they are"


@dataclasses.dataclass(frozen=True)
class Folder:
    """The files of one run."""

    path: Path

    run = property(lambda self: self.path / "run.json")
    history = property(lambda self: self.path / "history.csv")
    weights = property(lambda self: self.path / "weights.safetensors")
    best = property(lambda self: self.path / "best.safetensors")
    checkpoint = property(lambda self: self.path / "checkpoint.safetensors")
    figures = property(lambda self: self.path / "figures")

    @classmethod
    def for_run(cls, settings: object, default: str) -> "Folder":
        """A new folder, or with `resume` an old one whose run had the same settings. Raises Refusal otherwise."""
        folder = cls(settings.out or Path(default))
        if not settings.resume:
            if folder.checkpoint.exists() or folder.weights.exists():
                raise Refusal(f"{folder.path} already holds a run; choose another --out, or go on with it by --resume.")
            return folder
        if settings.out is None:
            raise Refusal("--resume needs the folder of the run: --out DIR.")
        if not folder.checkpoint.exists():
            raise Refusal(f"{folder.path} holds no checkpoint to resume from.")
        old, new = folder.read()["arguments"], as_json(settings)
        changed = [f"--{name.replace('_', '-')} was {old[name]}, is {new[name]}" for name in new
                   if name not in MAY_CHANGE and name in old and old[name] != new[name]]
        if changed:
            raise Refusal("a resumed run keeps its settings, but " + "; ".join(changed) + ".")
        return folder

    def read(self) -> dict:
        """The contents of run.json. Raises Refusal where there are none."""
        try:
            return json.loads(self.run.read_text())
        except FileNotFoundError as error:
            raise Refusal(f"{self.path} holds no run.json, so it is no run of train_vae.py.") from error
        except ValueError as error:
            raise Refusal(f"{self.run} is damaged ({error}).") from error

    def begin(self, settings: object, *, device: torch.device, **facts: object) -> None:
        """Write down what is known before training."""
        packages = ("pyrovae", "torch", "pyro-ppl", "zuko", "numpy")
        self._write({"script": Path(sys.argv[0]).name, "arguments": as_json(settings), "seed": settings.seed,
                     "device": device_name(device), "python": platform.python_version(),
                     "versions": {name: _version(name) for name in packages}, "git_commit": _git_commit(), **facts})

    def record(self, **facts: object) -> None:
        """Add to run.json."""
        self._write({**self.read(), **facts})

    def _write(self, content: dict) -> None:
        write_atomically(self.run, (json.dumps(content, indent=2) + "\n").encode())


class Refusal(ValueError):
    """A request the scripts turn down."""


def as_json(settings: object) -> dict:
    """A settings dataclass as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(settings), default=str))


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, this process's of several. Raises Refusal for a device that is not there."""
    if name == "auto":
        return pv.Ranks(alone=True).device
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # of the "meta" device there are no numbers
    except (RuntimeError, AssertionError) as error:
        raise Refusal(f"--device {name} is not available here ({str(error).splitlines()[0]}); use auto or cpu.") from error
    return device


def peak_memory_mib() -> float | None:
    """The most memory this process has held, in MiB (on CUDA, that of the device); None where the system cannot tell."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2 ** 20
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2 ** 20 if sys.platform == "darwin" else 2 ** 10)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


@contextmanager
def refuse_politely() -> Iterator[None]:
    """Turn what a user can act on into one line and exit status 2: refusals, a full disk, a folder that cannot be written,
    too little memory. Bugs keep their traceback.

    What the library logs, such as what was compiled or why not, goes to the terminal, above the bars.
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
        sys.exit(_complain(f"error: {place}{error.strerror or _line(error)}. {KEPT}; mend that, or choose another --out, "
                           "and start again with the same command (train_*.py --resume goes on from the checkpoint).", 2))
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        sys.exit(_complain(f"error: too little memory ({_line(error)}). {KEPT}; ask for less: a smaller net or data "
                           "set, fewer particles or draws, a lower --batch-size.", 2))
    except KeyboardInterrupt:
        sys.exit(_complain("interrupted; what was saved is intact: train_*.py goes on with --out DIR --resume, the other "
                           "scripts with the same command.", 130))


def _lacks_memory(error: Exception) -> bool:
    words = ("allocate memory", "not enough memory", "out of memory", "Storage size calculation overflowed",
             "numel: integer multiplication overflow")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _forget_output() -> None:
    """So that Python, as it ends, does not try to write to a closed pipe once more."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, status: int) -> int:
    print(message, file=sys.stderr)
    return status


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the code, with a + where files were changed since; None outside a repository."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if dirty.stdout.strip() else "")
