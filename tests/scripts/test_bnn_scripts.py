"""The scripts for Bayesian neural networks as a user runs them."""

import csv
import json
from pathlib import Path

import arviz as az
import numpy as np
import pytest
import sklearn.datasets
import torch
from test_scripts import boxes_of, run

import pyrovae as pv
from pyrovae.recipes.bnn_data import load_task
from pyrovae.recipes.bnn_methods import METHODS
from pyrovae.recipes.bnn_scores import score
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_train import train
from pyrovae.recipes.nesting import build
from pyrovae.recipes.results import read_result, write_result

QUICK = ("--steps", "20", "--hidden", "8", "--batch-size", "128", "--num-samples", "5")
OF_METHODS = (
    "--draws",
    "5",
    "--swag-rank",
    "2",
    "--hmc-warmup",
    "5",
    "--hmc-samples",
    "5",
    "--hmc-leapfrogs",
    "3",
    "--nuts-depth",
    "2",
    "--random-walk-steps",
    "20",
    "--members",
    "2",
)
REGRESSION = {"rmse", "log_predictive", "crps", "coverage_90", "train_seconds"}
SCALED = {"width_factor", "log_predictive_scaled", "coverage_90_scaled"}
CLASSES = {"accuracy", "nll", "brier", "ece", "ood_auroc", "train_seconds"}


def test_every_method_on_a_regression_set_and_again_without_training(tmp_path: Path) -> None:
    command = (
        "compare_bnn.py",
        "--methods",
        ",".join(METHODS),
        "--splits",
        2,
        *QUICK,
        *OF_METHODS,
        "--valid-fraction",  # for stacking, and scores after scaling
        0.1,
        "--steps",
        60,  # after which every method has its draws
        "--out",
        tmp_path,
    )
    output = run(*command)
    results = json.loads((tmp_path / "comparison.json").read_text())
    assert list(results) == list(METHODS)
    for method, metrics in results.items():
        assert REGRESSION | SCALED <= set(metrics), method
        assert (
            metrics["rmse"]["n"] == 2 and 40 < metrics["rmse"]["mean"] < 200
        )  # in the units of the data
        assert f"| {method} |" in output
    with (tmp_path / "comparison.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * len(METHODS)
    for method in ("bbb", "hmc"):
        data = az.from_netcdf(tmp_path / "arviz" / f"{method}.nc")
        groups = {
            group.strip("/") for group in (data.groups() if callable(data.groups) else data.groups)
        }  # ArviZ 0.x; 1.x
        assert {"posterior", "posterior_predictive", "log_likelihood", "observed_data"} <= groups
    before = (tmp_path / "methods" / "bbb.json").read_text()
    run(*command)
    assert (tmp_path / "methods" / "bbb.json").read_text() == before
    assert "other settings (hidden: " in run(*command, "--hidden", "9", status=2)


def test_methods_join_a_comparison_with_settings_of_their_own(tmp_path: Path) -> None:
    command = ["compare_bnn.py", "--dataset", "diabetes", *QUICK, "--splits", 1, "--out", tmp_path]

    def compared() -> list[str]:
        return list(json.loads((tmp_path / "comparison.json").read_text()))

    run(*command, "--methods", "mc-dropout,map", "--rate", 0.2)
    before = (tmp_path / "methods" / "mc-dropout.json").read_text()
    run(*command, "--methods", "radial", "--init-scale", 0.01)
    assert compared() == ["map", "radial", "mc-dropout"]
    assert (tmp_path / "methods" / "mc-dropout.json").read_text() == before
    caption = (tmp_path / "comparison.md").read_text()
    assert "1 network a method" in caption and "radial: --init-scale 0.01" in caption
    assert "mc-dropout: --rate 0.2" in caption and "--hidden" in caption
    said = run(*command, "--methods", "mc-dropout", "--rate", 0.3, status=2)
    assert "holds mc-dropout with other settings (rate: 0.2 there, 0.3 here)" in said
    said = run(*command, "--methods", "bbb", "--lr", 0.5, status=2)
    assert "a comparison with other settings (lr: 0.01 there, 0.5 here)" in said
    # a folder of an earlier version: the settings of all methods lie in one file
    begun, path = tmp_path / "settings.json", tmp_path / "methods" / "mc-dropout.json"
    content = read_result(path)
    write_result(begun, read_result(begun) | content.pop("settings"))
    write_result(path, content)
    run(*command, "--methods", "mc-dropout", "--rate", 0.2)
    assert "(rate: " in run(*command, "--methods", "mc-dropout", "--rate", 0.3, status=2)


def test_classifiers_meet_data_they_have_not_seen(tmp_path: Path) -> None:
    run(
        "compare_bnn.py",
        "--dataset",
        "digits",
        "--methods",
        "map,bbb,mc-dropout,ensemble,laplace",
        "--laplace",
        "last-layer",
        "--ood",
        "photographs",
        "--members",
        2,
        *QUICK,
        "--out",
        tmp_path,
        pixels=True,
    )
    results = json.loads((tmp_path / "comparison.json").read_text())
    for method, metrics in results.items():
        assert CLASSES <= set(metrics) and metrics["accuracy"]["se"] is None
        assert ("ood_auroc_mi" in metrics) == (
            method != "map"
        )  # one draw has no mutual information
    row = next(
        line
        for line in (tmp_path / "comparison.md").read_text().splitlines()
        if line.startswith("| map |")
    )
    assert row.count("–") == 1
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"reliability.png", "entropies.png", "rotation.png"} <= names


