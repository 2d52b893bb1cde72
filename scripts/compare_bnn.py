"""Compare methods for Bayesian neural networks on one data set, with the same model and metrics.
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
    python scripts/compare_bnn.py --dataset diabetes --methods map,bbb,mc-dropout,ensemble --out
from pyrovae.recipes.wording import counted
    runs/diabetes
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
writes comparison.csv, comparison.json, comparison.md, an ArviZ file for each method, and figures.
from pyrovae.recipes.wording import counted
Run again with the same command, it continues where it stopped.
from pyrovae.recipes.wording import counted
"""
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
import dataclasses
from pyrovae.recipes.wording import counted
import json
from pyrovae.recipes.wording import counted
import time
from pyrovae.recipes.wording import counted
from contextlib import nullcontext
from pyrovae.recipes.wording import counted
from pathlib import Path
from pyrovae.recipes.wording import counted
from typing import Annotated, ClassVar, Literal
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
import command_line
from pyrovae.recipes.wording import counted
import torch
from pyrovae.recipes.wording import counted
import tyro
from pyrovae.recipes.wording import counted
from progress import progress_bar, say
from pyrovae.recipes.wording import counted
from script_context import script_context
from pyrovae.recipes.wording import counted
from torch import Tensor
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
import pyrovae as pv
from pyrovae.recipes.wording import counted
import pyrovae.plots as plots
from pyrovae.recipes.wording import counted
from pyrovae.core.atomic_write import write_atomically
from pyrovae.recipes.wording import counted
from pyrovae.recipes import bounds
from pyrovae.recipes.wording import counted
from pyrovae.recipes.bnn_data import load_task
from pyrovae.recipes.wording import counted
from pyrovae.recipes.bnn_figures import bands, figures, refuse_bands
from pyrovae.recipes.wording import counted
from pyrovae.recipes.bnn_methods import EXPLAINED, METHODS, RULES
from pyrovae.recipes.wording import counted
from pyrovae.recipes.bnn_report import Scores, markdown, read_scores, save_scores, score, to_arviz
from pyrovae.recipes.wording import counted
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.wording import counted
from pyrovae.recipes.bnn_task import Task
from pyrovae.recipes.wording import counted
from pyrovae.recipes.bnn_train import train
from pyrovae.recipes.wording import counted
from pyrovae.recipes.bnn_unknown import load_unknown
from pyrovae.recipes.wording import counted
from pyrovae.recipes.bounds import OutFolder
from pyrovae.recipes.wording import counted
from pyrovae.recipes.data_choice import did_you_mean
from pyrovae.recipes.wording import counted
from pyrovae.recipes.folder_lock import owned
from pyrovae.recipes.wording import counted
from pyrovae.recipes.machine import choose_device
from pyrovae.recipes.wording import counted
from pyrovae.recipes.nesting import flatten
from pyrovae.recipes.wording import counted
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.wording import counted
from pyrovae.recipes.results import find_result, read_result, write_result
from pyrovae.recipes.wording import counted
from pyrovae.recipes.run_folder import as_json
from pyrovae.recipes.wording import counted
from pyrovae.recipes.setting_rules import Rule
from pyrovae.recipes.wording import counted
from pyrovae.recipes.tables import write_csv, write_markdown
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
WORKS = 7 * 24 * 3600.0
from pyrovae.recipes.wording import counted
"""Seconds that a process waits for the others after finishing its own share of the work."""
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
@dataclasses.dataclass(frozen=True, kw_only=True)
from pyrovae.recipes.wording import counted
class Comparison:
from pyrovae.recipes.wording import counted
    GROUPS: ClassVar[dict[str, str]] = {"methods": "method", "ood": "data", "budget": "run"}
from pyrovae.recipes.wording import counted
    RULES: ClassVar[dict[str, Rule]] = RULES
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
    methods: Annotated[str, tyro.conf.arg(help=f"Names joined by commas, of:\n{EXPLAINED}")] = (
from pyrovae.recipes.wording import counted
        "map,bbb,mc-dropout,ensemble"
from pyrovae.recipes.wording import counted
    )
from pyrovae.recipes.wording import counted
    settings: BnnSettings
from pyrovae.recipes.wording import counted
    ood: str | None = None
from pyrovae.recipes.wording import counted
    """Out-of-distribution data for classifiers: digits, mnist, fashion-mnist, kmnist, noise,
from pyrovae.recipes.wording import counted
    photographs (patches of the two that ship with scikit-learn), or a PATH."""
from pyrovae.recipes.wording import counted
    budget: Literal["equal-steps", "equal-time"] = "equal-steps"
from pyrovae.recipes.wording import counted
    """equal-time: every method trains as long as the first one took, up to one epoch; hmc keeps
from pyrovae.recipes.wording import counted
    its number of steps."""
from pyrovae.recipes.wording import counted
    bands: bool = False
