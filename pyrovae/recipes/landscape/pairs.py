"""Families that are a pair of programs trained by one loss: most of them."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from pyro import poutine
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.core.modules import find_modules
from pyrovae.core.param_store import local_param_scope
from pyrovae.data import Batches, DictDataset
from pyrovae.recipes.landscape.family import Budget, Images, Kind, Scores
from pyrovae.training.hooks import EarlyStopping, ProgressBar

TOGETHER = 500
"""Data scored together."""


def train(
    loss: nn.Module,
    images: Images,
    budget: Budget,
    *,
    monitor: str = "valid_elbo",
    faster: float = 1.0,
) -> None:
    """Minimise a loss on the training rows, and keep the weights that are best on the validation
    rows.

    faster: a factor of the learning rate, for models whose parameters are no nets.
    """
    data = Batches(
        DictDataset(x=images.train), budget.batch_size, shuffle=True, transform=images.visit
    )
    valid = Batches(DictDataset(x=images.valid), TOGETHER)
    with tempfile.TemporaryDirectory() as folder:
        best = EarlyStopping(
            Path(folder) / "best.safetensors", patience=budget.patience, monitor=monitor
        )
        pv.fit(
            loss,
            data,
            valid=valid,
            epochs=budget.epochs,
            lr=faster * budget.lr,
            hooks=[ProgressBar(), best],
        )


@dataclass
class Pair:
    """Programs whose log p(x) is importance-sampled, or exact where no latents are left to draw."""

    model: Callable
    guide: Callable | None
    num_particles: int

    @property
    def num_parameters(self) -> int:
        return count(self.model, *([] if self.guide is None else [self.guide]))

    def score(self, x: Tensor) -> Scores:
        data = Batches(DictDataset(x=x), TOGETHER)
        found = pv.log_evidence(self.model, self.guide, data, num_particles=self.num_particles)
        kind: Kind = "importance" if found.num_particles else "exact"
        return Scores(found.log_px, kind)

    def sample(self, num: int) -> Tensor:
        return draw(self.model, num)


def draw(model: Callable, num: int) -> Tensor:
    """x of `num` draws from a model."""
    with torch.no_grad(), local_param_scope(), poutine.block():
        return model(num=num)["x"]


def count(*programs: Callable) -> int:
    """Parameters that learn, shared ones once."""
    modules = find_modules(*programs).values()
    weights = {id(weight): weight for module in modules for weight in module.parameters()}
    return sum(weight.numel() for weight in weights.values() if weight.requires_grad)
