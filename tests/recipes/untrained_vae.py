"""VAEs with random weights in the place of a run's, to save the seconds of training."""

import dataclasses
from pathlib import Path

import torch

import pyrovae as pv
from pyrovae.recipes.trained_vae import TrainedVae
from pyrovae.recipes.vae import make_loss, prepare, proposal_of
from pyrovae.recipes.vae_model_settings import ModelSettings
from pyrovae.recipes.vae_objective_settings import ObjectiveSettings
from pyrovae.recipes.vae_pair import build, fit_constants
from pyrovae.recipes.vae_settings import Settings


def untrained(
    folder: Path, model: ModelSettings, objective: ObjectiveSettings | None = None
) -> TrainedVae:
    """As `load_run` would give it for the digits; only `.data` needs no folder."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    s = dataclasses.replace(
        Settings(), model=model, objective=ObjectiveSettings() if objective is None else objective
    )
    data = prepare(s)
    pair = build(s, data.shape, data.splits.levels)
    fit_constants(*pair, data.train.data.tensors["x"], s)
    loss = make_loss(*pair, s, steps_per_epoch=1).eval()
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    run = {
        "script": "train_vae.py",
        "data": {
            "name": data.splits.name,
            "event_shape": list(data.splits.event_shape),
            "levels": data.splits.levels,
            "binarize": data.binarize,
            "x_shape": list(data.shape),
            "num_conditions": 0,
            "sha256": data.digest(),
        },
    }
    return WithData(folder, s, pair[0], proposal_of(loss), [pair], loss, None, {}, run)


class WithData(TrainedVae):
    """Data without run.json, by whose digest they would be checked."""

    def _load(self, split: str, network: int) -> pv.data.Batches | None:
        data = prepare(self.settings)
        return {"train": data.train, "valid": data.valid, "test": data.test}[split]
