"""Train and score a grid of VAEs, and write one table: CSV, Markdown and a figure.

    python scripts/compare_vae.py --grid prior=standard,vamp,flow guide=diagonal,iaf --epochs 60
    --out runs/grid

trains all combinations; "+" joins grids: --grid prior=standard,vamp + prior=vamp guide=iaf
objective=dreg particles=5. Every other option is one of train_vae.py's, for all runs alike.
Started again with the same command, it goes on where it stopped.
"""

import dataclasses
import hashlib
import itertools
import re
import typing
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, ClassVar

import command_line
import torch
from evaluate import Evaluation, Trained, evaluate, split_gap
from matplotlib.figure import Figure
from progress import progress_bar, say
from script_context import script_context
from train_vae import train

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.recipes import bounds, nesting
from pyrovae.recipes.bounds import Count
from pyrovae.recipes.folder_lock import owned
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import find_result, read_arrays, read_result
from pyrovae.recipes.run_folder import Folder
from pyrovae.recipes.tables import markdown_table, write_csv, write_markdown
from pyrovae.recipes.uses import Only
from pyrovae.recipes.vae import refuse_set
from pyrovae.recipes.vae_settings import Settings

WORKS = 7 * 24 * 3600.0
"""Seconds that a process which has done its share of the works waits for those of the others."""
LONGEST = 200
"""Characters of the name of a run's folder."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    GROUPS: ClassVar[dict[str, str]] = {"grid": "grid"}

    grid: tuple[str, ...]
    """setting=value,value ...: all combinations; + starts another grid."""
    settings: Settings
    score_particles: Count = 5000
    """K of the table's log p(x)."""
    score_data: Count | None = None
    """At most so many test data for it, chosen at random; all by default."""
    gaps: bool = False
    """Also split the inference gap of each run (by refining the guide for each datum; slow)."""
    gap_data: Annotated[Count, Only(gaps=True)] = 200
    """At most so many test data for the gaps."""

    def __post_init__(self) -> None:
        bounds.check(self)

    def variants(self) -> list[dict[str, object]]:
        """What each run changes of the settings, as values; all combinations are checked."""
        changes = [
            {name: parse(name, text) for name, text in run.items()}
            for run in combinations(self.grid)
        ]
        for one in changes:
            nesting.replace(self.settings, **one)
        return changes


def combinations(grid: tuple[str, ...]) -> list[dict[str, str]]:
    """One dict of settings a run. Raises Refusal for what is no setting."""
    known = set(nesting.hints_of(Settings)) - {"out", "resume"}
    runs: list[dict[str, str]] = []
    for joined, tokens in itertools.groupby(grid, key=lambda token: token == "+"):
        if joined:
            continue
        axes = {}
        for token in tokens:
            name, sign, values = token.partition("=")
            name = name.replace("-", "_")
            if not sign or name not in known:
                raise Refusal(
                    f"--grid {token}: expected setting=value,value, where the setting is one of train_vae.py's."
                )
            if name in axes:
                raise Refusal(
                    f"--grid {token}: {name} stands there twice; write "
                    f"{name}={','.join((*axes[name], values))}, or join two grids by +."
                )
            axes[name] = values.split(",")
        runs += [dict(zip(axes, values)) for values in itertools.product(*axes.values())]
    if not runs:
        raise Refusal("--grid names no setting; expected setting=value,value ...")
    return list({tuple(run.items()): run for run in runs}.values())


def parse(name: str, text: str) -> object:
    """A setting's value from its text, by the type that Settings declares. Several numbers are
    joined by x: 100x50."""
    hint = nesting.hints_of(Settings)[name]
    options = (
        typing.get_args(hint)
        if typing.get_origin(hint) in (typing.Union, type(int | None))
        else (hint,)
    )
    for option in options:
        if typing.get_origin(option) is typing.Literal and text in typing.get_args(option):
            return text
        if typing.get_origin(option) is tuple and all(part.isdigit() for part in text.split("x")):
            return tuple(int(part) for part in text.split("x"))
        if option is bool and text in ("True", "False"):
            return text == "True"
        if option in (int, float, str, Path):
            try:
                return option(text)
            except ValueError:
                continue
    raise Refusal(
        f"--grid {name}={text}: {text!r} is no value of {name} (see train_vae.py --help)."
    )


