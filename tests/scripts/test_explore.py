"""`explore.py` as a user runs it."""

from pathlib import Path

from test_scripts import QUICK, run


def test_a_page_is_written_and_its_size_said(tmp_path: Path) -> None:
    folder, out = tmp_path / "run", tmp_path / "page.html"
    run("train_vae.py", *QUICK, "--guide", "iaf", "--out", folder)
    said = run("explore.py", folder, "--max-data", 30, "--out", out)
    assert f"{out}: 0.0" in said and "MB, weights as float32" in said
    assert "no drawing: the mean of q(z | x) of this guide has no closed form" in said
    assert "30 test data" in out.read_text(encoding="utf-8")


def test_what_has_no_page_is_refused_in_one_line(bnn_run: Path, tmp_path: Path) -> None:
    said = run("explore.py", bnn_run, status=2)
    assert "holds a Bayesian neural network" in said and said.count("\n") == 1
    run("train_vae.py", *QUICK, "--condition", "label", "--out", tmp_path / "vae")
    said = run("explore.py", tmp_path / "vae", status=2)
    assert "holds a conditional model, p(x | c)" in said and said.count("\n") == 1
