"""Predictions of trained Bayesian nets: in the units of the data, from the network of all rows."""

import logging
import shutil
from pathlib import Path

import arviz
import numpy as np
import pytest
import torch
from contents import contents, differences
from test_scripts import run
from torch import nn

import pyrovae as pv
from pyrovae.bnn.guides import Empirical
from pyrovae.data import DictDataset
from pyrovae.heads import FixedScaleNormalHead
from pyrovae.prediction.mixture import NormalMixture, predict_mixtures
from pyrovae.recipes.bnn_data import load_task
from pyrovae.recipes.bnn_predictor import NAME
from pyrovae.recipes.bnn_report import to_arviz
from pyrovae.recipes.bnn_task import Task
from pyrovae.recipes.bnn_train import Trained
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import read_result, write_result
from pyrovae.recipes.trained_bnn import CHUNK, TrainedBnn

SMALL = ("--steps", 20, "--hidden", 6, "--batch-size", 32, "--num-samples", 7)
ROWS = 90
HMC = ("--draws", 4, "--chains", 2, "--hmc-warmup", 3, "--hmc-samples", 4, "--hmc-leapfrogs", 2)


def make_table(path: Path) -> Path:
    """Features and targets of very different scales."""
    rng = np.random.default_rng(0)
    u = rng.normal(size=(ROWS, 2))
    columns = {
        "metres": 1000 + 200 * u[:, 0],
        "grams": 1e-3 * u[:, 1],
        "price": 5e4 + 1e4 * (u[:, 0] - u[:, 1]),
        "grade": np.where(u[:, 0] > 0, 7, -2),
    }
    values = np.column_stack(list(columns.values()))
    np.savetxt(path, values, delimiter=",", header=",".join(columns), comments="", fmt="%.10g")
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one table, by name."""
    folder = tmp_path_factory.mktemp("runs")
    data = ("--dataset", make_table(folder / "t.csv"), *SMALL)
    price = (*data, "--target", "price", "--splits", 2)
    run("train_bnn.py", *price, "--method", "bbb", "--out", folder / "bbb")
    one = (*data, "--target", "price", "--splits", 1, "--method", "map", "--no-predictor")
    run("train_bnn.py", *one, "--out", folder / "map")
    run("train_bnn.py", *price, "--method", "hmc", *HMC, "--out", folder / "hmc")
    run("train_bnn.py", *data, "--target", "grade", "--method", "bbb", "--out", folder / "class")
    return folder


def load(folder: Path) -> TrainedBnn:
    torch.set_default_dtype(torch.float32)
    loaded = pv.load_run(folder)
    assert isinstance(loaded, TrainedBnn)
    return loaded


def table(runs: Path, target: str = "price") -> tuple[np.ndarray, np.ndarray]:
    """The features and the target."""
    values = np.loadtxt(runs / "t.csv", delimiter=",", skiprows=1)
    place = {"price": 2, "grade": 3}[target]
    return np.delete(values, place, axis=1), values[:, place]


def test_scores_come_out_in_the_units_of_the_data(runs: Path) -> None:
    """The network of a split, a point estimate, on its test rows: the metrics of run.json."""
    loaded = load(runs / "map")
    data = load_task(loaded.settings).regression
    x, y = (part[data.splits[0][1]].numpy() for part in (data.x, data.y))
    found, density = loaded.predict(x), loaded.log_predictive(x, y[:, 0])
    error = (found.mean - torch.from_numpy(y)).square().mean().sqrt()
    assert float(error) == pytest.approx(loaded.metrics["rmse"]["mean"], rel=1e-5)
    known = loaded.metrics["log_predictive"]["mean"]
    assert float(density.mean()) == pytest.approx(known, rel=1e-5)
    assert not found.epistemic.any() and found.mean.shape == (9, 1)


def test_standard_units_and_own_ones(runs: Path) -> None:
    loaded, (x, y) = load(runs / "bbb"), table(runs)
    mean, scale = y.mean(), y.std()
    standard = torch.from_numpy((x - x.mean(0)) / x.std(0)).float()
    pair = loaded.predictor.model, loaded.predictor.guide
    torch.manual_seed(3)
    data = [{"x": standard[:1]}, {"x": standard}]
    mixture: NormalMixture = predict_mixtures(*pair, data, num_samples=7, read=lambda m: m)[1]
    found = loaded.predict(x, level=0.8, seed=3)
    assert np.allclose(found.mean, mixture.mean * scale + mean, rtol=1e-5)
    assert np.allclose(found.aleatoric, mixture.aleatoric.sqrt() * scale, rtol=1e-5)
    assert np.allclose(found.epistemic, mixture.epistemic.sqrt() * scale, rtol=1e-3)
    assert np.allclose(found.lower, mixture.quantile(0.1) * scale + mean, rtol=1e-5)
    assert np.allclose(found.upper, mixture.quantile(0.9) * scale + mean, rtol=1e-5)
    assert np.allclose(found.total**2, found.aleatoric**2 + found.epistemic**2)
    targets = torch.from_numpy((y[:, None] - mean) / scale).float()
    torch.manual_seed(3)
    data = [{"x": standard[:1], "y": targets[:1]}, {"x": standard, "y": targets}]
    density = pv.log_predictive(*pair, data, num_samples=7)[1:] - np.log(scale)
    assert np.allclose(loaded.log_predictive(x, y, seed=3), density, atol=1e-4)


def test_predictions_depend_on_the_seed_alone(runs: Path) -> None:
    for name in ("bbb", "class"):
        loaded, (x, _) = load(runs / name), table(runs, "price" if name == "bbb" else "grade")
        state = torch.get_rng_state()
        first = loaded.predict(x, seed=1)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(99)
        alone = load(runs / name).predict(torch.from_numpy(x[40:41]), seed=1)
        many = loaded.predict(np.tile(x, (CHUNK // ROWS + 2, 1)), seed=1)
        field = "mean" if name == "bbb" else "probs"
        expected = getattr(first, field)
        assert torch.allclose(getattr(alone, field)[0], expected[40], rtol=1e-5)
        assert torch.allclose(getattr(many, field)[-ROWS:], expected, rtol=1e-5)
        assert torch.equal(getattr(loaded.predict(x, seed=1), field), expected)
        assert not torch.equal(getattr(loaded.predict(x, seed=2), field), expected)


def test_classes_keep_their_labels(runs: Path) -> None:
    loaded, (x, labels) = load(runs / "class"), table(runs, "grade")
    found = loaded.predict(x)
    assert found.classes == (-2, 7) and found.probs.shape == (ROWS, 2)
    assert torch.allclose(found.probs.sum(-1), torch.ones(ROWS).double())
    assert set(found.label.tolist()) <= {-2, 7}
    exact = -torch.xlogy(found.probs, found.probs).sum(-1)
    assert torch.allclose(found.entropy, exact, atol=1e-5) and (found.epistemic >= 0).all()
    point = (
        loaded.log_predictive(x, np.full(ROWS, -2)).exp()
        + loaded.log_predictive(x, np.full(ROWS, 7)).exp()
    )
    assert torch.allclose(point, torch.ones(ROWS).double(), atol=1e-5)
    assert not (runs / "class" / NAME).exists() and loaded.log_predictive(x, labels).shape == (
        ROWS,
    )


def test_the_network_of_all_rows(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in ("bbb", "hmc"):
        assert read_result(runs / name / NAME / "predictor.json")["num_train"] == ROWS
        assert load(runs / name).predict(table(runs)[0]).mean.shape == (ROWS, 1)
    assert not caplog.messages
    load(runs / "map").predict(table(runs)[0])
    assert "the first of 1 predicts, trained on the 81 rows" in caplog.messages[0]


def test_bad_inputs_are_refused_in_a_line(runs: Path) -> None:
    loaded, classes = load(runs / "bbb"), load(runs / "class")
    x = table(runs)[0]

    def refused(words: str, act: object) -> None:
        with pytest.raises(Refusal, match=words) as caught:
            act()
        assert "\n" not in str(caught.value)

    refused(r"expected \(N, 3\): metres, grams, grade", lambda: loaded.predict(x[:, :1]))
    refused(r"expected \(N, 3\)", lambda: loaded.predict(x[0]))
    refused(r"expected \(N, 3\)", lambda: loaded.predict(x[:0]))
    refused(
        "first in row 3", lambda: loaded.predict(np.where(np.arange(90)[:, None] == 3, np.nan, x))
    )
    refused("dtype", lambda: loaded.predict(x.astype(str)))
    refused("level=1", lambda: loaded.predict(x, level=1.0))
    refused("num_samples=0", lambda: loaded.predict(x, num_samples=0))
    refused(r"y has shape \(3,\), expected \(90, 1\)", lambda: loaded.log_predictive(x, x[:3, 0]))
    three, _ = table(runs, "grade")
    refused("class 4.*they have -2, 7", lambda: classes.log_predictive(three, np.full(90, 4)))
    refused(r"expected \(90,\)", lambda: classes.log_predictive(three, three))


def test_runs_of_earlier_versions_and_damaged_ones(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs / "bbb", folder)
    weights = folder / NAME / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(Refusal, match="does not match its digest"):
        load(folder).predict(table(runs)[0])
    shutil.rmtree(folder / NAME)
    known = read_result(folder / "run.json")
    for name in ("x_mean", "x_scale", "columns", "target", "classes", "image_shape", "levels"):
        del known["data"][name]
    write_result(folder / "run.json", known)
    with pytest.raises(Refusal, match="does not say how x was scaled"):
        load(folder).predict(table(runs)[0])


@pytest.mark.parametrize("method", ["bbb", "sghmc"])
def test_training_it_goes_on_after_a_kill(
    runs: Path, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("--dataset", runs / "t.csv", "--target", "price", "--splits", 1, *SMALL[2:])
    draws = ("--draws", 2) if method == "sghmc" else ()
    command = ("train_bnn.py", *data, "--steps", 40, "--method", method, *draws)
    run(*command, "--out", tmp_path / "whole")
    from pyrovae.training.hooks import Checkpoint

    class Killed(Checkpoint):
        def __call__(self, run: object) -> None:
            super().__call__(run)
            if run.epoch == 3:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pyrovae.recipes.bnn_predictor.Checkpoint", Killed)
        run(*command, "--out", tmp_path / "killed", status=130)
    assert not (tmp_path / "killed" / NAME / "predictor.json").exists()
    run(*command, "--out", tmp_path / "killed", "--resume")
    found = [contents(tmp_path / name) for name in ("whole", "killed")]
    assert differences(*found) == [] and f"{NAME}/weights.safetensors" in found[0]


def test_the_mixing_of_a_loaded_run(runs: Path) -> None:
    loaded = load(runs / "hmc")
    assert loaded.metrics["r_hat"]["mean"] > 1
    assert loaded.evaluate() == loaded.metrics


def test_more_chains_than_arviz_is_given_draws(tmp_path: Path) -> None:
    w = torch.randn(300, 1)
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(pv.Bayesian(nn.Linear(1, 1)), scale=1.0), "x"))
    guide = Empirical({"w.weight": w[:, None], "w.bias": w})
    trained = Trained([(model, guide)], 300, None, 0.0, 0, nn.Module(), num_chains=150)
    data = DictDataset(x=torch.ones(1, 3, 1), y=torch.ones(1, 3, 1))
    task = Task("t", "regression", data, None, data, 1, torch.zeros(1), torch.ones(1))
    to_arviz(trained, task, tmp_path / "a.nc", num_samples=100)
    found = arviz.from_netcdf(tmp_path / "a.nc")["posterior"]["w.bias"]
    assert np.array_equal(found[:, 0, 0], w[::2, 0])


def test_finished_chains_are_not_run_again(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs / "hmc", folder)
    (folder / NAME / "predictor.json").unlink()
    monkeypatch.setattr(
        "pyrovae.recipes.bnn_samplers.hmc", lambda *_, **__: pytest.fail("runs chains")
    )
    data = ("--dataset", runs / "t.csv", "--target", "price", "--splits", 2, *SMALL)
    run("train_bnn.py", *data, "--method", "hmc", *HMC, "--out", folder, "--resume")
    assert differences(contents(runs / "hmc"), contents(folder)) == []


def test_a_run_stopped_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    """As chains do, which are written when they are finished."""
    ask = (
        "train_bnn.py",
        "--dataset",
        make_table(tmp_path / "t.csv"),
        "--target",
        "price",
        *SMALL,
    )
    ask = (*ask, "--method", "hmc", *HMC, "--splits", 1, "--no-predictor")
    run(*ask, "--out", tmp_path / "whole")
    run(*ask, "--out", tmp_path / "cut")
    for path in (tmp_path / "cut").iterdir():
        if path.name != "run.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "--draws was 4, is 2" in run(
        *ask, "--draws", 2, "--out", tmp_path / "cut", "--resume", status=2
    )
    run(*ask, "--out", tmp_path / "cut", "--resume")
    known, again = (
        read_result(tmp_path / name / "run.json")["metrics"]["rmse"] for name in ("whole", "cut")
    )
    assert known == again
    assert "holds no checkpoint" in run(*ask, "--out", tmp_path / "no", "--resume", status=2)
