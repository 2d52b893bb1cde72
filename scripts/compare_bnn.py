"""Compare methods for Bayesian neural networks on one data set, with the same model and metrics.

    python scripts/compare_bnn.py --dataset diabetes --methods map,bbb,mc-dropout,ensemble --out
    runs/diabetes

writes comparison.csv, comparison.json, comparison.md, an ArviZ file for each method, and figures.
Run again with the same command, it continues where it stopped; with other methods, and no options
but theirs and those of all, it adds them.
"""

import dataclasses
import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import command_line
import torch
import tyro
from progress import progress_bar, say
from script_context import script_context
from torch import Tensor

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.core.atomic_write import write_atomically
from pyrovae.core.digests import digest_of
from pyrovae.recipes import bounds
from pyrovae.recipes.bnn_data import load_task
from pyrovae.recipes.bnn_figures import bands, figures, refuse_bands
from pyrovae.recipes.bnn_methods import EXPLAINED, METHODS, RULES
from pyrovae.recipes.bnn_own_settings import (
    caption,
    own_settings,
    shared_settings,
    with_added,
)
from pyrovae.recipes.bnn_report import markdown, read_scores, save_scores, to_arviz
from pyrovae.recipes.bnn_scores import Scores, score
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task
from pyrovae.recipes.bnn_train import train
from pyrovae.recipes.bnn_unknown import load_unknown
from pyrovae.recipes.bounds import OutFolder
from pyrovae.recipes.folder_lock import owned
from pyrovae.recipes.machine import choose_device
from pyrovae.recipes.name_list import several
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import find_result, read_result, refuse_changes, write_result
from pyrovae.recipes.setting_rules import Rule
from pyrovae.recipes.tables import write_csv, write_markdown
from pyrovae.recipes.wording import counted

