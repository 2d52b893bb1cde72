"""Train and evaluate a grid of VAEs, and write a table as CSV, Markdown and a figure.

    python scripts/compare_vae.py --grid prior=standard,vamp,flow guide=diagonal,iaf --epochs 60
    --out runs/grid

trains all combinations; "+" starts another grid: --grid prior=standard,vamp + prior=vamp guide=iaf
objective=dreg particles=5. The options of train_vae.py apply to all runs.
Run again with the same command, it continues where it stopped.
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
from pyrovae.recipes.setting_rules import OnlyWith
from pyrovae.recipes.tables import markdown_table, write_csv, write_markdown
from pyrovae.recipes.vae import prepare, refuse_set
from pyrovae.recipes.vae_settings import Settings

WORKS = 7 * 24 * 3600.0
"""Seconds that a process waits for the others after finishing its own share of the work."""
LONGEST = 200
"""Maximum length of the name of a folder."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    GROUPS: ClassVar[dict[str, str]] = {"grid": "grid"}

    grid: tuple[str, ...]
    """setting=value,value ... for all combinations; + starts another grid."""
    settings: Settings
    score_particles: Count = 5000
    """K of log p(x) in the table."""
    score_data: Count | None = None
    """Maximum number of test data for it, chosen at random; all by default."""
    gaps: bool = False
    """Also split the inference gap of each run, by refining the guide for each datum (slow)."""
    gap_data: Annotated[Count, OnlyWith(gaps=True)] = 200
    """Maximum number of test data for the gaps."""

    def __post_init__(self) -> None:
        bounds.check(self)

    def variants(self) -> list[dict[str, object]]:
        """The settings that each run changes; all combinations are validated."""
        changes = [
            {name: parse(name, text) for name, text in run.items()}
            for run in combinations(self.grid)
        ]
        for one in changes:
            if nesting.replace(self.settings, **one).model.guide == "point":
                raise Refusal(
                    "--guide point makes an autoencoder, which has no log p(x) to compare."
                )
        return changes


def combinations(grid: tuple[str, ...]) -> list[dict[str, str]]:
    """One dict of settings for each run. Raises Refusal for an unknown setting."""
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
                    f"--grid {token}: {name} is given twice; write "
                    f"{name}={','.join((*axes[name], values))}, or separate two grids by +."
                )
            axes[name] = values.split(",")
        runs += [dict(zip(axes, values)) for values in itertools.product(*axes.values())]
    if not runs:
        raise Refusal("--grid names no setting; expected setting=value,value ...")
    return list({tuple(run.items()): run for run in runs}.values())


def parse(name: str, text: str) -> object:
    """The value of a setting from text, according to its type. Several numbers are joined by x:
    100x50."""
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
        f"--grid {name}={text}: {text!r} is not a value of {name} (see train_vae.py --help)."
    )


def run_one(comparison: Comparison, changes: dict[str, str], folder: Path) -> dict[str, object]:
    """Train and evaluate one combination, or read its earlier results; returns its row of the table."""
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
    else:
        begun.refuse_other_data(prepare(settings).digest())
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
    """The result of an earlier call with the same settings, or else a new one."""
    path = expected.folder / name
    if (find_result(path) or {}).get("asked") != asked:
        ask(expected, Trained.load(expected))
    return read_result(path)


def measured(run: dict, scores: dict) -> str:
    """What log p(x) is a probability or density of; only equal ones are comparable."""
    binarize = "drawn once" if scores["binarize"] in ("static", "dynamic") else scores["binarize"]
    condition = nesting.flatten(run["arguments"]).get("condition", "none")
    target = [condition] if condition.startswith("quadrants") else []
    return ", ".join([scores["kind"], run["data"]["name"], f"binarize {binarize}", *target])


def compare(rows: list[dict[str, object]], out: Path) -> None:
    """Add to each row its gain over the first row, the mean of paired differences, and its standard
    error; None if log p(x) is not comparable.
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
    """log p(x) of each run, and its gain over the first of the comparable runs."""
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
        "one standard error over test data, those of gains over paired differences",
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
            " Rows without a gain evaluate another x than the first, or a density for a probability: they do not compare."
        )
    )
    return markdown_table(head, lines) + (
        f"\n{seen}; +- is one standard error over test data, for gains over paired "
        f"differences.{apart}\n"
    )


def name_of(changes: dict[str, str]) -> str:
    """The name of a folder: the changes; if these contain special characters or are too long, a
    portable abbreviation and a digest."""
    name = ",".join(f"{key}={value}" for key, value in changes.items()) or "default"
    plain = re.sub(r"[^\w.,=+-]+|\.\.+", "_", name)[:LONGEST].rstrip(".")
    return name if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def main(comparison: Comparison) -> list[dict[str, object]]:
    runs, out = combinations(comparison.grid), comparison.settings.run.out or Path("runs/grid")
    comparison = dataclasses.replace(
        comparison, settings=nesting.replace(comparison.settings, out=None, resume=False)
    )
    for changes in comparison.variants():  # before the first run is trained
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
    """The rows of the table; missing runs are trained and evaluated."""
    rows = []
    for changes in progress_bar(runs, desc="grid", unit="run"):
        rows.append(run_one(comparison, changes, out / name_of(changes)))
        compare(rows, out)
        write_csv(out / "table.csv", rows)
        write_markdown(out / "table.md", markdown(rows, comparison.gaps))
    say(f"{markdown(rows, comparison.gaps)}\nwritten to {out}/table.csv and table.md")
    plots.save({"table": picture(rows, out)}, out)
    say(f"figure: {out}/table.png")
    return rows


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Comparison, __doc__))
