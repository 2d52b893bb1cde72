"""The command that looks for faults of a finished run."""

from pathlib import Path

from test_scripts import QUICK, run


def test_a_vae_and_what_it_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run("train_vae.py", *QUICK, "--latent-dim", 3, "--out", folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    quick = ("--max-data", 100, "--num-draws", 50, "--num-steps", 60)
    said = run("diagnose.py", folder, *quick)
    assert (
        "the history has fewer than 8 epochs" in " ".join(said.split()) and "underfitting" in said
    )
    assert run("diagnose.py", folder, *quick) == said
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for arguments, message in (
        (("--num-draws", 3), "expected at least 50 draws"),
        (("--network", 1), "but the run has 1"),
    ):
        error = run("diagnose.py", folder, *arguments, status=2)
        assert message in error and len(error.strip().splitlines()) == 1


def test_a_bayesian_net(bnn_run: Path) -> None:
    said = run("diagnose.py", bnn_run, "--num-draws", 50, "--num-steps", 5)
    assert "(no latent variables of single data)" in " ".join(said.split())
