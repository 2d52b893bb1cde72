"""--condition COLUMN,COLUMN of a table: training, sampling, scoring and encoding by the same layout."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_scripts import QUICK, run

import pyrovae as pv
from pyrovae.recipes.condition_columns import Column, ConditionColumns, find_columns
from pyrovae.recipes.refusal import Refusal

VALUES = {"red": 2.0, "blue": -2.0}


def write(path: Path, rows: int = 80, **changes: str) -> Path:
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "colour", "b", "size"])
        for i in range(rows):
            colour, size = ("red", "blue")[i % 2], i % 3
            a, b = VALUES[colour] + 0.1 * rng.normal(size=2)
            writer.writerow([f"{a:.4f}", changes.get("colour", colour), f"{b:.4f}", size])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("columns")
    own = ("--dataset", write(path / "t.csv"), "--condition", "colour,size")
    ask = ("--likelihood", "normal-learned", "--epochs", 30, "--lr", 0.02, "--batch-size", 20)
    run("train_vae.py", *QUICK, *own, *ask, "--out", path / "run")
    return path


def test_words_are_one_hot_and_numbers_as_they_are(tmp_path: Path) -> None:
    table, columns = find_columns(str(write(tmp_path / "t.csv")), "colour,size")
    assert columns.given == (Column("colour", ("blue", "red")), Column("size"))
    arrays = columns.read(table)
    assert columns.x == ("a", "b") and arrays["x"].shape == (80, 2)
    assert arrays["c"][:3].tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 2]]
    facts = json.loads(json.dumps(columns.facts()))
    assert ConditionColumns.from_facts(facts) == columns
    assert find_columns(str(tmp_path / "t.csv"), "none") is None
    assert find_columns("digits", "label") is None


def test_samples_follow_what_they_are_given(folder: Path, tmp_path: Path) -> None:
    run_json = json.loads((folder / "run" / "run.json").read_text())
    assert run_json["data"]["num_conditions"] == 3 and run_json["data"]["columns"] == ["a", "b"]
    given = tmp_path / "given.csv"
    given.write_text("size,colour\n1,blue\n0,red\n")  # in another order, without x
    ask = ("--given", given, "--num", 40, "--means", "--out", tmp_path / "s.npz")
    run("sample.py", folder / "run", *ask)
    found = np.load(tmp_path / "s.npz")
    assert found["c"][:2].tolist() == [[1, 0, 1], [0, 1, 0]] and found["x"].shape == (40, 2)
    assert (found["x"][::2].mean(0) < 0).all() and (found["x"][1::2].mean(0) > 0).all()


def test_rows_are_scored_and_encoded_with_theirs(folder: Path, tmp_path: Path) -> None:
    swapped = tmp_path / "swapped.csv"
    text = (folder / "t.csv").read_text()
    swapped.write_text(text.replace("red", "x").replace("blue", "red").replace("x", "blue"))
    quick = ("--num-particles", 20, "--max-data", 40, "--regret-steps", 0)
    ask = ("--against", swapped, *quick, "--out", tmp_path / "scores")
    run("score.py", folder / "run", folder / "t.csv", *ask)
    result = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert result["detection"]["log_px"]["auroc"] > 0.9  # x under the other colour
    run("embed.py", folder / "run", folder / "t.csv", "--out", tmp_path / "c.npz")
    assert np.load(tmp_path / "c.npz")["mean"].shape == (80, 2)
    torch.set_default_dtype(torch.float32)
    loaded = pv.load_run(folder / "run")
    assert loaded.task.name == "own" and len(loaded.data("test").data) == 8
    run("evaluate.py", folder / "run", "--num-particles", 5, "--max-data", 5)


def test_mistakes_are_one_line(folder: Path, tmp_path: Path) -> None:
    teal = write(tmp_path / "teal.csv", rows=12, colour="teal")
    for script, words, message in (
        ("sample.py", (folder / "run", "--given", teal), "line 2, column 'colour' holds 'teal'"),
        ("score.py", (folder / "run", teal), "expected one of blue, red"),
        ("sample.py", (folder / "run",), "pass c"),
    ):
        error = run(script, *words, status=2, cwd=tmp_path)
        assert message in error and error.count("\n") == 1
    table = str(folder / "t.csv")
    for condition, message in (
        ("color", "has no column 'color'. Did you mean colour"),
        ("a,a", "named twice"),
        ("a,b,colour,size", "none is left for x"),
    ):
        with pytest.raises(Refusal, match=message):
            find_columns(table, condition)
    with pytest.raises(Refusal, match="Did you mean label"):
        find_columns("digits", "labels")
