"""Kill each script that writes results at random instants, go on, and compare with a run that
nobody disturbed."""

import random
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from contents import contents, differences
from launch import KILLED, preload, run_script

VAE = ("--epochs", 4, "--hidden", 16, "--eval-particles", 20, "--eval-data", 50)
BNN = ("--steps", 30, "--hidden", 8, "--batch-size", 128, "--num-samples", 5)
COMMANDS = {
    "train_vae.py": VAE,
    "train_bnn.py": ("--method", "bbb", "--splits", 1, *BNN),
    "compare_vae.py": (
        "--grid",
        "prior=standard,mixture",
        *VAE,
        "--epochs",
        2,
        "--score-particles",
        20,
        "--score-data",
        50,
    ),
    "compare_bnn.py": ("--methods", "map,bbb", "--splits", 1, *BNN),
    "continual.py": (
        "--tasks",
        2,
        "--methods",
        "plain,vcl",
        "--epochs",
        2,
        "--hidden",
        8,
        "--batch-size",
        256,
        "--num-samples",
        2,
    ),
}
"""Script -> a small run of it."""
RESUMED = ("train_vae.py", "train_bnn.py")
"""Scripts that go on with --resume; the others are started again with the same command."""


@dataclass
class Report:
    kills: int = 0
    different: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills; files lost or different: {', '.join(self.different) or 'none'}; calls that failed: "
            f"{', '.join(self.failed) or 'none'}"
        )


def attack(
    script: str, folder: Path, *, kills: int, seed: int, compile: str = "off", limit: float = 300.0
) -> Report:
    """A run that is killed `kills` times, at instants uniform over an undisturbed run's duration,
    against that run."""
    preload()
    rng, report, log = random.Random(seed), Report(), folder / "log.txt"
    folder.mkdir(parents=True, exist_ok=True)
    command = (*COMMANDS[script], "--compile", compile)
    start = time.monotonic()
    status = run_script(script, *command, "--out", folder / "whole", log=log, limit=limit)
    duration = time.monotonic() - start
    if status:
        raise RuntimeError(f"{script} ends with status {status} undisturbed; see {log}")
    whole, out = contents(folder / "whole"), folder / "killed"
    while report.kills < kills:
        shutil.rmtree(out, ignore_errors=True)
        while True:
            go_on = script in RESUMED and (out / "checkpoint.safetensors").exists()
            instant = rng.uniform(0, 1.05 * duration) if report.kills < kills else None
            status = run_script(
                script,
                *command,
                "--out",
                out,
                *(["--resume"] if go_on else []),
                log=log,
                limit=limit,
                kill_after=instant,
            )
            if status != KILLED:
                break
            report.kills += 1
        if status:
            report.failed.append(f"{script} (status {status}, see {log})")
            break
        report.different += [f"{script}: {name}" for name in differences(whole, contents(out))]
    return report
