"""The exported predictor of a Bayesian net gives what `predict` gives, its draws being in the graph."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_graph_export import Wrong, formats
from test_scripts import run

import pyrovae as pv
from pyrovae.recipes.bnn_export import export_predictor
from pyrovae.recipes.graph_formats import TorchExport
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.trained_bnn import TrainedBnn

SMALL = ("--steps", 20, "--hidden", 6, "--batch-size", 32)
OF_METHODS = {
    "mc-dropout": (),
    "bbb-hierarchical": (),
    "ensemble": ("--members", 3),
    "sghmc": ("--draws", 3),
    "swag": ("--draws", 4, "--swag-rank", 2, "--steps", 40),
    "hmc": ("--draws", 3, "--hmc-warmup", 3, "--hmc-samples", 3, "--hmc-leapfrogs", 2),
}
"""A method of each kind, and what makes it short."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Columns of very different scales, and runs beside it."""
    path = tmp_path_factory.mktemp("bnn_export") / "t.csv"
    u = np.random.default_rng(0).normal(size=(60, 2))
    columns = {
        "year": 2000 + u[:, 0],
        "grams": 1e-3 * u[:, 1],
        "price": 5e4 + 10 * (u[:, 0] - u[:, 1]),
        "grade": np.where(u[:, 0] > 0, 7, -2),
    }
    values = np.column_stack(list(columns.values()))
    np.savetxt(path, values, delimiter=",", header=",".join(columns), comments="", fmt="%.10g")
    return path


def trained(table: Path, method: str, target: str = "price") -> TrainedBnn:
    folder = table.parent / f"{method}-{target}"
    if not folder.exists():
        one = ("--splits", 1) if target == "price" else ()
        one += () if method == "bbb" else ("--no-predictor",)
        ask = ("--dataset", table, "--target", target, "--method", method, *one)
        samples = ("--num-samples", 7)
        run("train_bnn.py", *ask, *SMALL, *samples, *OF_METHODS.get(method, ()), "--out", folder)
    torch.set_default_dtype(torch.float32)
    loaded = pv.load_run(folder)
    assert isinstance(loaded, TrainedBnn)
    return loaded


def rows(table: Path, target: str) -> np.ndarray:
    values = np.loadtxt(table, delimiter=",", skiprows=1)
    return np.delete(values, {"price": 2, "grade": 3}[target], axis=1)


@pytest.mark.parametrize("kind", ["torch-export", "onnx"])
@pytest.mark.parametrize("target", ["price", "grade"])
def test_a_file_gives_what_predict_gives(
    table: Path, kind: str, target: str, tmp_path: Path
) -> None:
    form, loaded = formats(kind), trained(table, "bbb", target)
    (written,) = export_predictor(loaded, form, tmp_path, num_samples=5, seed=3)
    assert written.path.name == f"predictor{form.suffix}" and written.difference <= 1e-5
    x = rows(table, target)[-7:]
    found = loaded.predict(x, num_samples=5, seed=3)
    given = form.load(written.path.read_bytes())(torch.from_numpy(x))
    if target == "price":
        expected = [found.mean, found.total, found.aleatoric, found.epistemic]
        unit = float(loaded.layout.scale("y_scale"))
    else:
        expected, unit = [found.probs, found.entropy, found.aleatoric, found.epistemic], 1.0
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * unit)
    said = json.loads((tmp_path / f"{kind}.json").read_text())
    graph = said["graphs"]["predictor"]
    assert said["num_samples"] == 5 and said["seed"] == 3 and said["method"] == "bbb"
    assert said["columns"][:2] == ["year", "grams"] and said["target"] == target
    assert said["classes"] == ([] if target == "price" else [-2, 7])
    assert graph["inputs"][0]["shape"] == ["batch", 3]
    assert [port["dtype"] for port in graph["inputs"] + graph["outputs"]] == ["float64"] * 5
    assert (said["opset"] == 18) == (kind == "onnx")


@pytest.mark.parametrize("method", OF_METHODS)
def test_every_method_with_draws_of_the_weights(table: Path, method: str, tmp_path: Path) -> None:
    loaded = trained(table, method)
    (written,) = export_predictor(loaded, TorchExport(), tmp_path)
    said = json.loads((tmp_path / "torch-export.json").read_text())
    assert written.difference <= 1e-5 and said["num_samples"] == loaded.predictor.num_samples


def test_images(table: Path, tmp_path: Path) -> None:
    folder = table.parent / "digits"
    run("train_bnn.py", "--dataset", "digits", "--method", "map", *SMALL, "--out", folder)
    export_predictor(pv.load_run(folder), TorchExport(), tmp_path, max_data=20)
    (port,) = json.loads((tmp_path / "torch-export.json").read_text())["graphs"]["predictor"][
        "inputs"
    ]
    assert port["shape"] == ["batch", 1, 8, 8] and port["dtype"] == "float32"
    assert port["units"].startswith("pixels in [0, 1]")


def test_what_cannot_be_written_is_refused(table: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="the net linearised at the mode"):
        export_predictor(trained(table, "laplace"), TorchExport(), tmp_path / "out")
    with pytest.raises(Refusal, match="a difference of 0.0001 from the original"):
        export_predictor(trained(table, "bbb", "grade"), Wrong(), tmp_path / "out")
    with pytest.raises(Refusal, match="num_samples=0"):
        export_predictor(trained(table, "bbb"), TorchExport(), tmp_path / "out", num_samples=0)
    assert not (tmp_path / "out").exists()


def test_the_command(table: Path, tmp_path: Path) -> None:
    trained(table, "bbb")
    ask = ("--format", "torch-export", "--num-samples", 4, "--out", tmp_path)
    said = run("export.py", table.parent / "bbb-price", *ask)
    assert "predictor.pt2" in said and "over 6 rows" in said
    assert json.loads((tmp_path / "torch-export.json").read_text())["num_samples"] == 4
