"""VAEs whose dims are to stand for single factors: beta, capacity, beta-TC and FactorVAE."""

import dataclasses
from collections.abc import Callable
from typing import Annotated

import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.data import Batches, DictDataset, Splits
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.losses import (
    CapacityLoss,
    DensityRatio,
    ElboLoss,
    LinearWarmup,
    Penalized,
    TotalCorrelation,
    stratified,
)
from pyrovae.metrics import factor_information, mutual_information_gap, separated_predictability
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, NotNegative, Positive, Range, Widths
from pyrovae.recipes.latent_figures import FARTHEST, STEPS
from pyrovae.training.hooks import ProgressBar

SCORED = 1000
"""Images among which the total correlation is estimated."""
DRAWS = 20
"""Draws of each code, by which it is told what its dims know."""


@dataclasses.dataclass(frozen=True)
class Method:
    """How the nets are built and trained: alike for all methods."""

    epochs: Count = 300
    """Passes through the data."""
    batch_size: Count = 64
    lr: Positive = 1e-3
    hidden: Widths = (256, 256)
    """Widths of the hidden layers of encoder, decoder and critic."""
    latent_size: Annotated[int, Range(2)] = 6
    """Dims of the code."""
    beta: NotNegative = 4.0
    """Weight of the KL of beta-vae."""
    capacity: NotNegative = 8.0
    """Nats to which the KL of capacity is drawn, from 0, linearly over half of the steps."""
    capacity_weight: Positive = 30.0
    """Weight of its distance from them."""
    tc_beta: Positive = 6.0
    """Weight of the total correlation of beta-tc-vae, 1 of which is in the ELBO."""
    gamma: NotNegative = 35.0
    """Weight of the total correlation of factor-vae, besides the 1 in the ELBO."""

    def __post_init__(self) -> None:
        bounds.check(self)


@dataclasses.dataclass(frozen=True)
class Images:
    """Every image of a set: rows of bits `(N, D)`, factors `(N, K)`."""

    x: Tensor
    factors: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, splits: Splits) -> "Images":
        parts = [part.tensors for part in (splits.train, splits.valid, splits.test) if part]
        x, factors = (torch.cat([part[name] for part in parts]) for name in ("x", "factors"))
        return cls(x.flatten(1), factors, tuple(splits.event_shape))


@dataclasses.dataclass(frozen=True)
class Trained:
    encoder: NormalHead
    decoder: nn.Module
    loss: ElboLoss

    @torch.no_grad()
    def scores(self, data: Images) -> dict[str, float]:
        """MIG, SAP, ELBO, KL and total correlation of all images."""
        codes, total = self.encoder(data.x).mean, len(data.x)
        values = pv.evaluate(self.loss, Batches(DictDataset(x=data.x), 500))
        rows = data.x[torch.randperm(total, generator=torch.Generator().manual_seed(0))[:SCORED]]
        penalty = TotalCorrelation(self.encoder, total, weighting=stratified)
        return {
            "mig": mutual_information_gap(codes, data.factors).item(),
            "sap": separated_predictability(codes, data.factors, classes=[0]).item(),
            "elbo": -values["loss"],
            "kl": values["kl"],
            "total_correlation": penalty(x=rows).item(),
        }

    @torch.no_grad()
    def traversals(self, data: Images) -> tuple[Tensor, Tensor]:
        """Means of p(x | z) with one dim of the code of an image changed at a time, `(dims * steps, C, H,
        W)`, the dims of most information about the factors first; and these dims."""
        q = self.encoder(data.x)
        kl = (0.5 * (q.mean**2 + q.variance - q.variance.log() - 1)).mean(0)
        dims = kl.argsort(descending=True)
        middle = (data.factors - data.factors.double().mean(0)).abs().sum(1).argmin()
        z = q.mean[middle].expand(len(dims), STEPS, -1).clone()
        for row, dim in enumerate(dims):
            z[row, :, dim] = torch.linspace(-FARTHEST, FARTHEST, STEPS)
        pixels = self.decoder(z).mean
        return pixels.reshape(-1, *data.shape), dims

    @torch.no_grad()
    def information(self, data: Images) -> Tensor:
        """I(z_d; v_k) in nats of draws of the codes, `(D, K)`: near 0 for dims that are not used, whose
        means alone, stretched over all bins, would seem to know something."""
        q = self.encoder(data.x)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            draws = q.sample((DRAWS,)).flatten(0, 1)
        return factor_information(draws, data.factors.repeat(DRAWS, 1))


Objective = Callable[[pv.Model, pv.Guide, NormalHead, Images, Method], nn.Module]


def plain(model: pv.Model, guide: pv.Guide, beta: float = 1.0) -> ElboLoss:
    return ElboLoss(model, guide, beta=beta, elbo=TraceMeanField_ELBO())


def capacity(
    model: pv.Model, guide: pv.Guide, encoder: NormalHead, data: Images, m: Method
) -> CapacityLoss:
    steps = m.epochs * -(-len(data.x) // m.batch_size)
    grows = LinearWarmup(max(1, steps // 2), stop=m.capacity)
    closed = TraceMeanField_ELBO()
    return CapacityLoss(model, guide, capacity=grows, gamma=m.capacity_weight, elbo=closed)


def beta_tc(
    model: pv.Model, guide: pv.Guide, encoder: NormalHead, data: Images, m: Method
) -> Penalized:
    penalty = TotalCorrelation(encoder, len(data.x))
    return Penalized(plain(model, guide), penalty, weight=m.tc_beta - 1)


def factor(
    model: pv.Model, guide: pv.Guide, encoder: NormalHead, data: Images, m: Method
) -> Penalized:
    critic = MLP(m.latent_size, m.hidden, 1, nn.LeakyReLU)
    return Penalized(plain(model, guide), DensityRatio(encoder, critic), weight=m.gamma)


METHODS: dict[str, Objective] = {
    "vae": lambda model, guide, *_: plain(model, guide),
    "beta-vae": lambda model, guide, encoder, data, m: plain(model, guide, m.beta),
    "capacity": capacity,
    "beta-tc-vae": beta_tc,
    "factor-vae": factor,
}


def train(name: str, data: Images, m: Method) -> Trained:
    """A VAE of bits under one of `METHODS`."""
    features = data.x.shape[1]
    encoder = NormalHead(MLP(features, m.hidden, 2 * m.latent_size))
    decoder = BernoulliHead(MLP(m.latent_size, m.hidden[::-1], features))
    model = pv.Model(z=StandardNormal(m.latent_size), x=pv.Node(decoder, "z"))
    guide = pv.Guide(z=pv.Node(encoder, "x"))
    loss = METHODS[name](model, guide, encoder, data, m)
    batches = Batches(DictDataset(x=data.x), m.batch_size, shuffle=True)
    pv.fit(loss, batches, epochs=m.epochs, lr=m.lr, hooks=[ProgressBar(name)])
    return Trained(encoder, decoder, plain(model, guide))
