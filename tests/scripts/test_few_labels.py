"""The command for few labels: it starts, writes, resumes, and refuses in a line."""

import json
from pathlib import Path

from test_scripts import run

SMALL = ["--epochs", "1", "--hidden", "8", "--latent-size", "2"]


def test_the_command_writes_and_continues(tmp_path: Path) -> None:
    words = ["--labels", "20", "--seeds", "2", *SMALL, "--out", tmp_path / "out"]
    said = run("semi_supervised.py", *words, pixels=True)
    content = json.loads((tmp_path / "out" / "semi_supervised.json").read_text())
    for name in ("supervised", "m2", "m1+m2"):
        assert 0 < content[name]["20"]["error"] < 100 and content[name]["20"]["seeds"] == 2
        assert f"| {name} | 20 |" in said
    for name in ("errors", "samples_m2", "samples_m1_m2"):
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 1000
    kept = tmp_path / "out" / "results" / "m2-20-0.json"
    before = kept.stat().st_mtime_ns
    run("semi_supervised.py", *words, "--methods", "supervised")  # the others stay in the tables
    assert kept.stat().st_mtime_ns == before
    assert json.loads((tmp_path / "out" / "semi_supervised.json").read_text()) == content
    said = run("semi_supervised.py", *words, "--batch-size", "50", status=2)
    assert "with other settings (batch-size: " in said


def test_refusals_are_one_line(tmp_path: Path) -> None:
    for words, message in (
        (["--methods", "m3"], "--methods names m3; expected some of"),
        (["--labels", "5000"], "1295 training images"),
        (["--epochs", "0"], "--epochs 0: expected at least 1"),
    ):
        error = run("semi_supervised.py", *words, "--out", tmp_path / "out", status=2)
        assert message in error and len(error.strip().splitlines()) == 1, error