def run_one(comparison: Comparison, changes: dict[str, str], folder: Path) -> dict[str, object]:
    """Train and score one combination, or read what an earlier call left; its row of the table."""
    begun = Folder(folder)
    settings = nesting.replace(
        comparison.settings,
        **{name: parse(name, text) for name, text in changes.items()},
        out=folder,
        resume=begun.checkpoint.exists(),
    )
    if not begun.weights.exists() or not begun.is_finished():
        train(settings, pv.Ranks(alone=True))
    elif (
        nesting.replace(
            Settings.from_json(begun.read()["arguments"]), out=folder, resume=settings.run.resume
        )
        != settings
    ):
        raise Refusal(f"{folder} holds a run with other settings; choose another --out.")
    expected = Evaluation(
        folder,
        num_particles=comparison.score_particles,
        max_data=comparison.score_data,
        gap_data=comparison.gap_data,
    )
    scores, run = found(expected, "evidence.json", expected.asked(), evaluate), begun.read()
    row = {
        "run": folder.name,
        **changes,
        "of": measured(run, scores),
        "log_px": scores["log_px"],
        "se": scores["se"],
        "elbo": scores["elbo"],
        "K": scores["num_particles"],
        "N": scores["num_data"],
        "khat_above_0_7": scores["khat_above_0_7"],
        "active_units": run["last_epoch"].get("active_units"),
        "epochs": run["epochs_done"],
        "train_seconds": run["train_seconds"],
    }
    if comparison.gaps:
        gaps = found(expected, "gaps.json", expected.asked(gaps=True), split_gap)
        for gap in ("approximation", "amortization"):
            row |= {f"{gap}_gap": gaps[gap], f"{gap}_gap_se": gaps[f"{gap}_se"]}
    return row


def found(
    expected: Evaluation, name: str, asked: dict, ask: Callable[[Evaluation, Trained], dict]
) -> dict:
    """The answer an earlier call wrote to the same question, or a new one."""
    path = expected.folder / name
    if (find_result(path) or {}).get("asked") != asked:
        ask(expected, Trained.load(expected))
    return read_result(path)


def measured(run: dict, scores: dict) -> str:
    """What log p(x) is of: densities and probabilities, or other pixels, do not compare."""
    binarize = "drawn once" if scores["binarize"] in ("static", "dynamic") else scores["binarize"]
    condition = nesting.flatten(run["arguments"]).get("condition", "none")
    target = [condition] if condition.startswith("quadrants") else []
    return ", ".join([scores["kind"], run["data"]["name"], f"binarize {binarize}", *target])


def compare(rows: list[dict[str, object]], out: Path) -> None:
    """Add to each row how much better it is than the first, datum by datum, with the standard
    error of that mean.

    None where the first row's x is another.
    """
    log_px = [
        torch.as_tensor(read_arrays(out / row["run"] / "evidence.npz")["log_px"]) for row in rows
    ]
    for row, scores in zip(rows, log_px):
        row |= {"gain": None, "gain_se": None}
        if row["of"] == rows[0]["of"]:
            difference = scores - log_px[0]
            row |= {
                "gain": difference.mean().item(),
                "gain_se": (difference.std() / len(difference) ** 0.5).item(),
            }


