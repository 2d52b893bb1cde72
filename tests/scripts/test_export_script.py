"""`export.py` as a user runs it."""

from pathlib import Path

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


def test_a_bayesian_net_is_refused_in_one_line(bnn_run: Path) -> None:
    said = run("export.py", bnn_run, status=2)
    assert "holds a Bayesian neural network" in said and said.count("\n") == 1
