"""The tables of "Which method?" are those of the files beside them."""

import itertools
import json
import sys
from pathlib import Path

import pytest
from test_scripts import run

DOCS = Path(__file__).parent.parent.parent / "docs"
sys.path.append(str(DOCS))
import measure  # noqa: E402


@pytest.mark.parametrize("page", measure.PAGES)
def test_pages_hold_what_was_measured(page: str) -> None:
    text = (DOCS / page).read_text()
    assert "<!-- measured:" in text and measure.with_tables(text) == text


@pytest.mark.parametrize("name", measure.MEASUREMENTS)
def test_a_file_has_all_rows_and_says_where_it_is_from(name: str) -> None:
    one = measure.MEASUREMENTS[name]
    found = json.loads((DOCS / "measurements" / f"{name}.json").read_text())
    assert found["command"] == " ".join(one.tool.command(one.rows, one.options))
    assert len(found["rows"]) == len(one.rows) and len(found["commit"]) >= 7
    for row in found["rows"].values():
        assert row["peak_mib"] > 100 and row["train_seconds"]
    assert set(one.sample) <= set(one.rows)


def test_a_measurement_runs_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, for speed; peaks of memory are the turns that were taken."""
    turns = itertools.count(1)

    def run_here(command: list[str]) -> int:
        run(Path(command[1]).name, *command[2:])
        return next(turns)

    monkeypatch.setattr(measure, "run_command", run_here)
    options = "--dataset diabetes --splits 1 --steps 10 --hidden 4 --num-samples 2"
    small = measure.Measurement(measure.BNN, ("map", "bbb"), options, measure.REGRESSION, ("map",))
    monkeypatch.setitem(measure.MEASUREMENTS, "small", small)
    found = measure.measure("small", small.rows, tmp_path)
    assert list(found["rows"]) == ["map", "bbb"] and "--methods map,bbb" in found["command"]
    assert found["rows"]["map"]["rmse"] > 0
    assert [found["rows"][row]["peak_mib"] for row in small.rows] == [2, 1]  # the last one first
    assert "| map | " in measure.table("small", found)
    assert measure.measure("small", small.rows, tmp_path)["rows"] == found["rows"]


def test_a_command_has_a_peak_of_memory_and_may_fail(capfd: pytest.CaptureFixture) -> None:
    assert measure.run_command(["python", "-c", "pass"]) > 5  # MiB
    with pytest.raises(SystemExit, match="status 2: python -c"):
        measure.run_command(["python", "-c", "raise SystemExit(2)"])
    assert "raise SystemExit(2)" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [([1.0, 0.5], [2.0, 0.1], "+2.00 s.e."), (2.0, 3.0, "+50 %"), (0.0, 1.0, "+1")],
)
def test_drift(before: float | list[float], after: float | list[float], expected: str) -> None:
    assert measure.drift(before, after) == expected


def test_cells() -> None:
    assert measure.cell([0.01234, 0.0012]) == "0.0123 ± 0.0012"
    assert measure.cell([-21.04, 0.31]) == "-21.04 ± 0.31"
    assert [measure.cell(one) for one in (None, 1234.5, 0.1234, 12.0)] == [
        "",
        "1234",
        "0.123",
        "12",
    ]
