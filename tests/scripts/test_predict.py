"""predict.py as a user runs it: a table in, the same table with predictions out."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_scripts import run, run_alone

import pyrovae as pv

SMALL = ("--steps", 20, "--hidden", 6, "--batch-size", 32, "--num-samples", 7)
COLUMNS = ["mean", "lower", "upper", "aleatoric", "epistemic"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table and two runs of it."""
    folder, rng = tmp_path_factory.mktemp("predict"), np.random.default_rng(0)
    u = rng.normal(size=(60, 2))
    table = [
        {"a": 100 + 5 * one, "b": two, "cost": 1e3 * (one + two), "kind": int(one > 0) + 4}
        for one, two in u
    ]
    table = [{name: repr(float(v)) for name, v in row.items()} for row in table]
    write(folder / "t.csv", [{name: row[name] for name in ("a", "b", "cost")} for row in table])
    write(folder / "k.csv", [{name: row[name] for name in ("a", "b", "kind")} for row in table])
    cost = ("--dataset", folder / "t.csv", "--target", "cost", "--splits", 1)
    run("train_bnn.py", *cost, *SMALL, "--out", folder / "cost")
    kind = ("--dataset", folder / "k.csv", "--target", "kind", "--method", "map")
    run("train_bnn.py", *kind, *SMALL, "--out", folder / "kind")
    return folder


def test_a_table_comes_back_with_predictions(folder: Path, tmp_path: Path) -> None:
    out = run("predict.py", folder / "cost", folder / "t.csv", "--out", tmp_path / "p.csv")
    assert "RMSE " in out and "log p(y given x) " in out and "N = 60" in out
    found, given = rows_of(tmp_path / "p.csv"), rows_of(folder / "t.csv")
    assert list(found[0]) == ["a", "b", "cost", *COLUMNS]
    assert [{name: row[name] for name in given[0]} for row in found] == given
    torch.set_default_dtype(torch.float32)
    x = np.array([[float(row["a"]), float(row["b"])] for row in given])
    expected = pv.load_run(folder / "cost").predict(x)
    for name in COLUMNS:
        written = [float(row[name]) for row in found]
        assert np.allclose(written, getattr(expected, name)[:, 0], rtol=1e-8)
    others = [
        {"who": f'"{k}", x', "b": row["b"], "a": row["a"]} for k, row in enumerate(given[:5])
    ]
    more = write(tmp_path / "more.csv", others)
    out = run("predict.py", folder / "cost", more, "--out", tmp_path / "q.csv", "--level", 0.5)
    again = rows_of(tmp_path / "q.csv")
    assert list(again[0]) == ["who", "b", "a", *COLUMNS] and "RMSE" not in out
    assert [row["who"] for row in again] == [row["who"] for row in others]
    for row, before in zip(again, found):
        assert float(row["mean"]) == pytest.approx(float(before["mean"]), rel=1e-6)
        assert float(before["lower"]) < float(row["lower"]) < float(row["upper"])


def test_a_new_process_says_the_same(folder: Path, tmp_path: Path) -> None:
    run("predict.py", folder / "cost", folder / "t.csv", "--out", tmp_path / "here.csv")
    done = run_alone(
        "predict.py", folder / "cost", folder / "t.csv", "--out", "there.csv", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "there.csv").read_bytes()


def test_arrays(folder: Path, tmp_path: Path) -> None:
    given = rows_of(folder / "t.csv")
    x = np.array([[float(row["a"]), float(row["b"])] for row in given])
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "xy.npz", x=x, y=np.array([float(row["cost"]) for row in given]))
    run("predict.py", folder / "cost", folder / "t.csv", "--out", tmp_path / "p.csv")
    with_y = run("predict.py", folder / "cost", tmp_path / "xy.npz", "--out", tmp_path / "q.npz")
    without = run("predict.py", folder / "cost", tmp_path / "x.npy", "--out", tmp_path / "r.csv")
    assert "RMSE" in with_y and "RMSE" not in without
    means = [float(row["mean"]) for row in rows_of(tmp_path / "p.csv")]
    with np.load(tmp_path / "q.npz") as arrays:
        assert sorted(arrays) == sorted(COLUMNS) and np.allclose(arrays["mean"], means, rtol=1e-8)
    written = rows_of(tmp_path / "r.csv")
    assert list(written[0]) == COLUMNS and [float(row["mean"]) for row in written] == means


