"""The measurements behind the pages "Which method?": run them, write their tables, check them.

    python docs/measure.py run bnn-digits     # writes docs/measurements/bnn-digits.json
    python docs/measure.py tables             # writes the tables of the pages from these files
    python docs/measure.py check              # runs a sample again and prints the drift

Each row is trained in a process of its own, so that its peak memory is its own. A file holds
the command, the commit and the machine beside the numbers. `run` continues in --work where it
stopped.
"""

import argparse
import dataclasses
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from pyrovae.core.atomic_write import write_atomically
from pyrovae.recipes.results import read_result, write_result
from pyrovae.recipes.tables import markdown_table, read_csv

DOCS = Path(__file__).parent
PAGES = ("which-vae.md", "which-bnn.md")
Row = dict[str, float | list[float]]
"""Number -> its value, or [value, standard error]."""


def bnn_rows(out: Path) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for method, found in json.loads((out / "comparison.json").read_text()).items():
        rows[method] = {
            name: [one["mean"], one["se"]] if one["se"] else one["mean"]
            for name, one in found.items()
        }
    return rows


def vae_rows(out: Path) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for row in read_csv(out / "table.csv"):
        numbers = {name: float(text) for name, text in row.items() if is_number(text)}
        numbers["log_px_se"] = numbers.pop("se")
        rows[row["run"]] = {
            name: [value, numbers[f"{name}_se"]] if f"{name}_se" in numbers else value
            for name, value in numbers.items()
            if not name.endswith("_se")
        }
    return rows


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclasses.dataclass(frozen=True)
class Tool:
    """A script that compares rows, each asked for by words on its command line."""

    script: str
    flag: str
    separator: str
    read: Callable[[Path], dict[str, Row]]

    def command(self, rows: Iterable[str], options: str) -> list[str]:
        asked = self.separator.join(rows).split()
        return ["python", f"scripts/{self.script}", self.flag, *asked, *options.split()]


BNN = Tool("compare_bnn.py", "--methods", ",", bnn_rows)
VAE = Tool("compare_vae.py", "--grid", " + ", vae_rows)


@dataclasses.dataclass(frozen=True)
class Measurement:
    tool: Tool
    rows: tuple[str, ...]
    options: str
    columns: dict[str, str]
    """Number -> head of its column."""
    sample: tuple[str, ...]
    """Rows that `check` runs again; none for what takes long."""


METHODS = (
    *("map", "bbb", "bbb-mixture", "bbb-hierarchical", "radial", "mc-dropout", "concrete-dropout"),
    *("ensemble", "stacking", "swag", "laplace", "sgld", "sghmc", "nuts", "hmc"),
)
COST = {"train_seconds": "seconds", "peak_mib": "memory, MiB"}
COST_OF_ONE = COST | {"train_seconds": "seconds a network"}
CLASSES = {
    "error_percent": "error, %",
    "nll": "-log p(y), nats",
    "nll_scaled": "the same after a temperature",
    "ece": "ECE",
    "ece_scaled": "after a temperature",
    "ood_auroc": "AUROC of unknown data",
} | COST_OF_ONE
REGRESSION = {
    "rmse": "RMSE",
    "log_predictive": "log p(y given x), nats",
    "crps": "CRPS",
    "coverage_90": "coverage of 90 %",
} | COST_OF_ONE
EVIDENCE = {
    "log_px": "log p(x), nats",
    "gain": "gain on the first",
    "elbo": "ELBO",
    "khat_above_0_7": "k-hat > 0.7",
    "active_units": "active units",
} | COST
GRID = (
    "prior=standard guide=diagonal",
    "prior=mixture prior_components=100 guide=diagonal",
    "prior=vamp prior_components=100 guide=diagonal",
    "prior=flow guide=diagonal",
    "prior=standard guide=full-rank",
    "prior=standard guide=mixture",
    "prior=standard guide=iaf",
    "prior=standard guide=spline",
    "prior=vamp prior_components=100 guide=iaf",
    "prior=flow guide=iaf",
    "prior=standard objective=analytic-kl",
    "prior=standard objective=stl",
    "prior=standard objective=iwae particles=5",
    "prior=standard objective=dreg particles=5",
    "prior=vamp prior_components=100 guide=iaf objective=dreg particles=5",
)
SHORT_CHAINS = "--hmc-warmup 100 --hmc-samples 100"
MEASUREMENTS = {
    "vae-digits": Measurement(
        VAE,
        GRID,
        "--latent-dim 10 --hidden 200 200 --activation silu --epochs 200 --patience 20 "
        "--score-particles 1000 --threads 1",
        EVIDENCE,
        (GRID[0], GRID[2]),
    ),
    "bnn-digits": Measurement(
        BNN,
        tuple(method for method in METHODS if method != "nuts"),
        f"--dataset digits --seeds 5 --valid-fraction 0.1 --ood photographs --steps 3000 {SHORT_CHAINS} --threads 1",
        CLASSES,
        ("map", "bbb", "hmc"),
    ),
    "bnn-diabetes": Measurement(
        BNN,
        ("random-walk", "gibbs", *METHODS),
        f"--dataset diabetes --splits 5 --valid-fraction 0.1 --steps 3000 {SHORT_CHAINS} --threads 1",
        REGRESSION,
        ("map", "bbb", "hmc"),
    ),
}


