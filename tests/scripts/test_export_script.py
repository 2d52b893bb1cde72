"""`export.py` as a user runs it."""

from pathlib import Path

from test_bnn_scripts import QUICK as BNN
from test_scripts import QUICK, run


def test_files_and_their_differences_are_said(tmp_path: Path) -> None:
    run("train_vae.py", *QUICK, "--net", "gated", "--out", tmp_path / "run")
    out = tmp_path / "new" / "out"
    said = run("export.py", tmp_path / "run", "--format", "torch-export", "--out", out)
    assert "encoder.pt2" in said and "over 359 rows" in said
    assert {path.name for path in out.iterdir()} == {
        "encoder.pt2",
        "decoder.pt2",
        "torch-export.json",
    }


def test_what_does_not_apply_is_refused_in_one_line(tmp_path: Path) -> None:
    run("train_bnn.py", *BNN, "--splits", 1, "--method", "laplace", "--out", tmp_path / "bnn")
    said = run("export.py", tmp_path / "bnn", "--format", "torch-export", status=2)
    assert "--method laplace predicts by the net linearised" in said and said.count("\n") == 1
