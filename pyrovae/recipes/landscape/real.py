"""Families of real pixels with or without latents."""

from collections.abc import Callable
from typing import cast

import torch
import zuko
from torch import nn

import pyrovae as pv
from pyrovae.core.progress import progress_bar
from pyrovae.heads import (
    FixedScaleNormalHead,
    FullRankNormalHead,
    LearnedScaleNormalHead,
    LinearMarginal,
    LowRankNormalHead,
    NormalHead,
)
from pyrovae.nets import MLP
from pyrovae.priors import Mixing, StandardNormal
from pyrovae.recipes.landscape.densities import SUMMED, rows_together
from pyrovae.recipes.landscape.family import Budget, Family, Images
from pyrovae.recipes.landscape.pairs import Pair, train
from pyrovae.training.expectation_maximization import expectation_maximization, maximize_normal

FIXED_SCALE = 0.3
"""Of pixels of standard deviation 1."""
FULL_RANK = 256
"""Pixels up to which the likelihood's covariance is full, and the flow has splines; beyond, the
covariance has rank 10 and a diagonal, and the flow is affine."""


def least_scale(images: Images) -> float:
    """The standard deviation of the noise that dequantises, in the units of the rows."""
    return 1 / ((images.levels or 256) * images.scale * 12**0.5)


def fit_ppca(images: Images, budget: Budget) -> Pair:
    """By formula, from the eigenvectors of the covariance."""
    return Pair(pv.Model(x=LinearMarginal(_ppca(images, budget, ()))), None, 1)


def fit_factor_analysis(images: Images, budget: Budget) -> Pair:
    """By gradients, from PCA with one scale a pixel."""
    head = _ppca(images, budget, (images.features,))
    model = pv.Model(x=LinearMarginal(head))
    train(pv.ElboLoss(model), images, budget, faster=5.0)
    return Pair(model, None, 1)


@torch.no_grad()
def _ppca(images: Images, budget: Budget, scale_shape: tuple[int, ...]) -> LearnedScaleNormalHead:
    """The maximum of the likelihood for one scale (Tipping & Bishop 1999, eq. 7 and 8)."""
    x, size = images.trained_on().double(), min(budget.latent_size, images.features - 1)
    centred = x - x.mean(0)
    spectrum, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    variance = spectrum[:-size].mean()
    head = LearnedScaleNormalHead(nn.Linear(size, images.features), scale_shape=scale_shape)
    decoder = cast(nn.Linear, head.net)
    decoder.weight.copy_(vectors[:, -size:] * (spectrum[-size:] - variance).sqrt())
    decoder.bias.copy_(x.mean(0))
    head.log_scale.fill_(0.5 * variance.log())
    return head


def fit_gaussian_mixture(images: Images, budget: Budget) -> Pair:
    """By EM from random data as means; the components have diagonal covariances."""
    x, size = images.trained_on(), budget.components
    mixing, parts = Mixing(size), nn.Embedding(size, 2 * images.features)
    with torch.no_grad():
        start = x[torch.randperm(len(x))[:size]]
        if len(start) < size:
            start = start[torch.arange(size) % len(start)]
        parts.weight.copy_(torch.cat([start, torch.zeros_like(start)], 1))
    model = pv.Model(k=pv.Node(mixing, infer=SUMMED), x=pv.Node(NormalHead(parts), "k"))
    floor = least_scale(images) ** 2
    with progress_bar(total=budget.epochs, unit="step") as bar:
        expectation_maximization(
            model,
            {"x": x},
            lambda r: maximize_normal(mixing, parts, x, r, min_variance=floor),
            steps=budget.epochs,
            chunk_size=rows_together(images, budget),
            progress=bar.update,
        )
    return Pair(model, None, 1)


def fit_flow(images: Images, budget: Budget) -> Pair:
    """A flow of splines, or an affine one where so many splines would take hours."""
    kind = zuko.flows.NSF if images.features <= FULL_RANK else zuko.flows.MAF
    flow = kind(images.features, transforms=3, hidden_features=budget.hidden)
    model = pv.Model(x=flow)
    train(pv.ElboLoss(model), images, budget)
    return Pair(model, None, 1)


Likelihood = Callable[[Images, Callable[[int], nn.Module]], nn.Module]
"""From the images and a function from the size of an output to a net."""


def fit_vae(images: Images, budget: Budget, likelihood: Likelihood) -> Pair:
    size = budget.latent_size

    def net(out: int) -> nn.Module:
        return MLP(size, budget.hidden[::-1], out)

    encoder = NormalHead(MLP(images.features, budget.hidden, 2 * size))
    model = pv.Model(z=StandardNormal(size), x=pv.Node(likelihood(images, net), "z"))
    guide = pv.Guide(z=pv.Node(encoder, "x"))
    train(pv.ElboLoss(model, guide), images, budget)
    return Pair(model, guide, budget.num_particles)


def fixed(images: Images, net: Callable[[int], nn.Module]) -> nn.Module:
    return FixedScaleNormalHead(net(images.features), scale=FIXED_SCALE)


def learned(images: Images, net: Callable[[int], nn.Module]) -> nn.Module:
    return LearnedScaleNormalHead(net(images.features), initial_scale=FIXED_SCALE)


def predicted(images: Images, net: Callable[[int], nn.Module]) -> nn.Module:
    return NormalHead(net(2 * images.features), min_scale=least_scale(images))


def covariance(images: Images, net: Callable[[int], nn.Module]) -> nn.Module:
    size, floor = images.features, least_scale(images)
    if size > FULL_RANK:
        return LowRankNormalHead(net(12 * size), size, 10, min_scale=floor)
    return FullRankNormalHead(net(size + size * (size + 1) // 2), size, min_scale=floor)


def _vae(name: str, likelihood: Likelihood, note: str) -> Family:
    return Family(name, "real", lambda i, b: fit_vae(i, b, likelihood), has_code=True, note=note)


REAL = (
    Family(
        "ppca",
        "real",
        fit_ppca,
        is_exact=True,
        has_code=True,
        any_query=True,
        note="a linear VAE with one scale; z integrated out, by formula",
    ),
    Family(
        "factor-analysis",
        "real",
        fit_factor_analysis,
        is_exact=True,
        has_code=True,
        any_query=True,
        note="a linear VAE with a scale a pixel; z integrated out",
    ),
    Family(
        "gaussian-mixture",
        "real",
        fit_gaussian_mixture,
        is_exact=True,
        has_code=True,
        any_query=True,
        note="diagonal components, by EM",
    ),
    Family(
        "flow",
        "real",
        fit_flow,
        is_exact=True,
        one_pass=False,
        note=f"autoregressive: splines up to {FULL_RANK} pixels, else affine",
    ),
    _vae("vae-normal", fixed, f"fixed scale, {FIXED_SCALE} of a pixel's standard deviation"),
    _vae("vae-normal-learned", learned, "one learned scale"),
    _vae("vae-normal-predicted", predicted, "a scale a pixel, by the net"),
    _vae(
        "vae-full-covariance",
        covariance,
        f"a covariance by the net: full up to {FULL_RANK} pixels, else of rank 10 and diagonal",
    ),
)