from pyrovae.recipes.wording import counted
    """Also train each method on toy data, a synthetic 1-D set with a gap, and plot its predictive
from pyrovae.recipes.wording import counted
    bands (regression only)."""
from pyrovae.recipes.wording import counted
    out: Annotated[OutFolder, tyro.conf.arg(help="folder of the results")] = Path(
from pyrovae.recipes.wording import counted
        "runs/comparison"
from pyrovae.recipes.wording import counted
    )
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
    def __post_init__(self) -> None:
from pyrovae.recipes.wording import counted
        bounds.check(self)
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
    def variants(self) -> list[dict[str, str]]:
from pyrovae.recipes.wording import counted
        """The method of each run."""
from pyrovae.recipes.wording import counted
        methods = self.methods.split(",")
from pyrovae.recipes.wording import counted
        if unknown := [method for method in methods if method not in METHODS]:
from pyrovae.recipes.wording import counted
            raise Refusal(
from pyrovae.recipes.wording import counted
                f"--methods names {', '.join(unknown)}; expected some of {', '.join(METHODS)}."
from pyrovae.recipes.wording import counted
                + did_you_mean(unknown[0], METHODS)
from pyrovae.recipes.wording import counted
            )
from pyrovae.recipes.wording import counted
        return [{"method": method} for method in methods]
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
def compare(c: Comparison) -> dict[str, Scores]:
from pyrovae.recipes.wording import counted
    """Train and score all methods, distributed over the processes; returns the scores in the first
from pyrovae.recipes.wording import counted
    process."""
from pyrovae.recipes.wording import counted
    s, methods = c.settings, tuple(run["method"] for run in c.variants())
from pyrovae.recipes.wording import counted
    device, task = choose_device(s.run.device), load_task(s)
from pyrovae.recipes.wording import counted
    torch.set_num_threads(s.run.threads or 1)
from pyrovae.recipes.wording import counted
    unknown = load_unknown(c.ood, task) if c.ood else None
from pyrovae.recipes.wording import counted
    refuse_bands(c.bands, task)
from pyrovae.recipes.wording import counted
    for method in methods:  # before the first one is trained
from pyrovae.recipes.wording import counted
        METHODS[method].refuse_short(s, task)
from pyrovae.recipes.wording import counted
    ranks = pv.Ranks(timeout=WORKS)
from pyrovae.recipes.wording import counted
    if ranks.size > 1 and c.budget == "equal-time":
from pyrovae.recipes.wording import counted
        raise Refusal("--budget equal-time trains methods one after another; use one process.")
from pyrovae.recipes.wording import counted
    with owned(c.out) if ranks.first else nullcontext():
from pyrovae.recipes.wording import counted
        refuse_other_settings(c)
from pyrovae.recipes.wording import counted
        seconds = None
from pyrovae.recipes.wording import counted
        for method in progress_bar(ranks.share(methods), desc=task.name, unit="method"):
from pyrovae.recipes.wording import counted
            path = c.out / "methods" / f"{method}.json"
from pyrovae.recipes.wording import counted
            found = find_result(path) or run_one(method, c, task, unknown, device, seconds, path)
from pyrovae.recipes.wording import counted
            seconds = seconds or found["seconds"]
from pyrovae.recipes.wording import counted
        ranks.close()
from pyrovae.recipes.wording import counted
        return report(methods, task, c) if ranks.first else {}
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
def refuse_other_settings(c: Comparison) -> None:
from pyrovae.recipes.wording import counted
    """Write the settings to --out; raise Refusal if it has a comparison with other settings."""
from pyrovae.recipes.wording import counted
    begun, settings = (
from pyrovae.recipes.wording import counted
        c.out / "settings.json",
from pyrovae.recipes.wording import counted
        {**flatten(as_json(c.settings)), "ood": c.ood, "budget": c.budget},
from pyrovae.recipes.wording import counted
    )
from pyrovae.recipes.wording import counted
    if begun.exists() and (old := read_result(begun)) != settings:
from pyrovae.recipes.wording import counted
        changed = sorted(name for name in settings if old.get(name) != settings[name])
from pyrovae.recipes.wording import counted
        raise Refusal(
from pyrovae.recipes.wording import counted
            f"{c.out} holds a comparison with other settings ({', '.join(changed)}); choose another --out."
from pyrovae.recipes.wording import counted
        )
from pyrovae.recipes.wording import counted
    write_result(begun, settings)
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
def run_one(
from pyrovae.recipes.wording import counted
    method: str,
from pyrovae.recipes.wording import counted
    c: Comparison,
from pyrovae.recipes.wording import counted
    task: Task,
from pyrovae.recipes.wording import counted
    unknown: Tensor | None,
from pyrovae.recipes.wording import counted
    device: torch.device,
from pyrovae.recipes.wording import counted
    seconds: float | None,
from pyrovae.recipes.wording import counted
    path: Path,
from pyrovae.recipes.wording import counted
) -> dict:
from pyrovae.recipes.wording import counted
    """Train and score a method, and write its results; the JSON file, written last, marks it done."""
