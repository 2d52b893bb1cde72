"""A trained deep VAE of images, to sample from and to score again."""

import dataclasses
from typing import cast

import torch
from torch import Tensor

import pyrovae as pv
from pyrovae.core.batching import device_of
from pyrovae.core.preserve_state import preserve_state
from pyrovae.data import Batches
from pyrovae.recipes.deep_vae_run import decoded_mean, estimate, load_images
from pyrovae.recipes.deep_vae_settings import DeepSettings
from pyrovae.recipes.loaded_run import LoadedRun
from pyrovae.recipes.machine import cpu_threads
from pyrovae.recipes.trained_vae import Kind
from pyrovae.recipes.vae_metrics import evidence_metrics

CHUNK = 100
"""Images that pass through the nets together."""


@dataclasses.dataclass(frozen=True, repr=False)
class TrainedDeepVae(LoadedRun):
    """A run of `train_deep_vae.py`.

    Example:
        >>> run = load_run("runs/deep")                        # doctest: +SKIP
        >>> run.sample(16, kind="mean").shape                  # doctest: +SKIP
        torch.Size([16, 1, 28, 28])
    """

    settings: DeepSettings
    model: pv.Model
    guide: pv.Guide

    def sample(self, num: int, *, kind: Kind = "draw", seed: int = 0) -> Tensor:
        """`num` draws from the model, `(num, C, H, W)` with values in [0, 1], on the CPU: of x, or the
        means of p(x | z) at draws of z. No random stream moves."""
        levels = self.run["data"]["levels"]
        is_levels = self.settings.model.likelihood == "logistic-mixture"
        parts = []
        with preserve_state([self.model], training=False, seed=seed), torch.no_grad():
            for start in range(0, num, CHUNK):
                values = self.model(num=min(CHUNK, num - start))
                x = values["x"] if kind == "draw" else decoded_mean(self.model, values)
                parts.append((x / (levels - 1) if is_levels else x).cpu())
        return torch.cat(parts)

    def evaluate(self) -> dict:
        test, device = self.data("test"), device_of(self.model) or torch.device("cpu")
        threads = self.settings.run.threads or torch.get_num_threads()
        programs = [self.model, self.guide]
        with cpu_threads(threads), preserve_state(programs, training=False, seed=0):
            found = estimate(self.model, self.guide, test.to(device), self.settings)
            return evidence_metrics(found, self.settings)

    def _load(self, split: str, network: int) -> Batches | None:
        images = load_images(self.settings)
        self.folder.refuse_other_data(str(images.facts()["sha256"]))
        parts = {"train": images.train, "valid": images.valid, "test": images.test}
        return cast(Batches | None, parts[split])
