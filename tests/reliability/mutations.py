"""Change bytes of the files of finished runs: whatever reads them again refuses in one line, or
reads what was there."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from contents import contents, differences
from kills import COMMANDS
from launch import preload, run_script

Mutation = Callable[[bytes, random.Random], bytes]


def flip(data: bytes, rng: random.Random) -> bytes:
    """One to eight bytes become others."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
    return bytes(changed)


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def drop(data: bytes, rng: random.Random) -> bytes:
    """A stretch of bytes is missing."""
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randrange(1, 100) :]


def double(data: bytes, rng: random.Random) -> bytes:
    """A stretch of bytes stands there twice."""
    start = rng.randrange(len(data))
    return data[:start] + data[start : start + rng.randrange(1, 100)] + data[start:]


def zeros(data: bytes, rng: random.Random) -> bytes:
    """A stretch of zeros, as a disk that was full leaves it."""
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.randrange(1, 4096))
    return data[:start] + bytes(end - start) + data[end:]


MUTATIONS: tuple[Mutation, ...] = (flip, flip, truncate, drop, double, zeros)


@dataclass(frozen=True)
class Reader:
    """A call that reads files of a finished run again."""

    script: str
    arguments: tuple
    files: tuple[str, ...]


VAE = COMMANDS["train_vae.py"]
READERS = {
    "train_vae.py": (
        Reader(
            "train_vae.py",
            (*VAE, "--epochs", 7, "--resume", "--out", "{run}"),
            ("checkpoint.safetensors", "run.json"),
        ),
        Reader(
            "evaluate.py",
            ("{run}", "--num-particles", 5, "--max-data", 20),
            ("weights.safetensors", "run.json"),
        ),
    ),
    "train_bnn.py": (
        Reader(
            "train_bnn.py",
            (*COMMANDS["train_bnn.py"], "--resume", "--out", "{run}"),
            (
                "checkpoint.safetensors",
                "run.json",
                "predictor/predictor.json",
                "predictor/weights.safetensors",
            ),
        ),
    ),
    "compare_vae.py": (
        Reader(
            "compare_vae.py",
            (*COMMANDS["compare_vae.py"], "--out", "{run}"),
            (
                "prior=standard/evidence.json",
                "prior=standard/evidence.npz",
                "prior=mixture/run.json",
                "prior=standard/weights.safetensors",
            ),
        ),
    ),
    "compare_bnn.py": (
        Reader(
            "compare_bnn.py",
            (*COMMANDS["compare_bnn.py"], "--out", "{run}"),
            ("methods/map.json", "methods/bbb.json", "settings.json", "methods/bbb.npz"),
        ),
    ),
    "continual.py": (
        Reader("continual.py", (*COMMANDS["continual.py"], "--out", "{run}"), ("continual.json",)),
    ),
}
"""The script that wrote a run -> what reads it again."""


@dataclass
class Report:
    mutations: int = 0
    refused: int = 0
    same: int = 0
    silent: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.mutations} mutations: {self.refused} refused in a line, {self.same} read as what was there or "
            f"rebuilt; silent differences: {', '.join(self.silent) or 'none'}; tracebacks: "
            f"{', '.join(self.tracebacks) or 'none'}"
        )


def attack(
    writer: str,
    folder: Path,
    *,
    mutations: int,
    seed: int,
    limit: float = 300.0,
    finished: Path | None = None,
) -> Report:
    """Results of `mutations` changed copies of one finished run of `writer`, each read again.

    finished: such a run, if there is one already; by default it is made.
    """
    preload()
    rng, report, log = random.Random(seed), Report(), folder / "log.txt"
    folder.mkdir(parents=True, exist_ok=True)
    original, run = folder / "original", folder / "run"
    if finished is not None:
        shutil.copytree(finished, original)
    elif run_script(writer, *COMMANDS[writer], "--out", original, log=log, limit=limit):
        raise RuntimeError(f"{writer} fails undisturbed; see {log}")
    expected = {
        reader: _read_again(reader, original, run, log, limit)[1] for reader in READERS[writer]
    }
    for index in range(mutations):
        reader = rng.choice(READERS[writer])
        name, change = rng.choice(reader.files), rng.choice(MUTATIONS)
        data = (original / name).read_bytes() if (original / name).exists() else b""
        changed = change(data, rng) if data else data
        if changed == data:
            continue
        report.mutations += 1
        label = f"{index}: {change.__name__} of {name}, read by {reader.script}"
        own = folder / f"log-{index}.txt"
        status, found = _read_again(reader, original, run, own, limit, {name: changed})
        text = own.read_text(errors="replace")
        if "Traceback" in text or status not in (0, 2):
            report.tracebacks.append(label)
        elif status == 2:
            report.refused += 1
        elif different := [file for file in differences(expected[reader], found) if file != name]:
            report.silent.append(f"{label}: {', '.join(different)}")
        else:
            report.same += 1
        if status in (0, 2) and "Traceback" not in text:
            own.unlink()
    return report


def _read_again(
    reader: Reader,
    original: Path,
    run: Path,
    log: Path,
    limit: float,
    files: dict[str, bytes] | None = None,
) -> tuple[int, dict[str, object]]:
    """Exit status and contents after the call, in a copy of the run where `files` were replaced."""
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(original, run)
    for name, data in (files or {}).items():
        (run / name).write_bytes(data)
    arguments = [str(argument).format(run=run) for argument in reader.arguments]
    status = run_script(reader.script, *arguments, log=log, limit=limit)
    return status, contents(run) if status == 0 else {}
