"""The metrics of run.json: how well a trained VAE fits its test data."""

import torch

import pyrovae as pv
from pyrovae.core.batching import device_of
from pyrovae.data import Batches
from pyrovae.recipes.autoencoder import reconstruction_log_likelihood, reconstruction_metrics
from pyrovae.recipes.deep_vae_settings import DeepSettings
from pyrovae.recipes.vae import some_rows
from pyrovae.recipes.vae_settings import Settings


def scored_rows(test: Batches, s: Settings | DeepSettings) -> Batches:
    """The test data that are scored: at most `--eval-data`, chosen by the seed of the run."""
    return some_rows(test, s.run.eval_data, s.run.seed)


def evidence_metrics(evidence: pv.Evidence, s: Settings | DeepSettings) -> dict[str, object]:
    """For run.json."""
    return {
        "log_px": evidence.mean,
        "se": evidence.mean_se,
        "elbo": evidence.elbo.mean().item(),
        "num_particles": s.run.eval_particles,
        "num_data": len(evidence.log_px),
        "split": "test",
    }


def metrics_of(s: Settings, model: pv.Model, guide: pv.Guide, test: Batches) -> dict[str, object]:
    """The metrics as `train_vae.py` computes them in one process; random streams move."""
    scored = scored_rows(test, s)
    if s.model.guide == "point":
        device = device_of(model) or torch.device("cpu")
        return reconstruction_metrics(reconstruction_log_likelihood(model, guide, scored, device))
    torch.manual_seed(s.run.seed)
    evidence = pv.log_evidence(
        model, guide, scored, num_particles=s.run.eval_particles, compile=s.run.compile
    )
    return evidence_metrics(evidence, s)
