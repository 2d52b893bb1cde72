"""Families of bits with discrete latents."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.heads import (
    AutoregressiveCategoricalHead,
    BernoulliHead,
    StraightThroughBernoulliHead,
)
from pyrovae.losses import LeaveOneOutLoss, VectorQuantizedLoss
from pyrovae.nets import MLP, Codebook, Constant
from pyrovae.posteriors import VectorQuantized
from pyrovae.priors import Mixing
from pyrovae.recipes.landscape.densities import SUMMED
from pyrovae.recipes.landscape.family import Budget, Family, Images, Scores
from pyrovae.recipes.landscape.pairs import Pair, count, draw, train
from pyrovae.training.hooks import EarlyStopping, ProgressBar

BITS = 40
"""Bernoulli latents."""
LEAVE_ONE_OUT = 4
"""Draws of the guide a step."""
STATES = 16
"""Values of each of the two categorical latents that are summed out."""
CODES, FEATURES, SHARE = 16, 8, 4
"""The codebook, the numbers of a code's vector, the real latents for which one code stands."""


def bits(images: Images, budget: Budget, *, relaxed: bool) -> tuple[pv.Model, pv.Guide]:
    decoder = MLP(BITS, budget.hidden[::-1], images.features)
    encoder = MLP(images.features, budget.hidden, BITS)
    head = StraightThroughBernoulliHead if relaxed else BernoulliHead
    model = pv.Model(z=BernoulliHead(Constant(BITS)), x=pv.Node(BernoulliHead(decoder), "z"))
    return model, pv.Guide(z=pv.Node(head(encoder), "x"))


def fit_gumbel(images: Images, budget: Budget) -> Pair:
    pair = bits(images, budget, relaxed=True)
    train(pv.ElboLoss(*pair), images, budget)
    return Pair(*pair, budget.num_particles)


def fit_score(images: Images, budget: Budget) -> Pair:
    pair = bits(images, budget, relaxed=False)
    train(LeaveOneOutLoss(*pair, num_particles=LEAVE_ONE_OUT), images, budget)
    return Pair(*pair, budget.num_particles)


class SumOfRows(nn.Module):
    """A net of the sum of one row for each of several categories."""

    def __init__(self, categories: int, count: int, net: nn.Module, features: int) -> None:
        super().__init__()
        self.rows = nn.ModuleList(nn.Embedding(categories, features) for _ in range(count))
        self.net = net

    def forward(self, *codes: Tensor) -> Tensor:
        first, *others = (rows(code) for rows, code in zip(self.rows, codes))
        for other in others:
            first = first + other
        return self.net(first)


def fit_enumerated(images: Images, budget: Budget) -> Pair:
    width = budget.hidden[-1]
    net = MLP(width, budget.hidden[::-1], images.features)
    model = pv.Model(
        a=pv.Node(Mixing(STATES), infer=SUMMED),
        b=pv.Node(Mixing(STATES), infer=SUMMED),
        x=pv.Node(BernoulliHead(SumOfRows(STATES, 2, net, width)), "a", "b"),
    )
    train(pv.ElboLoss(pv.Marginal(model)), images, budget)
    return Pair(model, None, 1)


@dataclass
class Quantized:
    """A vector-quantised VAE: its code is a point mass, and log p(x, code) a bound without noise."""

    model: pv.Model
    guide: pv.Guide

    @property
    def num_parameters(self) -> int:
        return count(self.model, self.guide)

    def score(self, x: Tensor) -> Scores:
        with torch.no_grad():
            return Scores(pv.log_weights(self.model, self.guide, {"x": x}, 1)[0], "bound")

    def sample(self, num: int) -> Tensor:
        return draw(self.model, num)


def fit_vq(images: Images, budget: Budget) -> Quantized:
    """Codes first, then the prior of the codes."""
    book, sites = Codebook(CODES, FEATURES), max(1, budget.latent_size // SHARE)
    decoder = MLP((sites, FEATURES), budget.hidden[::-1], images.features)
    encoder = VectorQuantized(MLP(images.features, budget.hidden, (sites, FEATURES)), book)
    with torch.no_grad():  # a codebook far from the encoder's outputs would stay unused
        rows = encoder.net(images.train).flatten(0, -2)
        book.vectors.copy_(rows[torch.randint(len(rows), (CODES,))])
    loss = VectorQuantizedLoss(BernoulliHead(decoder), encoder, commitment=1.0)
    train(loss, images, budget, monitor="valid_loss")
    prior = AutoregressiveCategoricalHead(sites, CODES, budget.hidden)
    with torch.no_grad():
        codes, held_out = (encoder(x)() for x in (images.train, images.valid))
    with tempfile.TemporaryDirectory() as folder:
        best = EarlyStopping(Path(folder) / "prior.safetensors", patience=budget.patience)
        pv.fit(
            pv.ElboLoss(pv.Model(c=prior)),
            [{"c": part} for part in codes.split(budget.batch_size)],
            valid=[{"c": held_out}],
            epochs=budget.epochs,
            lr=budget.lr,
            hooks=[ProgressBar(), best],
        )
    likelihood = BernoulliHead(nn.Sequential(book, decoder))
    model = pv.Model(c=prior, x=pv.Node(likelihood, "c"))
    return Quantized(model, pv.Guide(c=pv.Node(encoder, "x")))


DISCRETE = (
    Family(
        "discrete-gumbel",
        "binary",
        fit_gumbel,
        has_code=True,
        note=f"{BITS} bits, straight-through Gumbel-softmax gradients (biased)",
    ),
    Family(
        "discrete-score",
        "binary",
        fit_score,
        has_code=True,
        note=f"{BITS} bits, score function with a leave-one-out baseline, {LEAVE_ONE_OUT} draws",
    ),
    Family(
        "discrete-enumerated",
        "binary",
        fit_enumerated,
        is_exact=True,
        has_code=True,
        any_query=True,
        note=f"two categories of {STATES} values and a neural decoder, summed out",
    ),
    Family(
        "vq-vae",
        "binary",
        fit_vq,
        has_code=True,
        note=f"a code of {CODES} for each {SHARE} real latents, autoregressive prior; log p(x, nearest codes)",
    ),
)