def test_a_users_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    np.savez(tmp_path / "own.npz", x=x, y=x @ [1.0, 2.0, 3.0])
    np.savez(tmp_path / "classes.npz", x=x, y=(x[:, 0] > 0).astype(np.int64))
    folder = tmp_path / "uci"
    folder.mkdir()
    np.savetxt(folder / "data.txt", np.column_stack([x, x.sum(1)]))
    np.savetxt(folder / "index_features.txt", [0, 1, 2], fmt="%d")
    np.savetxt(folder / "index_target.txt", [3], fmt="%d")
    (folder / "n_splits.txt").write_text("2\n")
    for split in range(2):
        order = rng.permutation(60)
        np.savetxt(folder / f"index_train_{split}.txt", order[:50], fmt="%d")
        np.savetxt(folder / f"index_test_{split}.txt", order[50:], fmt="%d")
    for name, metric in (("own.npz", "rmse"), ("classes.npz", "accuracy"), ("uci", "rmse")):
        out = tmp_path / f"out-{name}"
        run(
            "compare_bnn.py",
            "--dataset",
            tmp_path / name,
            "--methods",
            "map",
            *QUICK,
            *(("--splits", 2) if metric == "rmse" else ()),
            "--out",
            out,
        )
        assert metric in json.loads((out / "comparison.json").read_text())["map"]


