"""Runs of both scripts, loaded back: the numbers of run.json come out again, bit for bit."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from test_bnn_scripts import QUICK as BNN
from test_scripts import QUICK, run
from untrained_vae import untrained

import pyrovae as pv
from pyrovae.recipes.bnn_data import load_task
from pyrovae.recipes.bnn_methods import METHODS
from pyrovae.recipes.bnn_scores import score
from pyrovae.recipes.bnn_train import Trained
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.vae import some_rows
from pyrovae.recipes.vae_means import mean_of
from pyrovae.recipes.vae_model_settings import ModelSettings
from pyrovae.recipes.vae_objective_settings import ObjectiveSettings

OWN = {
    "hmc": ("--draws", 5, "--hmc-warmup", 5, "--hmc-samples", 5, "--hmc-leapfrogs", 3),
    "nuts": ("--draws", 5, "--hmc-warmup", 5, "--hmc-samples", 5, "--nuts-depth", 2),
    "gibbs": ("--draws", 5, "--hmc-warmup", 5, "--hmc-samples", 5, "--nuts-depth", 2),
    "random-walk": ("--draws", 5, "--random-walk-steps", 10),
    "sgld": ("--draws", 5, "--steps", 40),  # so many, for its draws
    "sghmc": ("--draws", 5, "--steps", 40),
    "swag": ("--draws", 5, "--swag-rank", 2, "--steps", 60),
    "ensemble": ("--members", 2),
    "stacking": ("--members", 2, "--draws", 4, "--valid-fraction", 0.1),
}
"""Settings of single methods."""


def fresh(seed: int) -> None:
    """Each run has its seed; what was drawn before must not matter."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(seed)


@pytest.mark.parametrize(
    "arguments",
    [
        "--prior vamp --prior-components 9 --guide iaf --latent-dim 3",
        "--latent-dim 4 2 --guide low-rank --prior mixture --objective dreg --particles 2",
        "--prior flow --net conv --likelihood normal-learned --refine-steps 1",
        "--condition label --prior conditional",
    ],
)
def test_a_vae_is_what_it_was(arguments: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run("train_vae.py", *QUICK, *arguments.split(), "--out", folder)
    fresh(1)
    loaded = pv.load_run(folder)
    assert loaded.settings.run.epochs == 2 == len(loaded.history) and not loaded.loss.training
    rows = some_rows(loaded.data("test"), 50, 0)
    fresh(0)
    evidence = pv.log_evidence(loaded.model, loaded.guide, rows, num_particles=20)
    assert evidence.mean == loaded.metrics["log_px"]
    assert loaded.history[-1]["elbo"] == loaded.run["last_epoch"]["elbo"]
    assert len(loaded.data("train").data) == loaded.run["data"]["num_train"]


@pytest.mark.parametrize("method", METHODS)
def test_a_bayesian_net_is_what_it_was(method: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(
        "train_bnn.py",
        "--method",
        method,
        "--splits",
        2,
        *BNN,
        *OWN.get(method, ()),
        "--out",
        folder,
    )
    fresh(1)
    loaded = pv.load_run(folder)
    task = load_task(loaded.settings)
    trained = Trained(loaded.pairs, loaded.num_samples, None, 0.0, 0, loaded.loss)
    again = score(trained, loaded.settings, task).summary()
    for name, values in loaded.metrics.items():
        assert name == "train_seconds" or again[name] == values, name
    assert (loaded.history is None) == (METHODS[method].chains is not None) and len(
        loaded.pairs
    ) == 2
    found = loaded.predict(task.regression.x)
    error = (found.mean - task.regression.y).square().mean().sqrt()
    assert loaded.predictor.model is not loaded.model and error < 200  # in the units of the data
    assert (found.lower < found.mean).all() and (found.mean < found.upper).all()


def test_a_run_needs_its_data_for_nothing_but_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    run("train_vae.py", *QUICK, "--out", folder)
    for place in (
        "vae.prepare",
        "trained_vae.prepare",
        "trained_bnn.load_task",
        "bnn_data.load_task",
    ):
        monkeypatch.setattr(f"pyrovae.recipes.{place}", lambda *_: pytest.fail("looks for data"))
    fresh(0)
    loaded = pv.load_run(folder)
    assert loaded.model(num=3)["x"].shape == (3, 1, 8, 8)


def test_what_is_no_run_is_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run("train_vae.py", *QUICK, "--out", folder)

    def refused(words: str, folder: Path = folder, error: type = Refusal) -> None:
        with pytest.raises(error, match=words) as caught:
            pv.load_run(folder)
        assert "\n" not in str(caught.value)

    refused("is not a folder", tmp_path / "rnu")
    refused("holds no run.json", tmp_path)
    content = json.loads((folder / "run.json").read_text())
    for change, words in (
        ({"schema": 1}, "run.json"),
        ({"script": "continual.py"}, "expected one of train_vae.py or train_bnn.py"),
        ({"metrics": {"log_px": 0.0}}, "run.json"),
    ):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        (copy / "run.json").write_text(json.dumps({**content, **change}))
        refused(words, copy)
    (folder / "run.json").write_text("{")
    refused("damaged")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run("train_vae.py", *QUICK, "--out", folder)
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(pv.CheckpointError):
        pv.load_run(folder)


def test_other_data_under_the_same_name_are_refused(tmp_path: Path) -> None:
    import numpy as np

    path, folder = tmp_path / "mine.npz", tmp_path / "run"
    x = (np.random.default_rng(0).random((60, 8, 8)) < 0.3).astype(np.float32)
    np.savez(path, x=x)
    run("train_vae.py", "--dataset", path, *QUICK, "--out", folder)
    fresh(0)
    loaded = pv.load_run(folder)
    assert loaded.data("train")
    np.savez(path, x=1 - x)
    with pytest.raises(Refusal, match="not those the run"):
        loaded.data("train")
    with pytest.raises(Refusal, match="expected train, valid or test"):
        loaded.data("training")


def test_the_mean_of_a_categorical_is_that_of_its_levels() -> None:
    fn = torch.distributions.Categorical(torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.25, 0.75]]))
    mean = mean_of(torch.distributions.Independent(fn, 1))
    torch.testing.assert_close(mean, torch.tensor([1.0, 1.75]))


def test_guides_of_the_score_function_have_both_moments(tmp_path: Path) -> None:
    objective = ObjectiveSettings(objective="score-function")
    vae = untrained(tmp_path, ModelSettings(hidden=(8,), latent_dim=(3,)), objective)
    codes = vae.encode(vae.layout.to_user(vae.data("test").data.tensors["x"][:5]), num_draws=2000)
    tolerance = 5 * codes.scale / 2000**0.5  # five standard errors of a mean of 2000 draws
    assert ((codes.draws.mean(0) - codes.mean).abs() < tolerance).all()
    assert ((codes.draws.std(0) / codes.scale - 1).abs() < 5 / 4000**0.5).all()