from pyrovae.recipes.wording import counted
    s, start = c.settings, time.perf_counter()
from pyrovae.recipes.wording import counted
    trained = train(
from pyrovae.recipes.wording import counted
        METHODS[method],
from pyrovae.recipes.wording import counted
        s,
from pyrovae.recipes.wording import counted
        task,
from pyrovae.recipes.wording import counted
        seconds=seconds if c.budget == "equal-time" else None,
from pyrovae.recipes.wording import counted
        device=device,
from pyrovae.recipes.wording import counted
    )
from pyrovae.recipes.wording import counted
    scores = score(trained, s, task, unknown)
from pyrovae.recipes.wording import counted
    to_arviz(trained, task, arviz := c.out / "arviz" / f"{method}.nc")
from pyrovae.recipes.wording import counted
    save_scores(
from pyrovae.recipes.wording import counted
        scores,
from pyrovae.recipes.wording import counted
        path,
from pyrovae.recipes.wording import counted
        {
from pyrovae.recipes.wording import counted
            "method": method,
from pyrovae.recipes.wording import counted
            "steps": trained.steps,
from pyrovae.recipes.wording import counted
            "seconds": trained.seconds,
from pyrovae.recipes.wording import counted
            "num_samples": trained.num_samples,
from pyrovae.recipes.wording import counted
            "wall_seconds": time.perf_counter() - start,
from pyrovae.recipes.wording import counted
        },
from pyrovae.recipes.wording import counted
        files=[arviz],
from pyrovae.recipes.wording import counted
    )
from pyrovae.recipes.wording import counted
    return read_result(path)
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
def report(methods: tuple[str, ...], task: Task, c: Comparison) -> dict[str, Scores]:
from pyrovae.recipes.wording import counted
    """Print and write the tables and figures of all methods."""
from pyrovae.recipes.wording import counted
    s = c.settings
from pyrovae.recipes.wording import counted
    scores = {method: read_scores(c.out / "methods" / f"{method}.json") for method in methods}
from pyrovae.recipes.wording import counted
    write(scores, c.out)
from pyrovae.recipes.wording import counted
    say(
from pyrovae.recipes.wording import counted
        f"{task.name}: {counted(task.num_splits * s.run.seeds, 'network')} a method, {s.run.num_samples} draws; "
from pyrovae.recipes.wording import counted
        f"mean ± standard error over splits and seeds\n\n"
from pyrovae.recipes.wording import counted
        f"{(c.out / 'comparison.md').read_text()}\nwritten to {c.out}/comparison.csv, .json and .md"
from pyrovae.recipes.wording import counted
    )
from pyrovae.recipes.wording import counted
    drawn = figures(scores, task)
from pyrovae.recipes.wording import counted
    if c.bands and not (c.out / "figures" / "bands.png").exists():
from pyrovae.recipes.wording import counted
        drawn["bands"] = bands([METHODS[method] for method in methods], s)
from pyrovae.recipes.wording import counted
    plots.save(drawn, c.out / "figures")
from pyrovae.recipes.wording import counted
    say(
from pyrovae.recipes.wording import counted
        f"figures: {', '.join(sorted(path.name for path in (c.out / 'figures').glob('*.png'))) or 'none'} in "
from pyrovae.recipes.wording import counted
        f"{c.out / 'figures'}"
from pyrovae.recipes.wording import counted
    )
from pyrovae.recipes.wording import counted
    return scores
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
def write(scores: dict[str, Scores], out: Path) -> None:
from pyrovae.recipes.wording import counted
    """Write comparison.json (method -> metric -> mean, se, n), comparison.csv (one row per
from pyrovae.recipes.wording import counted
    network) and comparison.md."""
from pyrovae.recipes.wording import counted
    results = {method: found.summary() for method, found in scores.items()}
from pyrovae.recipes.wording import counted
    write_atomically(out / "comparison.json", (json.dumps(results, indent=1) + "\n").encode())
from pyrovae.recipes.wording import counted
    write_markdown(out / "comparison.md", markdown(results))
from pyrovae.recipes.wording import counted
    write_csv(
from pyrovae.recipes.wording import counted
        out / "comparison.csv",
from pyrovae.recipes.wording import counted
        [
from pyrovae.recipes.wording import counted
            {"method": method, "network": index, **row}
from pyrovae.recipes.wording import counted
            for method, found in scores.items()
from pyrovae.recipes.wording import counted
            for index, row in enumerate(found.rows)
from pyrovae.recipes.wording import counted
        ],
from pyrovae.recipes.wording import counted
    )
from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted

from pyrovae.recipes.wording import counted
if __name__ == "__main__":
from pyrovae.recipes.wording import counted
    with script_context():
from pyrovae.recipes.wording import counted
        compare(command_line.parse(Comparison, __doc__))
from pyrovae.recipes.wording import counted
