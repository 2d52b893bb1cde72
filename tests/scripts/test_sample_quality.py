"""The command for sample quality, on folders of VAEs and of landscapes, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_scripts import QUICK, run

from pyrovae.recipes.results import read_arrays, read_result, write_arrays, write_result


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    path = tmp_path_factory.mktemp("quality")
    run("train_vae.py", *QUICK, "--binarize", "threshold", "--out", path / "vae")
    small = ["--epochs", "1", "--hidden", "4", "--latent-size", "2"]
    words = ["--families", "bernoulli,ppca", *small, "--out", path / "landscape"]
    run("landscape.py", *words)
    return path / "vae", path / "landscape"


def test_the_command_scores_runs_and_landscapes(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ["--num", "200", "--max-data", "150", "--epochs", "2", "--out", tmp_path]
    said = run("sample_quality.py", *folders, *words)
    tables = json.loads((tmp_path / "sample_quality.json").read_text())["tables"]
    bits, grey = tables.values()  # the VAE and the binary families saw the same images
    assert {str(folders[0]), f"{folders[1]}: bernoulli"} < set(bits["scores"])
    assert f"{folders[1]}: ppca" in grey["scores"] and bits["num_samples"] == 200
    assert bits["num_data"] == 150
    for table in (bits, grey):
        assert len(table["scores"]) == 4 + (2 if table is bits else 1)
        for row in table["scores"].values():
            assert all(np.isfinite(one["value"]) and one["se"] >= 0 for one in row.values())
            assert 0 <= row["precision"]["value"] <= 1
    assert "Where each score misleads" in said
    assert (tmp_path / "sample_quality.md").read_text() in said
    assert run("sample_quality.py", *folders, *words) == said


@pytest.mark.parametrize(
    "words, message",
    [
        ("{none}", "holds neither run.json nor landscape.json"),
        ("{vae} {vae}", "expected one or more different folders"),
        ("{vae} --num 5", "--num 5: expected at least 100"),
        ("{vae} --epochs 0", "--epochs 0: expected at least 1"),
        ("{old}", "holds 10 samples of an earlier version"),
    ],
)
def test_mistakes_are_one_line(
    folders: tuple[Path, Path], tmp_path: Path, words: str, message: str
) -> None:
    vae, land = folders
    old = tmp_path / "old"
    if "old" in words:
        earlier(land, old)
    named = words.format(none=tmp_path, vae=vae, old=old).split()
    error = run("sample_quality.py", *named, "--out", tmp_path / "out", status=2)
    assert message in error and len(error.strip().splitlines()) == 1, error


def earlier(folder: Path, copy: Path) -> None:
    """A folder of landscape.py whose families keep ten samples."""
    (copy / "families").mkdir(parents=True)
    (copy / "landscape.json").write_bytes((folder / "landscape.json").read_bytes())
    for name in ("bernoulli", "ppca"):
        arrays = read_arrays(folder / "families" / f"{name}.npz")
        path = copy / "families" / f"{name}.npz"
        write_arrays(path, arrays | {"samples": arrays["samples"][:10]})
        result = read_result(folder / "families" / f"{name}.json")
        result.pop("digests")
        write_result(path.with_suffix(".json"), result, files=[path])
