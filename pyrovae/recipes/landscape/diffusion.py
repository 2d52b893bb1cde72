"""Diffusion as a family of the landscape."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pyrovae.heads.diffusion import Denoising, Noiseless
from pyrovae.losses import DiffusionLoss
from pyrovae.nets import Denoiser, NoiseSchedule
from pyrovae.recipes.landscape.family import Budget, Family, Images, Scores
from pyrovae.recipes.landscape.pairs import count, train

TIMES = 200
"""Times at which the bound of each test datum is estimated."""
STEPS = 250
"""Of a draw."""


@dataclass
class Diffusion:
    """A trained denoiser and schedule."""

    loss: DiffusionLoss
    features: int

    @property
    def num_parameters(self) -> int:
        return count(self.loss)

    @torch.no_grad()
    def score(self, x: Tensor) -> Scores:
        parts = [self.loss.bound(rows, TIMES).mean(0) for rows in x.split(500)]
        return Scores(torch.cat(parts), "bound")

    @torch.no_grad()
    def sample(self, num: int) -> Tensor:
        z = torch.randn(num, self.features)
        schedule = self.loss.get_submodule("schedule")
        for t in range(STEPS, 0, -1):
            step = Denoising(self.loss.denoiser, schedule, t=t / STEPS, s=(t - 1) / STEPS)
            z = step(z)()
        return Noiseless(schedule)(z)()


def fit_diffusion(images: Images, budget: Budget) -> Diffusion:
    denoiser = Denoiser(images.features, (*budget.hidden, budget.hidden[-1]))
    loss = DiffusionLoss(denoiser, NoiseSchedule(start=-8.0, end=5.0))
    train(loss, images, budget, monitor="valid_loss")
    return Diffusion(loss, images.features)


DIFFUSION = Family(
    "diffusion",
    "real",
    fit_diffusion,
    one_pass=False,
    note=f"bound in continuous time, {TIMES} times a datum; draws of {STEPS} steps",
)
