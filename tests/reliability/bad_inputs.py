"""Bad settings and bad files for every script: each is refused in one line, and nothing hangs."""

import random
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bad_files import FILES, SPECIAL
from kills import BNN, COMMANDS, VAE
from launch import preload, run_script

DATA_OPTIONS = {
    "train_vae.py": ("--dataset", (*VAE, "--likelihood", "normal-learned")),
    "train_vae.py pixels": ("--dataset", VAE),
    "train_bnn.py": ("--dataset", COMMANDS["train_bnn.py"]),
    "train_bnn.py table": ("--dataset", (*COMMANDS["train_bnn.py"], "--target", "a")),
    "train_bnn.py foreign": ("--ood", ("--dataset", "digits", "--method", "map", *BNN)),
    "compare_bnn.py": ("--dataset", COMMANDS["compare_bnn.py"]),
    "compare_vae.py": ("--dataset", COMMANDS["compare_vae.py"]),
    "continual.py": ("--dataset", ("--problem", "regression-stream", *COMMANDS["continual.py"])),
}
"""A script that reads users' data -> the option that names them, and a small run."""

BAD = {
    int: ("-1", "0", "1.5", "many", "", "nan", "1e3"),
    float: ("nan", "inf", "-inf", "-1", "0", "", "much", "1e400"),
    str: ("", "no-such-thing", "\t", "x" * 3000),
    Path: ("/dev/null/run", "/proc/run"),
    bool: ("maybe",),
}
LONG = {"epochs", "steps", "epochs_per_task"}
"""Settings whose largest values are legitimate and take for ever."""
CLASHES = (
    ("train_vae.py", "--objective", "elbo", "--alpha", "0.3"),
    ("train_vae.py", "--objective", "iwae", "--particles", "1"),
    ("train_vae.py", "--clip-norm", "0"),
    ("train_vae.py", "--seed", str(2**64)),
    ("train_vae.py", "--threads", "4096"),
    ("train_vae.py", "--capacity", "3"),
    ("train_vae.py", "--refine-steps", "2", "--objective", "score-function"),
    ("train_vae.py", "--patience", "3", "--valid-size", "0"),
    ("train_vae.py", "--valid-size", "100000"),
    ("train_vae.py", "--net", "conv", "--hidden"),
    ("train_vae.py", "--resume"),
    ("train_vae.py", "--device", "cuda:99"),
    ("train_vae.py", "--device", "tpu"),
    ("train_vae.py", "--no-such-option", "1"),
    ("train_vae.py", "extra"),
    ("train_bnn.py", "--ood", "noise"),
    ("train_bnn.py", "--temperature", "-1"),
    ("train_bnn.py", "--dataset", ""),
    ("train_bnn.py", "--method", "map", "--members", "9"),
    ("train_bnn.py", "--mixture", "2", "1", "1"),
    ("train_bnn.py", "--rate", "1.0", "--method", "mc-dropout"),
    ("train_bnn.py", "--splits", "0"),
    ("train_bnn.py", "--valid-fraction", "1.5"),
    ("train_bnn.py", "--bands", "--dataset", "digits"),
    ("train_bnn.py", "--target", "bmi"),
    ("train_bnn.py", "--task", "classification"),
    ("predict.py",),
    ("predict.py", "/nowhere", "rows.csv", "--out", "p.csv"),
    ("predict.py", ".", "/dev/null", "--out", "p.csv"),
    ("compare_bnn.py", "--methods", ""),
    ("compare_bnn.py", "--methods", "map,,bbb"),
    ("compare_bnn.py", "--methods", "bbp"),
    ("compare_bnn.py", "--methods", "map,map"),
    ("compare_vae.py", "--grid"),
    ("compare_vae.py", "--grid", "epochs=0"),
    ("compare_vae.py", "--grid", "prior=standard,bogus"),
    ("compare_vae.py", "--grid", "dataset=../../x.npz"),
    ("compare_vae.py", "--grid", "lr=nan"),
    ("compare_vae.py", "--grid", "="),
    ("compare_vae.py", "--grid", "prior="),
    ("continual.py", "--methods", ""),
    ("continual.py", "--tasks", "99", "--problem", "split-digits"),
    ("continual.py", "--sort-by", "99", "--problem", "regression-stream"),
    ("evaluate.py",),
    ("evaluate.py", "/nowhere"),
    ("evaluate.py", "."),
    ("evaluate.py", "/dev/null"),
    ("gradient_variance.py", "--seed", "-1"),
    ("collapse.py", "--epochs", "0"),
    ("reproduce.py", "nothing"),
    ("benchmark.py", "nothing"),
    ("benchmark.py", "tiny", "--rounds", "0"),
    ("benchmark.py", "tiny", "--threads", "0"),
)
"""Settings that contradict each other, the data or the machine."""


