"""From a wheel, in a new process and another folder, a run is loaded and scores as in run.json."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_scripts import QUICK, run

import pyrovae as pv

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE")
READ = """
import json, sys
import pyrovae as pv
found = {}
for folder in sys.argv[1:]:
    loaded = pv.load_run(folder)
    found[folder] = [loaded.metrics, loaded.evaluate()]
json.dump([pv.__file__, found], sys.stdout)
"""
BNN = ("--steps", 40, "--hidden", 8, "--batch-size", 128, "--num-samples", 5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A VAE, an autoencoder and two Bayesian nets."""
    folder = tmp_path_factory.mktemp("runs")
    names = ("vae", "autoencoder", "classes", "numbers")
    vae, autoencoder, classes, numbers = paths = [folder / name for name in names]
    run("train_vae.py", *QUICK, "--out", vae)
    run("train_vae.py", *QUICK, "--guide", "point", "--prior", "flat", "--out", autoencoder)
    digits = ("--dataset", "digits", "--ood", "noise")
    run("train_bnn.py", *digits, "--method", "bbb", *BNN, "--out", classes)
    splits = ("--splits", 2, "--no-predictor")
    run("train_bnn.py", *splits, "--method", "sgld", "--draws", 3, *BNN, "--out", numbers)
    return paths


def test_a_loaded_run_evaluates_as_it_was_trained(runs: list[Path]) -> None:
    torch.set_default_dtype(torch.float32)
    for path in runs:
        loaded, state, threads = pv.load_run(path), torch.get_rng_state(), torch.get_num_threads()
        assert loaded.evaluate() == loaded.metrics, path
        assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


def test_a_wheel_says_the_same(runs: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    source, target = tmp_path / "source", tmp_path / "site"
    shutil.copytree(
        ROOT / "pyrovae", source / "pyrovae", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    build = [*pip, "wheel", *offline, "-w", str(tmp_path), str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("pyrovae-*.whl")
    install = [*pip, "install", "--no-deps", "--no-index", "--no-compile", "--target", str(target)]
    done = subprocess.run([*install, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (target / "pyrovae" / "recipes" / "explorer" / "page.html").exists()
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, runs)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    file, found = json.loads(done.stdout)
    assert Path(file).is_relative_to(target)
    for path in runs:
        known = json.loads((path / "run.json").read_text())["metrics"]
        assert found[str(path)] == [known, known]
