"""Runs of `--method laplace` with each curvature, and what they load as."""

from pathlib import Path

import pytest
import torch
from test_scripts import run

import pyrovae as pv
from pyrovae.recipes.bnn_data import load_task
from pyrovae.recipes.bnn_methods import METHODS
from pyrovae.recipes.bnn_scores import score
from pyrovae.recipes.bnn_settings import (
    BnnSettings,
    InferenceSettings,
    ModelSettings,
    RunSettings,
)
from pyrovae.recipes.bnn_train import Trained, train
from pyrovae.recipes.results import read_result, write_result

SMALL = ("--steps", 40, "--hidden", 6, "--batch-size", 64, "--num-samples", 7, "--splits", 2)


@pytest.mark.parametrize(
    "flags",
    [
        "--laplace full --prior-fit none",
        "--laplace kron",
        "--laplace kron --prior-fit during --noise input",
        "--laplace kron --prior-fit held-out --valid-fraction 0.2",
        "--laplace low-rank --laplace-rank 9",
        "--laplace last-layer --prior-groups one",
        "--laplace last-layer-kron --prior-fit during",
        "--laplace diagonal --prior fan-in",
    ],
)
def test_a_posterior_is_what_it_was(flags: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(
        "train_bnn.py",
        "--method",
        "laplace",
        *SMALL,
        *flags.split(),
        "--no-predictor",
        "--out",
        folder,
    )
    loaded = pv.load_run(folder)
    trained = Trained(loaded.pairs, loaded.num_samples, None, 0.0, 0, loaded.loss)
    again = score(trained, loaded.settings, load_task(loaded.settings)).summary()
    for name, values in loaded.metrics.items():
        assert name == "train_seconds" or again[name] == values, name


def test_the_fit_changes_prior_and_noise() -> None:
    def deviations(fit: str) -> list[dict[str, torch.Tensor]]:
        s = BnnSettings(
            model=ModelSettings(hidden=(6,)),
            inference=InferenceSettings(prior_fit=fit),
            run=RunSettings(steps=40),
        )
        pairs = train(METHODS["laplace"], s, load_task(s)).pairs[:2]
        return [{name: value for name, value in guide.state_dict().items()} for _, guide in pairs]

    plain, fitted = deviations("none"), deviations("after")
    for before, after in zip(plain, fitted):
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        parts = {name.rpartition(".")[2] for name in changed}
        assert parts == {"deviation", "draws_0"}  # spread of the weights, and the noise variance


def test_a_prior_fitted_on_held_out_data(tmp_path: Path) -> None:
    """Of a classifier whose training loss is nearly 0, the evidence alone leaves vague answers."""

    small = ("--dataset", "digits", "--valid-fraction", 0.3, "--hidden", 16, "--steps", 300)
    ask = ("train_bnn.py", "--method", "laplace", *small, "--num-samples", 20, "--no-predictor")
    nll = {}
    for fit in ("after", "held-out"):
        run(*ask, "--prior-fit", fit, "--out", tmp_path / fit)
        nll[fit] = read_result(tmp_path / fit / "run.json")["metrics"]["nll"]["mean"]
    assert nll["held-out"] < nll["after"] - 0.05
    refused = run(
        "train_bnn.py",
        "--method",
        "laplace",
        "--prior-fit",
        "held-out",
        "--out",
        tmp_path,
        status=2,
    )
    assert "set --valid-fraction" in refused


def test_a_run_before_the_fit_goes_on_as_another_method(tmp_path: Path) -> None:
    """A setting that the method does not use may differ, such as a default that has changed."""
    folder = tmp_path / "run"
    ask = ("train_bnn.py", "--method", "map", *SMALL, "--out", folder, "--no-predictor")
    run(*ask)
    known = read_result(folder / "run.json")
    method = known["arguments"]["settings"]["inference"]
    method["laplace"] = "full"
    for name in ("laplace_rank", "prior_fit", "prior_groups"):
        del method[name]
    write_result(folder / "run.json", known)
    run(*ask, "--resume")
    assert read_result(folder / "run.json")["metrics"]["rmse"] == known["metrics"]["rmse"]


def test_a_laplace_run_before_the_fit_keeps_its_prior(tmp_path: Path) -> None:
    """Runs without --prior-fit did not fit it, which is no longer the default."""
    folder = tmp_path / "run"
    ask = ("train_bnn.py", "--method", "laplace", "--laplace", "full", *SMALL, "--no-predictor")
    run(*ask, "--prior-fit", "none", "--out", folder)
    known = read_result(folder / "run.json")
    for name in ("laplace_rank", "prior_fit", "prior_groups"):
        del known["arguments"]["settings"]["inference"][name]
    write_result(folder / "run.json", known)
    assert pv.load_run(folder).settings.inference.prior_fit == "none"
    refused = run(*ask, "--out", folder, "--resume", status=2)
    assert "--prior-fit was none, is after" in refused
    run(*ask, "--prior-fit", "none", "--out", folder, "--resume")
    assert read_result(folder / "run.json")["metrics"]["rmse"] == known["metrics"]["rmse"]