def measure(name: str, rows: tuple[str, ...], work: Path) -> dict:
    """Run rows of a measurement, one process each; its file as a dict.

    The last row first: it is one that all options apply to, and each call names the rows that are
    there already.
    """
    one, out, made = MEASUREMENTS[name], work / name, {}
    for first in reversed(range(len(rows))):
        kept = work / f"{name}.peaks" / f"{one.rows.index(rows[first])}.json"
        if not kept.exists():
            command = one.tool.command(rows[first:], one.options)
            peak = run_command([*command, "--out", str(out)])
            write_result(kept, {"row": rows[first], "peak_mib": peak, **machine()})
        made[rows[first]] = read_result(kept)
    command = one.tool.command(rows, one.options)
    run_command([*command, "--out", str(out)])  # the table of all, from their results
    found = one.tool.read(out)
    for row, label in zip(found.values(), rows, strict=True):
        row["peak_mib"] = made[label]["peak_mib"]
    where = {
        fact: ", ".join(sorted({row[fact] for row in made.values()})) for fact in machine()
    }  # several, if it was continued elsewhere or after a commit
    return {"command": " ".join(command), **where, "rows": found}


def run_command(command: list[str]) -> float:
    """Peak memory of a command, MiB. Raises SystemExit if it fails."""
    print(" ".join(command), flush=True)
    process = subprocess.Popen([sys.executable, *command[1:]], cwd=DOCS.parent)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"status {process.returncode}: {' '.join(command)}")
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def machine() -> dict[str, str]:
    """The commit, and where it ran."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=DOCS, capture_output=True, text=True
    )
    return {
        "commit": commit.stdout.strip() or "unknown",
        "processor": processor(),
        "torch": torch.__version__,
    }


def processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "unknown"


def table(name: str, measured: dict) -> str:
    """The table of a measurement and, below it, where its numbers are from."""
    one = MEASUREMENTS[name]
    columns = {
        key: head
        for key, head in one.columns.items()
        if any(key in row for row in measured["rows"].values())
    }
    lines = [
        [named(label), *(cell(row.get(key)) for key in columns)]
        for label, row in measured["rows"].items()
    ]
    origin = (
        f"Commit {measured['commit']}, one core of {measured['processor']}, torch {measured['torch']}; ± is one "
        f"standard error.\n\n```bash\n{folded(measured['command'])}\n```"
    )
    return f"{markdown_table(['', *columns.values()], lines)}\n{origin}\n"


def named(label: str) -> str:
    """The name of a row, without what all rows of its kind have in common."""
    return label.replace("prior_components=100,", "").replace(",", ", ")


def folded(command: str) -> str:
    return " \\\n    ".join(
        textwrap.wrap(command, 110, break_long_words=False, break_on_hyphens=False)
    )


def cell(value: float | list[float] | None) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        mean, se = value
        if not se:  # of the first row over itself
            return ""
        digits = max(0, min(4, 1 - math.floor(math.log10(se))))
        return f"{mean:.{digits}f} ± {se:.{digits}f}"
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def write_tables() -> None:
    """Write the tables of the pages, between their markers, from the files."""
    for page in PAGES:
        path = DOCS / page
        write_atomically(path, with_tables(path.read_text()).encode())


def with_tables(text: str) -> str:
    """A page with each table between `<!-- measured: NAME -->` and `<!-- end -->` written anew."""

    def new(found: re.Match) -> str:
        measured = json.loads((DOCS / "measurements" / f"{found[1]}.json").read_text())
        return f"<!-- measured: {found[1]} -->\n\n{table(found[1], measured)}\n<!-- end -->"

    return re.sub(r"<!-- measured: ([\w-]+) -->.*?<!-- end -->", new, text, flags=re.DOTALL)


def check(names: Iterable[str], work: Path) -> None:
    """Run the sample of each measurement again, and print the drift of each number."""
    lines = []
    for name in names:
        if not MEASUREMENTS[name].sample:
            continue
        old = json.loads((DOCS / "measurements" / f"{name}.json").read_text())["rows"]
        new = measure(name, MEASUREMENTS[name].sample, work)["rows"]
        for label, row in new.items():
            for number in MEASUREMENTS[name].columns:
                if number in row and number in old[label] and number != "gain":
                    before, after = old[label][number], row[number]
                    lines.append(
                        [name, label, number, cell(before), cell(after), drift(before, after)]
                    )
    print(markdown_table(["measurement", "row", "number", "kept", "now", "drift"], lines))


def drift(before: float | list[float], after: float | list[float]) -> str:
    """The change, in standard errors of the kept number where it has one, else in per cent."""
    if isinstance(before, list):
        now = after[0] if isinstance(after, list) else after
        return f"{(now - before[0]) / before[1]:+.2f} s.e."
    return f"{100 * (after / before - 1):+.0f} %" if before else f"{after - before:+g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=["run", "tables", "check"])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MEASUREMENTS)}; all by default")
    parser.add_argument("--work", type=Path, help="folder of the runs; a temporary one by default")
    asked = parser.parse_args()
    names = asked.names or list(MEASUREMENTS)
    if unknown := set(names) - set(MEASUREMENTS):
        parser.error(f"no measurement is called {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as temporary:
        work = (asked.work or Path(temporary)).resolve()
        if asked.action == "check":
            check(names, work)
        for name in names if asked.action == "run" else ():
            text = json.dumps(measure(name, MEASUREMENTS[name].rows, work), indent=1)
            write_atomically(DOCS / "measurements" / f"{name}.json", f"{text}\n".encode())
    if asked.action == "tables":
        write_tables()


if __name__ == "__main__":
    main()
