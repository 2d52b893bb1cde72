"""The scripts that study one question, on runs shrunk to seconds."""
import csv
from pathlib import Path

from test_scripts import run


def test_gradient_variance_writes_a_table_and_a_picture(tmp_path: Path) -> None:
    output = run("gradient_variance.py", "--epochs", 0, 1, "--draws", 30, "--hidden", 16, "--out", tmp_path / "study")
    with (tmp_path / "study" / "gradient_variance.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0"] * 5 + ["1"] * 5
    variance = {(row["epoch"], row["estimator"]): float(row["variance"]) for row in rows}
    assert all(variance[epoch, "score function"] > 10 * variance[epoch, "reparameterised"] for epoch in "01")
    assert (tmp_path / "study" / "gradient_variance.png").is_file() and "score function" in output
    assert "wanted numbers of epochs" in run("gradient_variance.py", "--draws", 1, status=2)