@dataclass(frozen=True)
class Case:
    script: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        shown = " ".join(
            argument if len(argument) < 60 else argument[:57] + "..."
            for argument in self.arguments
        )
        return repr(f"{self.script} {shown}")


@dataclass
class Report:
    inputs: int = 0
    refused: int = 0
    accepted: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.inputs} bad inputs: {self.refused} refused in a line, {len(self.accepted)} accepted and run; "
            f"tracebacks: {', '.join(self.tracebacks) or 'none'}; hangs: {', '.join(self.hangs) or 'none'}"
        )


def cases(folder: Path) -> list[Case]:
    """All that there are; the files are made in `folder`."""
    preload()
    return [
        *_of_settings(),
        *(Case(script, arguments) for script, *arguments in CLASHES),
        *_of_files(folder),
    ]


def attack(folder: Path, *, inputs: int | None, seed: int, limit: float = 60.0) -> Report:
    """So many of the cases, chosen at random (None for all), each in a process of its own."""
    report, every = Report(), cases(folder / "files")
    chosen = (
        every if inputs is None else random.Random(seed).sample(every, min(inputs, len(every)))
    )
    for index, case in enumerate(chosen):
        report.inputs += 1
        log = folder / f"log-{index}.txt"
        out = (
            ()
            if case.script == "evaluate.py" or "--out" in case.arguments
            else ("--out", str(folder / f"run-{index}"))
        )
        try:
            status = run_script(case.script, *case.arguments, *out, log=log, limit=limit)
        except TimeoutError:
            report.hangs.append(str(case))
            continue
        text = log.read_text(errors="replace")
        if "Traceback" in text or status not in (0, 2):
            report.tracebacks.append(f"{case} ({log})")
        elif status == 0:
            report.accepted.append(str(case))
        else:
            report.refused += 1
        if status in (0, 2) and "Traceback" not in text:
            log.unlink()
    return report


def _of_settings() -> Iterator[Case]:
    """One bad value for one setting, of every script."""
    from compare_vae import Comparison
    from evaluate import Evaluation

    from pyrovae.recipes.bnn_settings import BnnSettings
    from pyrovae.recipes.continual_settings import ContinualSettings
    from pyrovae.recipes.nesting import hints_of
    from pyrovae.recipes.vae_settings import Settings

    owners = {
        "train_vae.py": Settings,
        "train_bnn.py": BnnSettings,
        "compare_bnn.py": BnnSettings,
        "continual.py": ContinualSettings,
        "compare_vae.py": Comparison,
        "evaluate.py": Evaluation,
    }
    for script, owner in owners.items():
        for name, hint in hints_of(owner).items():
            if name in ("folder", "grid"):
                continue
            for value in _bad_values(hint):
                option = "--" + name.replace("_", "-")
                base = ("/nowhere",) if script == "evaluate.py" else COMMANDS[script]
                yield Case(script, (*map(str, base), option, value))


def _bad_values(hint: object) -> list[str]:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [part for part in parts if part is not type(None)]
        return _bad_values(kinds[0])
    if origin is typing.Literal:
        return ["bogus", ""]
    if origin is tuple:
        return [value for value in _bad_values(parts[0]) if value]
    return list(BAD.get(hint, ()))


def _of_files(folder: Path) -> Iterator[Case]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(make(folder / name)) for name, make in FILES.items()]
    for place, (option, base) in DATA_OPTIONS.items():
        for path in (*paths, *SPECIAL):
            yield Case(place.split()[0], (*map(str, base), f"{option}={path}"))
