"""The folder of a run: its files, and the lock on it."""

import dataclasses
import datetime
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

import pyrovae as pv
from pyrovae.recipes.folder_lock import owned
from pyrovae.recipes.machine import device_name, git_commit, package_version
from pyrovae.recipes.nesting import flatten
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import read_result, write_result
from pyrovae.recipes.resumed_settings import as_json, refuse_to_resume

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    class RunSettings(DataclassInstance, Protocol):
        """Settings that a folder needs of its run."""

        @property
        def out(self) -> Path | None: ...

        @property
        def resume(self) -> bool: ...

        @property
        def seed(self) -> int: ...


SCHEMA = 3
"""Version of run.json, incremented when the meaning of a key changes."""
READABLE = (2, SCHEMA)
"""Versions that can be read; in schema 2 the settings are flat."""
KEYS = ("script", "arguments", "seed", "data", "sessions")
RESULTS = ("evidence*.json", "evidence*.npz", "gaps.json", "table.md")
"""Files that evaluate.py writes; they describe the weights at that time."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """The files of one run of a script."""

    path: Path
    script: str = "train_vae.py"

    run = property(lambda self: self.path / "run.json")
    history = property(lambda self: self.path / "history.csv")
    weights = property(lambda self: self.path / "weights.safetensors")
    posterior = property(lambda self: self.path / "posterior.safetensors")
    best = property(lambda self: self.path / "best.safetensors")
    checkpoint = property(lambda self: self.path / "checkpoint.safetensors")
    figures = property(lambda self: self.path / "figures")

    @classmethod
    @contextmanager
    def for_run(
        cls, settings: "RunSettings", script: str, default: str, *, writes: bool = True
    ) -> Iterator["Folder"]:
        """Lock a new folder, or with `resume` the folder of a run with the same settings.

        writes: false for the other processes of distributed training. Raises Refusal before
        anything is changed if the folder cannot be used.
        """
        if settings.resume and settings.out is None:
            raise Refusal("--resume needs the folder of the run: --out DIR.")
        folder = cls(settings.out or Path(default), script)
        if settings.resume and not folder.checkpoint.exists() and not folder.run.exists():
            raise Refusal(f"{folder.path} holds no checkpoint to resume from.")
        with owned(folder.path) if writes else nullcontext():
            folder._admit(settings)
            outcome = "failed"
            started = _now()
            try:
                yield folder
                outcome = "finished"
            except KeyboardInterrupt:
                outcome = "interrupted"
                raise
            finally:
                if writes:
                    folder._end(started, outcome)

    def resumed_from(self, resume: bool) -> Path | None:
        """The checkpoint to go on from; None for a new run, and for one that was stopped before its
        first."""
        return self.checkpoint if resume and self.checkpoint.exists() else None

    def _admit(self, settings: "RunSettings") -> None:
        if not settings.resume:
            if self.run.exists():
                self.read()
            if self.checkpoint.exists() or self.weights.exists():
                raise Refusal(
                    f"{self.path} already holds a run; choose another --out, or continue it with --resume."
                )
            return
        refuse_to_resume(self.read(), settings, self.run)

    def read(self) -> dict:
        """The contents of run.json. Raises Refusal if it is missing, or of another script or
        version."""
        if not self.run.exists():
            raise Refusal(f"{self.path} holds no run.json, so it is not a run of {self.script}.")
        known = read_result(
            self.run,
            remedy="restore an intact copy of it, or start a new run in another folder",
        )
        if known.get("script", self.script) != self.script:
            raise Refusal(
                f"{self.path} holds a run of {known['script']}, not of {self.script}; choose another folder."
            )
        lacking = [name for name in KEYS if name not in known]
        if (
            lacking
            or known.get("schema") not in READABLE
            or not isinstance(known["arguments"], dict)
        ):
            raise Refusal(
                f"{self.run} is not a run.json of this version (schema {known.get('schema')}, expected {SCHEMA}"
                f"{'; it lacks ' + ', '.join(lacking) if lacking else ''}); start a new run in another folder."
            )
        return known

    def is_finished(self) -> bool:
        """Whether the last session completed, including the figures."""
        content = self.read()
        return "metrics" in content and content["sessions"][-1]["outcome"] == "finished"

    def refuse_other_data(self, digest: str) -> None:
        """Raise Refusal if the run was trained on other data."""
        if (old := self.read()["data"].get("sha256")) != digest:
            raise Refusal(
                f"the data are not those the run in {self.path} began with: their SHA-256 is {digest[:12]}..., "
                f"was {str(old)[:12]}...; restore them, or start a new run in another --out."
            )

    def begin(self, settings: "RunSettings", *, device: torch.device, **facts: object) -> None:
        """Write run.json before training; for a resumed run, add a session with what has changed."""
        packages = ("pyrovae", "torch", "pyro-ppl", "zuko", "numpy")
        old = self.read() if settings.resume else {"arguments": {}, "sessions": []}
        arguments = as_json(settings)
        before, now = flatten(old["arguments"]), flatten(arguments)
        machine = {
            "device": device_name(device),
            "python": platform.python_version(),
            "versions": {name: package_version(name) for name in packages},
            "git_commit": git_commit(),
        }
        changed = {
            name: [value, now.get(name)]
            for name, value in before.items()
            if name != "resume" and now.get(name) != value
        }
        session = {
            "started": _now(),
            "ended": None,
            "outcome": None,
            "changed": changed,
            **machine,
        }
        self._write(
            {
                "schema": SCHEMA,
                "script": self.script,
                "arguments": arguments,
                "seed": settings.seed,
                **machine,
                **facts,
                "sessions": [*old["sessions"], session],
            }
        )

    def _end(self, since: str, outcome: str) -> None:
        """Record the outcome of the session that started after `since`, if there is one."""
        content = read_result(self.run) if self.run.exists() else {}
        if not content.get("sessions"):
            return
        last = content["sessions"][-1]
        if last["ended"] is None and last["started"] >= since:
            last |= {"ended": _now(), "outcome": outcome}
            self._write(content)

    def replace_weights(self, loss: torch.nn.Module) -> None:
        """Save the weights; evaluation results of different earlier weights are moved to
        superseded/ first."""
        new = self.weights.with_suffix(".new.safetensors")
        pv.save_weights(loss, new)
        if (
            self.weights.exists() and self.weights.read_bytes() != new.read_bytes()
        ):  # equal weights are equal files
            results = [path for pattern in RESULTS for path in self.path.glob(pattern)]
            for path in results:
                kept = self.path / "superseded" / path.name
                kept.parent.mkdir(exist_ok=True)
                os.replace(path, kept)
        os.replace(new, self.weights)

    def record(self, **facts: object) -> None:
        """Add to run.json."""
        self._write({**self.read(), **facts})

    def _write(self, content: dict) -> None:
        write_result(self.run, content)


@dataclasses.dataclass(frozen=True)
class OnceAccepted:
    """A hook of `fit` that calls `act` once all inputs are validated, before the first step."""

    act: Callable[[], object]

    def begin(self, run: object) -> None:
        self.act()

    def __call__(self, run: object) -> None:
        """Nothing to do after an epoch."""


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()
