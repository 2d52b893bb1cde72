"""Bars: what a person sees of them on a terminal, and what a log file holds."""

import io
import logging
import re
import sys
import warnings
from pathlib import Path

import oracles
import pytest
import torch
from progress import evidence_bar, quiet_bars, say
from script_context import script_context
from test_scripts import QUICK, run

import pyrovae as pv
from pyrovae.core.progress import progress_bar
from pyrovae.data import Batches, DictDataset
from pyrovae.evidence import inference_gaps, quadrature
from pyrovae.heads import NormalHead
from pyrovae.recipes.refusal import Refusal
from pyrovae.training.hooks import ProgressBar


class Terminal(io.StringIO):
    """Keeps what is written, and shows what a terminal would."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        lines, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[A|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if part == "\x1b[A":
                row -= 1
            elif part == "\r":
                column = 0
            elif part == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            else:
                lines[row] = (
                    lines[row].ljust(column)[:column] + part + lines[row][column + len(part) :]
                )
                column += len(part)
        return [line.rstrip() for line in lines if line.strip()]


def work() -> None:
    """Methods, each of which trains, logs, warns and prints."""
    for method in progress_bar(["map", "bbb"], desc="methods", mininterval=0):
        for step in progress_bar(range(3), desc=method, mininterval=0):
            if step == 1:
                logging.getLogger("pyrovae").info("captured %s", method)
                warnings.warn(f"of {method}", RuntimeWarning, stacklevel=1)
                say(f"{method} is done")


def as_alone(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> None:
    """Standard error as a script in a process of its own has it: pytest's handlers would keep
    those of the scripts out."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(sys, "stderr", stream)


def test_bars_in_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    as_alone(monkeypatch, terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    with warnings.catch_warnings(), quiet_bars():
        warnings.simplefilter("always")
        work()
    *lines, last = terminal.screen()
    assert lines == [
        line
        for name in ("map", "bbb")
        for line in (f"captured {name}", f"RuntimeWarning: of {name}", f"{name} is done")
    ]
    assert last.startswith("methods: 100%")


def test_bars_in_a_log_file(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    as_alone(monkeypatch, log)
    with warnings.catch_warnings(), quiet_bars():
        warnings.simplefilter("always")
        work()
    assert "\r" not in log.getvalue() and "\x1b" not in log.getvalue()
    lines = log.getvalue().splitlines()
    assert [line for line in lines if "%" not in line] == [
        line
        for name in ("map", "bbb")
        for line in (f"captured {name}", f"RuntimeWarning: of {name}")
    ]
    ends = [re.match(r"(\w+): 100%", line)[1] for line in lines if "100%" in line]
    assert ends == ["map", "bbb", "methods"] and all(line.count("%") <= 1 for line in lines)


def test_a_refusal_stands_on_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with pytest.raises(SystemExit), script_context():
        for _ in progress_bar(range(3), desc="outer"):
            for _ in progress_bar(range(3), desc="inner"):
                raise Refusal("no")
    assert terminal.screen()[-1] == "error: no" and terminal.screen()[0].startswith("outer: ")


def test_the_bar_of_log_evidence_counts_particles_and_data() -> None:
    """Whatever the batches; and being watched changes nothing."""
    oracle = oracles.linear_gaussian(num_data=40)
    counts: list[int] = []
    torch.manual_seed(1)
    seen = pv.log_evidence(
        oracle.model, oracle.guide, oracle.batch, num_particles=600, progress=counts.append
    )
    torch.manual_seed(1)
    assert torch.equal(
        seen.log_px,
        pv.log_evidence(oracle.model, oracle.guide, oracle.batch, num_particles=600).log_px,
    )
    num = len(oracle.batch["x"])
    assert sum(counts) == 600 * num and max(counts) <= 4000 and len(counts) >= 3
    counts.clear()
    guide = pv.Guide(z=pv.Node(NormalHead(torch.nn.Linear(4, 4)), "x"))
    inference_gaps(
        oracle.model, guide, oracle.batch, num_particles=20, steps=1, progress=counts.append
    )
    assert sum(counts) == 2 * 20 * num
    with evidence_bar(Batches(DictDataset(**oracle.batch), 2), 600, file=Terminal()) as bar:
        assert bar.total == 600 * num


def test_the_bar_of_quadrature_counts_data() -> None:
    oracle = oracles.linear_gaussian(num_data=40, latent=1)
    counts: list[int] = []
    quadrature(oracle.model, oracle.batch, progress=counts.append)
    assert sum(counts) == len(oracle.batch["x"])


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("compare_bnn.py", ("--methods", "map", "--splits", 1, "--steps", 5), "| map |"),
        ("train_bnn.py", ("--method", "map", "--splits", 1, "--steps", 5), "| map |"),
        (
            "compare_vae.py",
            ("--grid", "prior=standard", *QUICK, "--score-particles", 9, "--score-data", 9),
            "| prior=standard |",
        ),
        ("train_vae.py", QUICK, "test log p(x) = -"),
    ],
)
def test_numbers_are_printed_before_pictures_are_made(
    script: str, arguments: tuple, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = []
    monkeypatch.setattr(
        "pyrovae.plots.save", lambda figures, folder: printed.append(sys.stdout.getvalue())
    )
    run(script, *arguments, "--out", tmp_path / "out")
    assert words in printed[-1]


def test_progress_bar_hook_has_a_name(capsys: pytest.CaptureFixture) -> None:
    oracle = oracles.linear_gaussian(num_data=40)
    pv.fit(
        pv.ElboLoss(oracle.model, oracle.guide),
        [oracle.batch],
        epochs=2,
        hooks=[ProgressBar("training")],
    )
    assert "training: 100%" in capsys.readouterr().err
