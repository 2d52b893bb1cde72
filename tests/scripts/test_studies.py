"""The scripts that study one question, on runs shrunk to seconds."""

import csv
from pathlib import Path

import pytest
from test_scripts import run

from pyrovae.recipes.results import read_result, write_result


def test_gradient_variance_writes_a_table_and_a_picture(tmp_path: Path) -> None:
    output = run(
        "gradient_variance.py",
        "--epochs",
        0,
        1,
        "--draws",
        30,
        "--hidden",
        16,
        "--out",
        tmp_path / "study",
        pixels=True,
    )
    with (tmp_path / "study" / "gradient_variance.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0"] * 5 + ["1"] * 5
    variance = {(row["epoch"], row["estimator"]): float(row["variance"]) for row in rows}
    assert all(
        variance[epoch, "score function"] > 10 * variance[epoch, "reparameterised"]
        for epoch in "01"
    )
    assert (tmp_path / "study" / "gradient_variance.png").is_file() and "score function" in output
    assert "--draws 1: expected at least 2" in run("gradient_variance.py", "--draws", 1, status=2)


COLLAPSE = ("--epochs", 2, "--warmup", 1, "--hidden", 8, "--particles", 10, "--draws", 2)


def test_collapse_keeps_its_rows_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "study"
    output = run("collapse.py", *COLLAPSE, "--out", out, pixels=True)
    with (out / "collapse.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["remedy"] for row in rows} == {
        "none",
        "KL warm-up",
        "free bits",
        "weaker decoder",
        "lagging guide",
        "capacity",
    }
    for row in rows:
        assert float(row["kl"]) == pytest.approx(
            float(row["mutual_information"]) + float(row["marginal_kl"]), abs=1e-5
        )
        assert float(row["log_px"]) < 0 and row["num_data"] == "359"
    assert rows[0]["gain"] == "0.0" and float(rows[1]["gain_se"]) > 0
    assert (out / "kl.png").is_file() and (out / "log_px.png").is_file()
    assert (out / "collapse.md").read_text() in output and "| free bits |" in output
    (out / "free-bits.json").unlink()
    content = read_result(out / "none.json")
    content["row"]["log_px"] = -1.5  # a row that is there is not trained anew
    write_result(out / "none.json", content)
    again = run("collapse.py", *COLLAPSE, "--out", out)
    assert "| none | -1.50 |" in again and [
        line for line in again.splitlines() if "free bits" in line
    ] == [line for line in output.splitlines() if "free bits" in line]
    assert "--lr was 0.002, is 0.1" in run(
        "collapse.py", *COLLAPSE, "--out", out, "--lr", 0.1, status=2
    )


def test_vi_pictures(tmp_path: Path) -> None:
    out = run("vi_pictures.py", "--epochs", 1, "--num-data", 2, "--out", tmp_path, pixels=True)
    found = read_result(tmp_path / "vi.json")
    assert len(found["fits"]) == 15 and found["weights"][0]["num_data"] == 2
    assert "| two modes | flow | KL(q || p) |" in out
    for name in ("families", "directions", "weights"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert "bbp" in run("vi_pictures.py", "--methods", "bbp", status=2)


def test_calibration_tells_mean_field_from_the_exact_posterior(tmp_path: Path) -> None:
    out = tmp_path / "study"
    words = ("--simulations", 60, "--draws", 49, "--epochs", 80, "--lr", 0.2, "--compare-loop", 1)
    model = ("--data", 20, "--columns", 2, "--correlation", 0.98)
    chains = ("--warmup", 10, "--thin", 1, "--leapfrogs", 4)
    output = run("calibrate_posterior.py", *words, *model, *chains, "--out", out)
    rows = {row["posterior"]: row for row in read_result(out / "calibration.json")["rows"]}
    assert list(rows) == ["exact", "hmc", "full-rank", "mean-field"]
    # one standard error of a spread is 0.12
    assert max(rows["exact"]["spread"]) < 1.5 < 1.6 < min(rows["mean-field"]["spread"])
    assert all(sum(counts) == 60 for row in rows.values() for counts in row["counts"].values())
    assert "times_faster" not in rows["hmc"] and rows["mean-field"]["seconds_of_one"] > 0
    text = (out / "calibration.md").read_text()
    assert text in output and "the mean of 1; a loop over all of them, extrapolated, takes" in text
    assert (out / "ranks.png").is_file() and (out / "ecdf.png").is_file()


def test_ensemble_curves_and_again_without_training(tmp_path: Path) -> None:
    small = ("--steps", 12, "--batch-size", 512, "--hidden", 8, "--seeds", 2, "--counts", 1, 3)
    ask = ("ensemble_curves.py", "--dataset", "digits", *small, "--out", tmp_path)
    output = run(*ask, pixels=True)
    found = read_result(tmp_path / "curves.json")
    for networks in found["methods"].values():
        assert len(networks) == 2
        for one in networks:
            assert len(one["counts"]) == len(one["foreign"]) == 2
            assert (
                one["shifts"]["blur"][0] == one["counts"][-1] and len(one["shifts"]["blur"]) == 6
            )
    assert "| mc-dropout | 3 |" in output and list(found["methods"]) == ["ensemble", "mc-dropout"]
    for name in ("members", "shift", "foreign"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    before = (tmp_path / "methods" / "ensemble.json").stat().st_mtime_ns
    run(*ask)
    assert (tmp_path / "methods" / "ensemble.json").stat().st_mtime_ns == before
    assert "are numbers" in run("ensemble_curves.py", "--dataset", "gap", status=2)
    assert "leave out --chains" in run(
        "ensemble_curves.py", "--methods", "hmc", "--chains", 2, status=2
    )
