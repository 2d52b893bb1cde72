"""Beliefs about the two weights of a line, exact and variational, as data arrive."""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

import pyrovae as pv
from pyrovae.bnn import priors
from pyrovae.bnn.guides import JointNormal, MeanField
from pyrovae.heads import FixedScaleNormalHead

NOISE = 0.3
TRUTH = (-0.3, 0.5)
"""Intercept and slope of the line that makes the data."""


class Normal2(NamedTuple):
    """A normal over (intercept, slope)."""

    mean: Tensor
    covariance: Tensor

    def density(self, points: Tensor) -> Tensor:
        return MultivariateNormal(self.mean, self.covariance).log_prob(points).exp()


@dataclasses.dataclass(frozen=True)
class Belief:
    """What N data say about the weights."""

    x: Tensor
    y: Tensor
    exact: Normal2
    families: dict[str, Normal2]
    evidence: float
    """log p(y | x), nats, exact."""
    elbos: dict[str, float]
    """Of all N data together, nats."""


def line_data(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """x from 0 to 2, where intercept and slope are anticorrelated; y with noise of 0.3."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(count, 1, generator=generator)
    return x, TRUTH[0] + TRUTH[1] * x + NOISE * torch.randn(count, 1, generator=generator)


def exact(x: Tensor, y: Tensor) -> tuple[Normal2, float]:
    """Posterior under N(0, I), and log p(y | x), by formula (Bishop 2006, eq. 3.53 and 3.54)."""
    design = torch.cat([torch.ones_like(x), x], 1)
    covariance = torch.linalg.inv(torch.eye(2) + design.T @ design / NOISE**2)
    mean = covariance @ design.T @ y.squeeze(1) / NOISE**2
    marginal = NOISE**2 * torch.eye(len(x)) + design @ design.T
    evidence = MultivariateNormal(torch.zeros(len(x)), marginal).log_prob(y.squeeze(1))
    return Normal2(mean, covariance), float(evidence)


def believe(x: Tensor, y: Tensor, *, epochs: int = 60) -> Belief:
    """Both families fitted to the same data by the ELBO."""
    posterior, evidence = exact(x, y)
    found, elbos = {}, {}
    for name, make in (("mean field", MeanField), ("full rank", JointNormal)):
        net = pv.Bayesian(nn.Linear(1, 1), priors.standard)
        model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=NOISE), "x"))
        guide = make(net, init_scale=0.3)
        loss = pv.ElboLoss(model, guide, num_data=len(x))
        pv.fit(
            loss,
            [{"x": x, "y": y}] * 25,
            epochs=epochs,
            lr=0.05,
            schedule=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(
                optimizer, epochs
            ),
        )
        found[name] = moments_of(guide)
        kl = kl_between(found[name], posterior)
        elbos[name] = evidence - kl
    return Belief(x, y, posterior, found, evidence, elbos)


@torch.no_grad()
def moments_of(guide: MeanField | JointNormal) -> Normal2:
    """Mean and covariance of (intercept, slope)."""
    if isinstance(guide, JointNormal):
        order = [1, 0] if guide.sites[0].name.endswith("weight") else [0, 1]
        fn = guide.distribution()
        return Normal2(fn.mean[order], fn.covariance_matrix[order][:, order])
    moments = guide.moments()
    loc, scale = (
        torch.cat([moments[name][part].flatten() for name in ("w.bias", "w.weight")])
        for part in (0, 1)
    )
    return Normal2(loc, torch.diag(scale**2))


def kl_between(q: Normal2, p: Normal2) -> float:
    """KL(q || p), nats."""
    return float(torch.distributions.kl_divergence(MultivariateNormal(*q), MultivariateNormal(*p)))