WORKS = 7 * 24 * 3600.0
"""Seconds that a process waits for the others after finishing its own share of the work."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    GROUPS: ClassVar[dict[str, str]] = {"methods": "method", "ood": "data", "budget": "run"}
    RULES: ClassVar[dict[str, Rule]] = RULES

    methods: Annotated[str, tyro.conf.arg(help=f"Names joined by commas, of:\n{EXPLAINED}")] = (
        "map,bbb,mc-dropout,ensemble"
    )
    settings: BnnSettings
    ood: str | None = None
    """Out-of-distribution data for classifiers: digits, mnist, fashion-mnist, kmnist, noise,
    photographs (patches of the two that ship with scikit-learn), or a PATH."""
    budget: Literal["equal-steps", "equal-time"] = "equal-steps"
    """equal-time: every method trains as long as the first one took, up to one epoch; Markov chains
    (hmc, nuts, gibbs, random-walk) keep their number of steps."""
    bands: bool = False
    """Also train each method on toy data, a synthetic 1-D set with a gap, and plot its predictive
    bands (regression only)."""
    out: Annotated[OutFolder, tyro.conf.arg(help="folder of the results")] = Path(
        "runs/comparison"
    )

    def __post_init__(self) -> None:
        bounds.check(self)

    def variants(self) -> list[dict[str, str]]:
        """The method of each run."""
        return [{"method": name} for name in several("--methods", self.methods, METHODS)]


def compare(c: Comparison) -> dict[str, Scores]:
    """Train and score all methods, distributed over the processes; returns the scores in the first
    process."""
    s, methods = c.settings, tuple(run["method"] for run in c.variants())
    device, task = choose_device(s.run.device), load_task(s)
    torch.set_num_threads(s.run.threads or 1)
    unknown = load_unknown(c.ood, task) if c.ood else None
    refuse_bands(c.bands, task)
    for method in methods:  # before the first one is trained
        METHODS[method].refuse(s, task)
    ranks = pv.Ranks(timeout=WORKS)
    if ranks.size > 1 and c.budget == "equal-time":
        raise Refusal("--budget equal-time trains methods one after another; use one process.")
    with owned(c.out) if ranks.first else nullcontext():
        refuse_other_settings(c, methods, task, unknown)
        seconds = None
        for method in progress_bar(ranks.share(methods), desc=task.name, unit="method"):
            path = path_of(method, c)
            found = find_result(path) or run_one(method, c, task, unknown, device, seconds, path)
            seconds = seconds or found["seconds"]
        ranks.close()
        return report(methods, task, c) if ranks.first else {}


def path_of(method: str, c: Comparison) -> Path:
    return c.out / "methods" / f"{method}.json"


def refuse_other_settings(
    c: Comparison, methods: tuple[str, ...], task: Task, unknown: Tensor | None
) -> None:
    """Write the settings of all methods to --out; raise Refusal if it has a comparison with others
    or of other data, or one of these methods with other settings of its own."""
    begun = c.out / "settings.json"
    shared = {**shared_settings(c.settings), "ood": c.ood, "budget": c.budget}
    digests = {
        "data": task.digest(),
        "ood_data": None if unknown is None else digest_of({"x": unknown}),
    }
    later: dict[str, object] = {**digests}  # what older comparisons are without
    if c.budget == "equal-time":
        later["first of --methods"] = shared["first of --methods"] = methods[0]
    old = {**later, **(read_result(begun) if begun.exists() else shared)}
    refuse_changes(shared, old, f"{c.out} holds a comparison")
    for name, source in (("data", shared["dataset"]), ("ood_data", c.ood)):
        if old[name] != digests[name]:
            raise Refusal(
                f"the data of {source} are others than when {c.out} was begun; choose another --out."
            )
    for method in methods:
        if found := find_result(path_of(method, c)):
            own = own_settings(method, c.settings)
            before = with_added(found.get("settings", old))
            refuse_changes(own, before, f"{c.out} holds {method}")
    write_result(begun, old)


def run_one(
    method: str,
    c: Comparison,
    task: Task,
    unknown: Tensor | None,
    device: torch.device,
    seconds: float | None,
    path: Path,
) -> dict:
    """Train and score a method, and write its results; the JSON file, written last, marks it done."""
    s, start = c.settings, time.perf_counter()
    trained = train(
        METHODS[method],
        s,
        task,
        seconds=seconds if c.budget == "equal-time" else None,
        device=device,
    )
    scores = score(trained, s, task, unknown)
    to_arviz(trained, task, arviz := c.out / "arviz" / f"{method}.nc")
    save_scores(
        scores,
        path,
        {
            "method": method,
            "steps": trained.steps,
            "seconds": trained.seconds,
            "num_samples": trained.num_samples,
            "wall_seconds": time.perf_counter() - start,
            "settings": own_settings(method, c.settings),
        },
        files=[arviz],
    )
    return read_result(path)


def report(methods: tuple[str, ...], task: Task, c: Comparison) -> dict[str, Scores]:
    """Print and write the tables and figures of all methods of the folder."""
    s = c.settings
    scores = {m: read_scores(path_of(m, c)) for m in METHODS if find_result(path_of(m, c))}
    found = {m: read_result(path_of(m, c)) for m in scores}
    own = {m: one.get("settings", {}) for m, one in found.items()}
    several = any("r_hat" in row for one in scores.values() for row in one.rows)
    mixed = (
        " R-hat and ESS are of log p of the test data, the worst of them; chains have met below 1.05."
        if several
        else ""
    )
    draws = ", ".join(f"{m} {one['num_samples']}" for m, one in found.items())
    about = (
        f"{task.name}: {counted(task.num_splits * s.run.seeds, 'network')} a method; weight samples in a prediction: "
        f"{draws}; mean ± standard error over splits and seeds.{mixed} Settings: {caption(s, own)}."
    )
    write(scores, c.out, about)
    say(
        f"{(c.out / 'comparison.md').read_text()}\nwritten to {c.out}/comparison.csv, .json and .md"
    )
    drawn = figures(scores, task)
    drawn_for = c.out / "figures" / "bands.json"
    if c.bands and not is_drawn(drawn_for, methods):
        drawn["bands"] = bands([METHODS[method] for method in methods], s)
    plots.save(drawn, c.out / "figures")
    if "bands" in drawn:
        write_result(drawn_for, {"methods": methods})
    say(
        f"figures: {', '.join(sorted(path.name for path in (c.out / 'figures').glob('*.png'))) or 'none'} in "
        f"{c.out / 'figures'}"
    )
    return scores


def is_drawn(path: Path, methods: tuple[str, ...]) -> bool:
    """Whether the bands of these methods, and no others, have been drawn."""
    found = find_result(path) if path.with_suffix(".png").exists() else None
    return found is not None and found["methods"] == list(methods)


def write(scores: dict[str, Scores], out: Path, about: str) -> None:
    """Write comparison.json (method -> metric -> mean, se, n), comparison.csv (one row per
    network) and comparison.md."""
    results = {method: found.summary() for method, found in scores.items()}
    write_atomically(out / "comparison.json", (json.dumps(results, indent=1) + "\n").encode())
    write_markdown(out / "comparison.md", f"{markdown(results)}\n{about}\n")
    write_csv(
        out / "comparison.csv",
        [
            {"method": method, "network": index, **row}
            for method, found in scores.items()
            for index, row in enumerate(found.rows)
        ],
    )


if __name__ == "__main__":
    with script_context():
        compare(command_line.parse(Comparison, __doc__))