def picture(rows: list[dict[str, object]], out: Path) -> Figure:
    """log p(x) of each run, and its gain on the first of those that score the same x in the same
    way."""
    groups: dict[str, list[plots.Score]] = {}
    for kind in dict.fromkeys(row["of"] for row in rows):
        paired = [dict(row) for row in rows if row["of"] == kind]
        compare(paired, out)
        groups[kind] = [
            plots.Score(row["run"], row["log_px"], row["se"], row["gain"], row["gain_se"])
            for row in paired
        ]
    return plots.paired_scores(
        groups,
        unit="test log p(x), nats",
        title=f"K = {rows[0]['K']}, N = {rows[0]['N']}; bars are "
        "one standard error over test data, those of gains over differences datum by datum",
    )


def markdown(rows: list[dict[str, object]], gaps: bool) -> str:
    head = [
        "run",
        "test log p(x), nats",
        "gain on the first",
        "ELBO",
        "k-hat > 0.7",
        "active units",
        "training",
    ]
    head += ["approximation gap", "amortisation gap"] if gaps else []
    lines = []
    for row in rows:
        units = row["active_units"]
        gain = (
            ""
            if row is rows[0] or row["gain"] is None
            else f"{row['gain']:+.2f} +- {row['gain_se']:.2f}"
        )
        cells = [
            row["run"],
            f"{row['log_px']:.2f} +- {row['se']:.2f}",
            gain,
            f"{row['elbo']:.2f}",
            f"{row['khat_above_0_7']} of {row['N']}",
            str(units if units is not None else "-"),
            f"{row['epochs']} epochs, {row['train_seconds']:.0f} s",
        ]
        if gaps:
            cells += [
                f"{row[f'{gap}_gap']:.2f} +- {row[f'{gap}_gap_se']:.2f}"
                for gap in ("approximation", "amortization")
            ]
        lines.append(cells)
    seen = f"K = {rows[0]['K']}, N = {rows[0]['N']}"
    apart = (
        ""
        if all(row["of"] == rows[0]["of"] for row in rows)
        else (
            " Rows without a gain score another x than the first, or a density beside probabilities: they do not compare."
        )
    )
    return markdown_table(head, lines) + (
        f"\n{seen}; +- is one standard error over test data, that of a gain over differences "
        f"datum by datum.{apart}\n"
    )


def name_of(changes: dict[str, str]) -> str:
    """A folder's name: the changes, or for paths and long ones what is left of them that any
    system takes, and a digest."""
    name = ",".join(f"{key}={value}" for key, value in changes.items()) or "default"
    plain = re.sub(r"[^\w.,=+-]+|\.\.+", "_", name)[:LONGEST].rstrip(".")
    return name if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def main(comparison: Comparison) -> list[dict[str, object]]:
    runs, out = combinations(comparison.grid), comparison.settings.run.out or Path("runs/grid")
    comparison = dataclasses.replace(
        comparison, settings=nesting.replace(comparison.settings, out=None, resume=False)
    )
    for (
        changes
    ) in comparison.variants():  # refuse what makes no sense before the first hour is spent
        refuse_set(changes.get("dataset", comparison.settings.data.dataset))
    ranks = pv.Ranks(timeout=WORKS)
    with owned(out) if ranks.first else nullcontext():
        for changes in ranks.share(runs) if ranks.size > 1 else ():
            run_one(comparison, changes, out / name_of(changes))
        ranks.close()
        return table(comparison, runs, out) if ranks.first else []


def table(
    comparison: Comparison, runs: list[dict[str, str]], out: Path
) -> list[dict[str, object]]:
    """Its rows; what is not there yet is trained and scored."""
    rows = []
    for changes in progress_bar(runs, desc="grid", unit="run"):
        rows.append(run_one(comparison, changes, out / name_of(changes)))
        compare(rows, out)
        write_csv(out / "table.csv", rows)
        write_markdown(out / "table.md", markdown(rows, comparison.gaps))
    say(f"{markdown(rows, comparison.gaps)}\nwritten to {out}/table.csv and table.md")
    plots.save({"table": picture(rows, out)}, out)
    say(f"picture: {out}/table.png")
    return rows


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Comparison, __doc__))
