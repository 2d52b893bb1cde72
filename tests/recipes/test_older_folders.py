"""Folders of earlier versions go on: a new setting is either known to change nothing, or of a new schema."""

import json
from pathlib import Path

import pytest
from test_scripts import run
from train_bnn import Training

from pyrovae.recipes.nesting import defaults_of, hints_of
from pyrovae.recipes.results import read_result, write_result
from pyrovae.recipes.resumed_settings import ADDED, EARLIER
from pyrovae.recipes.vae_settings import Settings

FIRST = {
    Settings: """
activation alpha batch_size beta binarize capacity clip_norm compile condition dataset
device epochs eval_data eval_particles free_bits gamma guide guide_components
guide_context guide_hidden guide_steps guide_transforms hidden kl_warmup ladder latent_dim
likelihood likelihood_components lr lr_decay lr_decay_epochs net objective out particles
patience precision prior prior_components prior_flow prior_hidden prior_transforms
refine_steps resume scale seed tensorboard threads upper_hidden valid_size vamp_inputs
vamp_weights
    """,
    Training: """
activation adversarial bands batch_size compile dataset device draws hidden hierarchical
hmc_leapfrogs hmc_samples hmc_warmup init_scale laplace local_reparameterization lr
members method mixture noise num_samples ood out prior prior_scale rate resume sampler_lr
seed seeds splits steps swag_rank temperature threads valid_fraction
    """,
}
"""Settings of the first runs of schema 3."""
SMALL = ("--steps", 20, "--hidden", 6, "--batch-size", 32, "--num-samples", 7, "--splits", 1)


@pytest.mark.parametrize("settings", FIRST)
def test_every_later_setting_has_a_default_that_changes_nothing(settings: type) -> None:
    later = set(hints_of(settings)) - set(FIRST[settings].split())
    assert later <= ADDED | EARLIER.keys(), (
        "add them to resumed_settings.ADDED if runs before did what they default to, else to EARLIER"
    )
    assert later <= set(defaults_of(settings))


def test_a_comparison_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    chains = ("--draws", 2, "--hmc-warmup", 1, "--hmc-samples", 2, "--hmc-leapfrogs", 1)
    ask = ("compare_bnn.py", *SMALL, *chains, "--out", tmp_path / "c")
    run(*ask, "--methods", "hmc")
    path = tmp_path / "c" / "methods" / "hmc.json"
    known = read_result(path)
    del known["settings"]["chains"]
    write_result(path, known)
    assert "other settings (chains: 1 there, 2 here)" in run(
        *ask, "--methods", "hmc", "--chains", 2, status=2
    )
    run(*ask, "--methods", "hmc")
    assert read_result(path) == known


def test_a_network_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ask = ("train_bnn.py", "--method", "map", *SMALL, "--out", folder)
    run(*ask, "--no-predictor")
    known = read_result(folder / "run.json")
    del known["arguments"]["predictor"]
    for name in ("target", "task"):
        del known["arguments"]["settings"]["data"][name]
    write_result(folder / "run.json", known)
    assert "--method was map, is bbb" in run(*ask, "--method", "bbb", "--resume", status=2)
    run(*ask, "--resume")
    after = json.loads((folder / "run.json").read_text())
    assert after["metrics"]["rmse"] == known["metrics"]["rmse"]
    assert (folder / "predictor" / "predictor.json").exists()
