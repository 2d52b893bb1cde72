"""Variational families of two numbers, fitted to a density by either KL."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch
import zuko
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import LowerCholeskyTransform, MultivariateNormal, Normal

import pyrovae as pv
from pyrovae import metrics
from pyrovae.priors import StandardNormal
from pyrovae.programs.adapter import as_pyro
from pyrovae.recipes.variational.targets import Target
from pyrovae.training.run import Run

Direction = Literal["reverse", "forward"]
"""reverse: KL(q || p), what the ELBO minimises; forward: KL(p || q), maximum likelihood of q on draws
of p."""
DRAWS = 128
STEPS = 25
"""Of an epoch."""


class MeanField(nn.Module):
    """q(z) = N(m, diag s^2)."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.loc, self.log_scale = (
            nn.Parameter(start.clone()),
            nn.Parameter(torch.full((2,), -1.0)),
        )

    def forward(self) -> TorchDistribution:
        return as_pyro(Normal(self.loc, self.log_scale.exp())).to_event(1)


class FullRank(nn.Module):
    """q(z) = N(m, L L^T)."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.loc, self.tril = nn.Parameter(start.clone()), nn.Parameter(-torch.eye(2))

    def forward(self) -> TorchDistribution:
        return as_pyro(
            MultivariateNormal(self.loc, scale_tril=LowerCholeskyTransform()(self.tril))
        )


class Flow(nn.Module):
    """q(z) by an autoregressive neural spline flow (Durkan et al. 2019, arXiv:1906.04032), shifted to
    the start."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.flow = zuko.flows.NSF(2, transforms=3, hidden_features=(32, 32))
        self.loc = nn.Parameter(start.clone())

    def forward(self) -> TorchDistribution:
        shift = torch.distributions.AffineTransform(self.loc, torch.ones(2), event_dim=1)
        return as_pyro(torch.distributions.TransformedDistribution(self.flow(), [shift]))


FAMILIES: dict[str, Callable[[Tensor], nn.Module]] = {
    "mean field": MeanField,
    "full rank": FullRank,
    "flow": Flow,
}


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted family, the path of its mean, and both KLs in nats with their standard errors."""

    family: nn.Module
    path: Tensor
    """`(T, 2)`, at the start and after each epoch."""
    reverse: tuple[float, float]
    forward: tuple[float, float]


def fit_family(
    target: Callable[[], TorchDistribution],
    family: Callable[[Tensor], nn.Module],
    *,
    direction: Direction = "reverse",
    epochs: int = 60,
    lr: float = 0.03,
    start: tuple[float, float] = (-2.5, 0.5),
    num_draws: int = 10_000,
) -> Fit:
    """Fit q to p by `pyrovae.fit`; the KLs are means of `num_draws` log-ratios."""
    q, p = family(torch.tensor(start)), Target(target)
    path = [mean_of(q)]

    def follow(run: Run) -> None:
        path.append(mean_of(q))

    if direction == "reverse":
        # a datum that z says nothing about: the ELBO is -KL(q || p) and a constant
        loss = pv.ElboLoss(pv.Model(z=p, x=StandardNormal(1)), pv.Guide(z=q))
        data = [{"x": torch.zeros(DRAWS, 1)}] * STEPS
        fit(loss, data, epochs, lr, follow)
    else:
        loss = pv.ElboLoss(pv.Model(x=q))
        data = [{"x": target().sample(torch.Size([DRAWS]))} for _ in range(STEPS)]
        fit(loss, data, epochs, lr, follow)
    with torch.no_grad():
        found = q()
        own, other = (
            found.sample(torch.Size([num_draws])),
            target().sample(torch.Size([num_draws])),
        )
        reverse = found.log_prob(own) - target().log_prob(own)
        forward = target().log_prob(other) - found.log_prob(other)
    means = (metrics.mean_and_error(ratio.double()) for ratio in (reverse, forward))
    return Fit(q, torch.stack(path), *((mean, se) for mean, se, _ in means))


def fit(
    loss: nn.Module,
    data: list[dict[str, Tensor]],
    epochs: int,
    lr: float,
    follow: Callable[[Run], None],
) -> None:
    pv.fit(
        loss,
        data,
        epochs=epochs,
        lr=lr,
        schedule=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs),
        hooks=[follow],
    )


@torch.no_grad()
def mean_of(q: nn.Module) -> Tensor:
    """The mean of q over 500 draws that are the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return q().sample(torch.Size([500])).mean(0)


@torch.no_grad()
def density(fn: TorchDistribution, reach: float, points: int = 121) -> Tensor:
    """Densities `(points, points)` on a grid over [-reach, reach]: z_0 along the columns, z_1 along
    the rows."""
    line = torch.linspace(-reach, reach, points)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    return fn.log_prob(grid.reshape(-1, 2)).exp().reshape(points, points)