@pytest.mark.parametrize("method", ["bbb", "sgld"])
def test_training_resumes_to_the_same_end(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrovae.recipes.bnn_figures.STEPS", 60)
    common = ("--method", method, "--splits", "2", *QUICK[2:])
    whole = ("train_bnn.py", *common, "--steps", "60", "--out", tmp_path / "whole")
    run(*whole, pixels=method == "bbb")
    contents = json.loads((tmp_path / "whole" / "run.json").read_text())
    pictures = {"predictions.png", "residuals.png", "coverage.png", "history.png"}
    assert contents["metrics"]["rmse"]["n"] == 2
    assert {path.name for path in (tmp_path / "whole" / "figures").iterdir()} == pictures
    assert "already holds a run" in run(
        "train_bnn.py", *common, "--steps", "60", "--out", tmp_path / "whole", status=2
    )
    again = run(
        "train_bnn.py",
        *common,
        "--steps",
        "60",
        "--out",
        tmp_path / "whole",
        "--resume",
        "--bands",
    )
    assert (tmp_path / "whole" / "figures" / "bands.png").exists()
    resumed = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert resumed["metrics"]["rmse"] == contents["metrics"]["rmse"], again
    assert resumed["train_seconds"] == contents["train_seconds"]  # nothing was left to train


@pytest.mark.parametrize("script", ["train_bnn.py", "compare_bnn.py"])
def test_help_explains_every_method(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    boxes = boxes_of(run(script, "--help"))
    assert list(boxes) == ["method", "data", "model", "run"]
    text = " ".join(boxes["method"].split())
    for name, method in METHODS.items():
        words = method.description
        assert len(words) > 10 and f"{name}: {words}" in text, name


def test_pictures_are_of_the_users_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions in the units of the data; the toy only where it is asked for, and named."""
    monkeypatch.setattr("pyrovae.recipes.bnn_figures.STEPS", 60)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    np.savez(tmp_path / "own.npz", x=x, y=np.column_stack([1000 + 10 * x[:, 0], x[:, 1]]))
    drawn = {}
    monkeypatch.setattr("pyrovae.plots.save", lambda figures, folder: drawn.update(figures))
    ask = (
        "compare_bnn.py",
        "--dataset",
        tmp_path / "own.npz",
        "--methods",
        "map,bbb",
        "--splits",
        2,
        *QUICK,
        "--out",
        tmp_path / "out",
    )
    run(*ask)
    assert set(drawn) == {"predictions", "residuals", "coverage"}
    titles = [axes.get_title().splitlines()[0] for axes in drawn["predictions"].axes]
    assert titles == ["map, y[0]", "map, y[1]", "bbb, y[0]", "bbb, y[1]"]
    assert drawn["predictions"].get_suptitle() == "own: 6 test data of split 1 of 2"
    test = load_task(build(BnnSettings, {"dataset": str(tmp_path / "own.npz"), "splits": 2}))
    observed = test.test.tensors["y"][0].numpy() * test.y_scale[0].numpy() + test.y_mean[0].numpy()
    shown = np.concatenate([line.get_xdata() for line in drawn["predictions"].axes[0].lines[1:]])
    assert np.allclose(np.sort(shown), np.sort(observed[:, 0]), atol=1e-3) and shown.min() > 900
    run(*ask, "--bands")
    assert "toy" in drawn["bands"].get_suptitle() and len(drawn["bands"].axes) == 2
    (tmp_path / "out" / "figures").mkdir(exist_ok=True)
    (tmp_path / "out" / "figures" / "bands.png").touch()
    for methods, panels in (("map,bbb", set()), ("map", {"bands"})):  # of other methods: again
        drawn.clear()
        run(*ask, "--bands", "--methods", methods)
        assert set(drawn) & {"bands"} == panels
    classes = ("--dataset", "digits", "--methods", "map", "--bands")
    assert "targets of digits are classes" in run(
        "compare_bnn.py", *classes, "--out", tmp_path / "no", status=2
    )


def test_scores_of_intervals_are_those_of_the_picture() -> None:
    torch.set_default_dtype(torch.float32)
    s = build(BnnSettings, {"splits": 1, "steps": 200, "hidden": (10,)})
    task = load_task(s)
    found = score(train(METHODS["bbb"], s, task), s, task)
    inside = (found.arrays["lower"] <= found.arrays["observed"]) & (
        found.arrays["observed"] <= found.arrays["upper"]
    )
    assert inside.mean() == pytest.approx(
        found.rows[0]["coverage_90"], abs=1.5 / inside.size
    )  # quantiles of another type
    assert np.sqrt(
        ((found.arrays["mean"] - found.arrays["observed"]) ** 2).mean()
    ) == pytest.approx(found.rows[0]["rmse"], rel=1e-5)
    held = np.abs(2 * found.arrays["rank"] - 1) <= 0.9
    assert held.mean() == pytest.approx(found.rows[0]["coverage_90"], abs=1.5 / inside.size)


def test_a_comparison_goes_on_with_the_data_and_the_time_it_began_with(tmp_path: Path) -> None:
    """Rows of other data, or of another time, do not stand in one table."""
    rng = np.random.default_rng(0)
    x, out = rng.normal(size=(60, 3)), ("--out", tmp_path / "out")
    np.savez(tmp_path / "own.npz", x=x, y=x[:, 0])
    own = ("compare_bnn.py", "--dataset", tmp_path / "own.npz", "--splits", 1, *QUICK)
    run(*own, "--methods", "map", *out)
    np.savez(tmp_path / "own.npz", x=x, y=-3 * x[:, 1])
    assert "are others than when" in run(*own, "--methods", "map,bbb", *out, status=2)
    timed = (*own, "--budget", "equal-time", "--out", tmp_path / "timed", "--methods")
    run(*timed, "map")
    assert "first of --methods" in run(*timed, "bbb,map", status=2)
    run(*timed, "map,bbb")


@pytest.mark.parametrize("name", ["mc-dropout", "concrete-dropout"])
def test_the_usual_rate_of_dropout_is_lower_for_regression(name: str) -> None:
    for given, rate in (
        ({"dataset": "diabetes"}, 0.01),
        ({"dataset": "digits"}, 0.05),
        ({"dataset": "diabetes", "rate": 0.3}, 0.3),
    ):
        s = build(BnnSettings, {"hidden": (4,), **given})
        guide = METHODS[name].build_loss(s, load_task(s)).guide
        assert all(float(found) == pytest.approx(rate) for found in guide.rates().values())


def test_samplers_and_laplace_keep_to_the_posterior_at_any_temperature(tmp_path: Path) -> None:
    """--temperature weighs the KL, which their energy has none of; it tempered the prior of some."""
    for name in ("sgld", "sghmc", "hmc", "nuts", "gibbs", "random-walk", "laplace"):
        energies = []
        for temperature in (1.0, 0.1):
            s = build(BnnSettings, {"splits": 1, "hidden": (4,), "temperature": temperature})
            task = load_task(s)
            torch.manual_seed(0)
            batch = {key: value[0] for key, value in task.train.tensors.items()}
            energies.append(METHODS[name].build_loss(s, task)(**batch).detach())
        assert torch.equal(*energies), name
        assert "keep to the posterior itself" in run(
            "train_bnn.py", "--method", name, "--temperature", 0.1, "--out", tmp_path, status=2
        )


def test_wrong_requests_are_refused_in_a_line(tmp_path: Path) -> None:
    out = ("--out", tmp_path)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "broken.npz").write_bytes(b"PK\3\4 and no more")
    np.savez(tmp_path / "half.npz", x=np.eye(20), y=np.arange(20) % 2, x_test=np.eye(20))
    assert "Did you mean mnist or kmnist?" in run(
        "train_bnn.py", "--dataset", "minst", *out, status=2
    )
    unseen = ("--dataset", "digits", "--ood", "fashion-minst")
    assert "Did you mean fashion-mnist" in run("train_bnn.py", *unseen, *out, status=2)
    assert "Did you mean bbb" in run("compare_bnn.py", "--methods", "map,bb", *out, status=2)
    for name, words in (
        ("table.csv", "name the column to predict: --target NAME, one of a, b"),
        ("broken.npz", "cannot be read"),
        ("half.npz", "has no y_test"),
        ("halv.npz", "Did you mean half.npz?"),
    ):
        assert words in run("train_bnn.py", "--dataset", tmp_path / name, *out, status=2)
    assert "nonesuch" in run("compare_bnn.py", "--methods", "nonesuch", *out, status=2)
    assert "scores classifiers" in run("compare_bnn.py", "--ood", "noise", *out, status=2)
    assert "raise --steps" in run(
        "compare_bnn.py", "--methods", "map,swag", "--steps", "10", *out, status=2
    )
    assert not (tmp_path / "methods").exists()
    assert "no-such-set" in run("compare_bnn.py", "--dataset", "no-such-set", *out, status=2)


def test_bayes_by_backprop_beats_the_mean_of_the_data() -> None:
    torch.set_default_dtype(torch.float32)
    s = build(BnnSettings, {"splits": 2, "steps": 300, "hidden": (20,)})
    task = load_task(s)
    result = score(train(METHODS["bbb"], s, task), s, task).summary()
    assert result["rmse"]["mean"] < 0.85 * float(task.y_scale.mean())
    assert isinstance(
        train(
            METHODS["map"],
            build(BnnSettings, {"splits": 1, "steps": 1}),
            load_task(build(BnnSettings, {"splits": 1})),
        ).loss,
        pv.ElboLoss,
    )


def test_methods_refuse_tasks_that_do_not_suit_them(tmp_path: Path) -> None:
    ask = ("train_bnn.py", *QUICK, "--out", tmp_path / "run", "--method")
    assert "set --valid-fraction" in run(*ask, "stacking", status=2)
    assert "--noise shared, here --noise input" in run(*ask, "gibbs", "--noise", "input", status=2)
    assert "here classification" in run(*ask, "gibbs", "--dataset", "digits", status=2)
    assert not (tmp_path / "run").exists()


def test_held_out_data_weight_members_and_scale_classes(tmp_path: Path) -> None:
    out = tmp_path / "run"
    members = ("--members", 3, "--draws", 10, "--valid-fraction", 0.2)
    run(
        "train_bnn.py",
        "--dataset",
        "digits",
        "--method",
        "stacking",
        *QUICK,
        *members,
        "--out",
        out,
    )
    loaded = pv.load_run(out)
    assert {"temperature", "nll_scaled", "brier_scaled", "ece_scaled"} <= set(loaded.metrics)
    draws = loaded.guide.samples()["w.layers.0.weight"]
    different = draws.flatten(1).unique(dim=0)
    assert len(draws) == 10 == loaded.num_samples and 1 <= len(different) <= 3


@pytest.mark.parametrize(
    ("net", "methods"), [("lenet", "bbb,ensemble,laplace,hmc"), ("resnet8", "bbb,laplace")]
)
def test_convolutional_nets_train_and_load(net: str, methods: str, tmp_path: Path) -> None:
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    np.savez(tmp_path / "few.npz", x=x[:250].reshape(-1, 8, 8).astype(np.float32) / 16, y=y[:250])
    small = ("--steps", 4, "--batch-size", 100, "--num-samples", 2)
    common = ("--dataset", tmp_path / "few.npz", "--net", net, *small)
    ask = ("--methods", methods)
    if "hmc" in methods:
        chains = ("--hmc-warmup", 1, "--hmc-samples", 2, "--hmc-leapfrogs", 1, "--draws", 2)
        ask = (*ask, "--members", 2, *chains)
    run("compare_bnn.py", *common, *ask, "--out", tmp_path / "all")
    found = json.loads((tmp_path / "all" / "comparison.json").read_text())
    assert list(found) == methods.split(",")
    assert all(row["nll"]["mean"] > 0 for row in found.values())
    run("train_bnn.py", *common, "--method", "bbb", "--out", tmp_path / "one")
    loaded = pv.load_run(tmp_path / "one")
    assert loaded.predict(torch.rand(3, 1, 8, 8)).probs.shape == (3, 10)
    assert "for images, but diabetes" in run("train_bnn.py", "--net", net, status=2)
    assert "has no effect with --net" in run("train_bnn.py", *common, "--hidden", 9, status=2)
