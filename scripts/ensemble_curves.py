"""Ensembles against dropout: error, NLL, Brier score and calibration against the number of members
and of draws, under shift, and on foreign data.

    python scripts/ensemble_curves.py --dataset digits --seeds 3 --out runs/curves

Shifts are rotation, translation, blur and noise in five strengths; foreign data are those of --ood.
Writes curves.json, curves.md and figures, each with bands of one standard error over seeds:
members.png, shift.png, foreign.png. Run again with the same command, it continues where it stopped.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import command_line
import torch
from matplotlib.figure import Figure
from progress import progress_bar, say
from script_context import script_context

import pyrovae.plots as plots
from pyrovae.plots.comparison import Line
from pyrovae.recipes import bounds, nesting
from pyrovae.recipes.bnn_data import load_task
from pyrovae.recipes.bnn_methods import METHODS, RULES
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_unknown import load_unknown
from pyrovae.recipes.bounds import Count, OutFolder
from pyrovae.recipes.ensemble_curves import DETECTION, SCORES, Row, curves_of, summary
from pyrovae.recipes.folder_lock import owned
from pyrovae.recipes.image_shifts import SHIFTS
from pyrovae.recipes.machine import choose_device
from pyrovae.recipes.name_list import several
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import find_asked, write_result
from pyrovae.recipes.resumed_settings import as_json
from pyrovae.recipes.setting_rules import Rule
from pyrovae.recipes.tables import markdown_table, write_markdown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    GROUPS: ClassVar[dict[str, str]] = {"methods": "method", "counts": "run", "ood": "data"}
    RULES: ClassVar[dict[str, Rule]] = RULES

    methods: str = "ensemble,mc-dropout"
    """Names of train_bnn.py, joined by commas."""
    settings: BnnSettings = dataclasses.field(
        default_factory=lambda: nesting.build(BnnSettings, {"dataset": "digits"})
    )
    counts: tuple[Count, ...] = (1, 2, 3, 5, 10)
    """Numbers of members, or of draws of the weights; the largest takes the place of --members and
    --draws."""
    ood: str = "photographs"
    """Foreign data: digits, mnist, fashion-mnist, kmnist, noise, photographs, or a PATH."""
    out: OutFolder = Path("runs/ensemble-curves")
    """The folder to write to."""

    def __post_init__(self) -> None:
        bounds.check(self)

    def variants(self) -> list[dict[str, str]]:
        """The method of each run."""
        return [{"method": name} for name in several("--methods", self.methods, METHODS)]


def main(study: Study) -> dict[str, dict]:
    s, names = study.settings, [run["method"] for run in study.variants()]
    task, device = load_task(s), choose_device(s.run.device)
    if task.kind == "regression":
        raise Refusal(
            f"the curves are of classifiers, but the targets of {task.name} are numbers; choose --dataset digits or "
            "other classes."
        )
    if s.inference.chains > 1:
        raise Refusal(
            "the curves take the first draws of a chain, so several have no order; leave out --chains."
        )
    torch.set_num_threads(s.run.threads or 1)
    counts = sorted(set(study.counts))
    foreign = load_unknown(study.ood, task)
    asked = {
        **nesting.flatten(as_json(s)),
        "counts": counts,
        "ood": study.ood,
        "data": task.digest(),
    }
    results = {}
    with owned(study.out):
        for name in progress_bar(names, desc=task.name, unit="method"):
            METHODS[name].refuse(s, task)
            path = study.out / "methods" / f"{name}.json"
            found = find_asked(path, asked, study.out)
            if found is None:
                each = curves_of(METHODS[name], s, task, counts, foreign, device=device)
                found = {"asked": asked, "networks": [dataclasses.asdict(one) for one in each]}
                write_result(path, found)
            results[name] = found["networks"]
        write(study, task.name, counts, results)
    return results


def write(study: Study, name: str, counts: Sequence[int], results: dict[str, list[dict]]) -> None:
    seeds = len(next(iter(results.values())))
    title = f"{name}, {seeds} seeds" if seeds > 1 else f"{name}, one seed"
    figures: dict[str, Figure] = {
        "members": plots.line_panels(
            [
                {
                    label: panel(results, counts, key, lambda one: one["counts"])
                    for key, label in SCORES.items()
                }
            ],
            xlabels=["members or draws"] * len(SCORES),
            ylabels=list(SCORES.values()),
            title=title,
        ),
        "foreign": plots.line_panels(
            [
                {
                    label: panel(results, counts, key, lambda one: one["foreign"])
                    for key, label in DETECTION.items()
                }
            ],
            xlabels=["members or draws"] * len(DETECTION),
            ylabels=list(DETECTION.values()),
            title=f"{title}: {study.ood} told from test data",
        ),
    }
    shifts = [kind for kind in SHIFTS if kind in next(iter(results.values()))[0]["shifts"]]
    if shifts:
        figures["shift"] = plots.line_panels(
            [
                {
                    kind: panel(results, range(6), key, lambda one, kind=kind: one["shifts"][kind])
                    for kind in shifts
                }
                for key in SCORES
            ],
            xlabels=["strength"] * len(shifts),
            ylabels=list(SCORES.values()),
            title=f"{title}, {max(counts)} members or draws",
        )
    plots.save(figures, study.out)
    write_result(study.out / "curves.json", {"counts": list(counts), "methods": results})
    text = table(counts, results)
    write_markdown(study.out / "curves.md", text)
    say(f"{text}\nwritten to {study.out}: curves.json, curves.md, {', '.join(figures)}")


def panel(
    results: dict[str, list[dict]],
    x: Sequence[int],
    key: str,
    rows_of: Callable[[dict], list[Row]],
) -> dict[str, Line]:
    """The line of each method, where it has the score."""
    lines = {}
    for method, networks in results.items():
        at = [index for index in range(len(x)) if key in rows_of(networks[0])[index]]
        points = [summary([rows_of(one)[index] for one in networks], key) for index in at]
        known = all(se is not None for _, se in points)
        lines[method] = Line(
            torch.tensor([float(x[index]) for index in at]),
            torch.tensor([mean for mean, _ in points]),
            torch.tensor([se or 0.0 for _, se in points]) if known else None,
        )
    return lines


def table(counts: Sequence[int], results: dict[str, list[dict]]) -> str:
    """Scores at each count, mean ± standard error over seeds."""
    rows = []
    for method, networks in results.items():
        for index, count in enumerate(counts):
            cells = []
            for part, keys in (("counts", SCORES), ("foreign", DETECTION)):
                for key in keys:
                    if key not in networks[0][part][index]:
                        cells.append("")
                        continue
                    mean, se = summary([one[part][index] for one in networks], key)
                    cells.append(f"{mean:.4f}" + ("" if se is None else f" ± {se:.4f}"))
            rows.append([method, str(count), *cells])
    header = ["method", "members or draws", *SCORES.values(), *DETECTION.values()]
    return markdown_table(header, rows)


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Study, __doc__))
