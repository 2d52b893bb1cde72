"""--leave-out: a class that a VAE never saw, and how well its scores find it."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_scripts import QUICK, run

import pyrovae as pv
from pyrovae.data import load_digits
from pyrovae.recipes.left_out import without_classes
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import read_result, write_result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("left_out") / "run"
    run("train_vae.py", *QUICK, "--leave-out", 3, 8, "--out", path)
    return path


def test_no_datum_of_the_class_is_seen(folder: Path) -> None:
    loaded, whole = pv.load_run(folder), load_digits()
    for split in ("train", "valid", "test"):
        own, part = loaded.data(split).data.tensors["y"], getattr(whole, split).tensors["y"]
        assert sorted(set(own.tolist())) == [0, 1, 2, 4, 5, 6, 7, 9]
        assert len(own) == int(((part != 3) & (part != 8)).sum())
    assert loaded.run["data"]["num_train"] == len(loaded.data("train").data)


def test_the_class_is_scored_against_the_others(folder: Path, tmp_path: Path) -> None:
    quick = ("--num-particles", 10, "--max-data", 25, "--regret-steps", 0)
    said = run("score.py", folder, "digits", "--against-class", 3, *quick, "--out", tmp_path)
    sets = json.loads((tmp_path / "scores.json").read_text())["sets"]
    assert list(sets) == ["digits, without 3", "digits, class 3"] and "AUROC" in said
    for words, message in (
        (("--against-class", 11), "has it in 0 of"),
        (("--against-class", 3, "--against", "mnist"), "give one"),
    ):
        error = run("score.py", folder, "digits", *words, *quick, status=2, cwd=tmp_path)
        assert message in error and error.count("\n") == 1
    np.save(tmp_path / "x.npy", load_digits().test.tensors["x"].numpy()[:5])
    error = run("score.py", folder, tmp_path / "x.npy", "--against-class", 3, status=2)
    assert "has no labels" in error


def test_classes_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="--leave-out 11: digits has no such class; it has 0, 1"):
        without_classes(load_digits(), (3, 11))
    with pytest.raises(Refusal, match="leaves no train data"):
        without_classes(load_digits(), tuple(range(10)))
    np.save(tmp_path / "x.npy", np.ones((20, 4), dtype=np.float32))
    ask = ("--dataset", tmp_path / "x.npy", "--leave-out", 1)
    assert "for data with labels" in run("train_vae.py", *QUICK, *ask, status=2)


def test_a_run_without_later_settings_goes_on(folder: Path) -> None:
    """As the version before wrote it: what it lacks has its default."""
    known = read_result(folder / "run.json")
    for part, names in (("data", ["leave_out"]), ("model", ["corrupt", "laplace_scale"])):
        for name in names:
            del known["arguments"][part][name]
    write_result(folder / "run.json", known)
    more = ("--out", folder, "--resume", "--leave-out", 3, 8)
    error = run("train_vae.py", *QUICK, *more, status=2)
    assert "--leave-out was [], is [3, 8]" in error
    known["arguments"]["data"]["leave_out"] = [3, 8]
    write_result(folder / "run.json", known)
    run("train_vae.py", *QUICK, *more)
    assert read_result(folder / "run.json")["arguments"]["model"]["corrupt"] == "none"