def test_classes(folder: Path, tmp_path: Path) -> None:
    out = run("predict.py", folder / "kind", folder / "k.csv", "--out", tmp_path / "p.csv")
    found = rows_of(tmp_path / "p.csv")
    assert list(found[0]) == ["a", "b", "kind", "predicted", "p_4", "p_5", "entropy"]
    right = [float(row["kind"]) == float(row["predicted"]) for row in found]
    assert f"accuracy {np.mean(right):.4g} ± " in out
    for row in found:
        p = np.array([float(row["p_4"]), float(row["p_5"])])
        assert p.sum() == pytest.approx(1) and row["predicted"] == str(4 + p.argmax())
        assert float(row["entropy"]) == pytest.approx(-(p * np.log(p)).sum(), abs=1e-5)
    assert json.loads((folder / "kind" / "run.json").read_text())["data"]["classes"] == [4, 5]


def test_several_targets(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 2))
    np.savez(tmp_path / "two.npz", x=x, y=np.column_stack([1e3 + x[:, 0], 1e-3 * x[:, 1]]))
    own = ("--dataset", tmp_path / "two.npz", "--splits", 1, "--method", "map", "--noise", "input")
    run("train_bnn.py", *own, *SMALL, "--out", tmp_path / "run")
    run("predict.py", tmp_path / "run", tmp_path / "two.npz", "--out", tmp_path / "p.csv")
    found = rows_of(tmp_path / "p.csv")
    assert list(found[0]) == [f"{name}_{k}" for k in (0, 1) for name in COLUMNS]
    assert all(
        990 < float(row["mean_0"]) < 1010 and abs(float(row["mean_1"])) < 1 for row in found
    )
    text = write(tmp_path / "t.csv", [{"any": 0.1, "names": 0.2}])  # in the order of x
    run("predict.py", tmp_path / "run", text, "--out", tmp_path / "q.csv")
    assert list(rows_of(tmp_path / "q.csv")[0])[:3] == ["any", "names", "mean_0"]
    more = write(tmp_path / "m.csv", [{"a": 1, "b": 2, "c": 3}])
    error = run("predict.py", tmp_path / "run", more, "--out", tmp_path / "r.csv", status=2)
    assert "has 3 columns" in error and "expected 2" in error


def test_wrong_requests_are_refused_in_a_line(folder: Path, tmp_path: Path) -> None:
    given = rows_of(folder / "t.csv")
    text = write(tmp_path / "text.csv", [{**given[0], "b": "big"}])
    lacks = write(tmp_path / "lacks.csv", [{"a": 1, "cost": 2}])
    twice = write(tmp_path / "twice.csv", [{**given[0], "mean": 2}])
    wide = tmp_path / "wide.npy"
    np.save(wide, np.ones((4, 3)))
    out = ("--out", tmp_path / "p.csv")
    for arguments, words in (
        ((folder / "cost", text), "line 2, column 'b' holds 'big'"),
        ((folder / "cost", lacks), "no column 'b'; its columns are a, cost"),
        ((folder / "cost", twice), "already has a column 'mean'"),
        ((folder / "cost", wide), "x has shape (4, 3), expected (N, 2): a, b"),
        ((folder / "cost", tmp_path / "no.csv"), "does not exist"),
        ((folder / "cost", "diabetes"), "DATA diabetes is neither"),
        ((folder / "cost", tmp_path), "is a folder"),
        ((tmp_path, text), "holds no run.json"),
        ((folder / "cost", text, "--level", "1"), "--level 1"),
    ):
        error = run("predict.py", *arguments, *out, status=2)
        assert words in error and error.count("\n") == 1, error
    own = run("predict.py", folder / "cost", text, "--out", text, status=2)
    assert "would overwrite the data" in own
    assert "expected the name of a .csv or .npz" in run(
        "predict.py", folder / "cost", text, "--out", tmp_path / "p.xlsx", status=2
    )
    assert not (tmp_path / "p.csv").exists()
