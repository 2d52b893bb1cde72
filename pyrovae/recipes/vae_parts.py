"""The parts of a VAE: each choice of the command line is one entry of a dictionary."""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn as nn
import zuko

from pyrovae import heads
from pyrovae.nets import MLP, ConvDecoder, ConvEncoder, GatedMLP
from pyrovae.posteriors import (
    IAF,
    FlowPosterior,
    PlanarPosterior,
)
from pyrovae.priors import Flat, Laplace, MixtureOfNormals, StandardNormal, VampPrior
from pyrovae.recipes.vae_model_settings import ModelSettings

Shape = tuple[int, ...]
Net = Callable[[int], nn.Module]
"""From the size of the output to a new network."""

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "elu": nn.ELU}

ENCODERS: dict[str, Callable[[ModelSettings, Shape, int], nn.Module]] = {
    "mlp": lambda m, shape, out: MLP(shape, m.hidden, out, ACTIVATIONS[m.activation]),
    "gated": lambda m, shape, out: GatedMLP(shape, m.hidden, out),
    "conv": lambda m, shape, out: ConvEncoder(shape, m.hidden, out, ACTIVATIONS[m.activation]),
}

DECODERS: dict[str, Callable[[ModelSettings, int, Shape], nn.Module]] = {
    "mlp": lambda m, size, shape: MLP(size, m.hidden[::-1], shape, ACTIVATIONS[m.activation]),
    "gated": lambda m, size, shape: GatedMLP(size, m.hidden[::-1], shape),
    "conv": lambda m, size, shape: ConvDecoder(
        size, m.hidden[::-1], shape, ACTIVATIONS[m.activation]
    ),
}

LIKELIHOODS: dict[
    str, Callable[[ModelSettings, Callable[[Shape], nn.Module], int, Shape, int | None], nn.Module]
] = {
    "bernoulli": lambda m, net, size, shape, levels: heads.BernoulliHead(
        net(shape), event_dim=len(shape)
    ),
    "autoregressive-bernoulli": lambda m, net, size, shape, levels: (
        heads.AutoregressiveBernoulliHead(shape[0], size, m.hidden)
    ),
    "continuous-bernoulli": lambda m, net, size, shape, levels: heads.ContinuousBernoulliHead(
        net(shape), event_dim=len(shape)
    ),
    "beta": lambda m, net, size, shape, levels: heads.BetaHead(
        net(_times(2, shape)), event_dim=len(shape)
    ),
    "normal": lambda m, net, size, shape, levels: heads.FixedScaleNormalHead(
        net(shape), scale=m.scale, event_dim=len(shape)
    ),
    "normal-learned": lambda m, net, size, shape, levels: heads.LearnedScaleNormalHead(
        net(shape), initial_scale=m.scale, event_dim=len(shape)
    ),
    "normal-predicted": lambda m, net, size, shape, levels: heads.NormalHead(
        net(_times(2, shape)), event_dim=len(shape), min_scale=m.scale
    ),
    "low-rank-normal": lambda m, net, size, shape, levels: heads.LowRankNormalHead(
        net((shape[0] * (2 + m.likelihood_components),)),
        shape[0],
        m.likelihood_components,
        min_scale=m.scale,
    ),
    "student-t": lambda m, net, size, shape, levels: heads.StudentTHead(
        net(_times(2, shape)), event_dim=len(shape), min_scale=m.scale
    ),
    "categorical": lambda m, net, size, shape, levels: heads.CategoricalHead(
        net(_times(_known(levels), shape)), event_shape=shape
    ),
    "logistic-mixture": lambda m, net, size, shape, levels: heads.DiscretizedLogisticMixtureHead(
        net(_times(3 * m.likelihood_components, shape)),
        m.likelihood_components,
        levels=_known(levels),
        event_shape=shape,
    ),
    "poisson": lambda m, net, size, shape, levels: heads.PoissonHead(
        net(shape), event_dim=len(shape)
    ),
    "negative-binomial": lambda m, net, size, shape, levels: heads.NegativeBinomialHead(
        net(shape), event_dim=len(shape)
    ),
}
VECTORS_ONLY = ("autoregressive-bernoulli", "low-rank-normal")
"""Likelihoods of vectors, for which images are flattened."""
LEVELS = ("categorical", "logistic-mixture")
"""Likelihoods of integer grey levels."""
DENSITIES = (
    "continuous-bernoulli",
    "beta",
    "normal",
    "normal-learned",
    "normal-predicted",
    "low-rank-normal",
    "student-t",
)
"""Likelihoods that are densities: log p(x) depends on the units of the data."""
COUNTS = ("poisson", "negative-binomial")


def _times(count: int, shape: Shape) -> Shape:
    return (count * shape[0], *shape[1:])


def _known(levels: int | None) -> int:
    """The number of grey levels; `refuse_unfit` has checked that it is known."""
    return cast(int, levels)


PRIORS: dict[str, Callable[[ModelSettings, int, nn.Module | None, Shape, int], nn.Module]] = {
    "standard": lambda m, size, encoder, shape, c: StandardNormal(size),
    "laplace": lambda m, size, encoder, shape, c: Laplace(size, scale=m.laplace_scale),
    "flat": lambda m, size, encoder, shape, c: Flat(size),
    "conditional": lambda m, size, encoder, shape, c: heads.NormalHead(
        MLP(c, m.upper_hidden, 2 * size, ACTIVATIONS[m.activation])
    ),
    "mixture": lambda m, size, encoder, shape, c: MixtureOfNormals(size, m.prior_components),
    "vamp": lambda m, size, encoder, shape, c: VampPrior(
        cast(nn.Module, encoder),
        torch.zeros(m.prior_components, *shape),
        learn_inputs=(m.vamp_inputs == "learned"),
        learn_weights=m.vamp_weights,
    ),
    "flow": lambda m, size, encoder, shape, c: {
        "coupling": zuko.flows.RealNVP,
        "autoregressive": zuko.flows.MAF,
        "spline": zuko.flows.NSF,
    }[m.prior_flow](size, c, transforms=m.prior_transforms, hidden_features=m.prior_hidden),
}

NORMALS: dict[str, Callable[[ModelSettings, int, Net], nn.Module]] = {
    "diagonal": lambda m, size, net: heads.NormalHead(net(2 * size)),
    "point": lambda m, size, net: heads.DeltaHead(net(size)),
    "full-rank": lambda m, size, net: heads.FullRankNormalHead(
        net(size + size * (size + 1) // 2), size
    ),
    "low-rank": lambda m, size, net: heads.LowRankNormalHead(
        net(size * (2 + m.guide_components)), size, m.guide_components
    ),
    "mixture": lambda m, size, net: heads.MixtureNormalHead(
        net(m.guide_components * (2 * size + 1)), size, m.guide_components
    ),
}

FLOWS: dict[str, Callable[[ModelSettings, nn.Module, int, Net], nn.Module]] = {
    "iaf": lambda m, encoder, size, net: IAF(
        encoder,
        size,
        m.guide_context,
        transforms=m.guide_transforms,
        hidden=m.guide_hidden,
        context_net=net(m.guide_context),
    ),
    "maf": lambda m, encoder, size, net: FlowPosterior(
        encoder, _steps(zuko.flows.MAF, m, size), context=net(m.guide_context)
    ),
    "spline": lambda m, encoder, size, net: FlowPosterior(
        encoder, _steps(zuko.flows.NSF, m, size).inv, context=net(m.guide_context)
    ),
    "coupling": lambda m, encoder, size, net: FlowPosterior(
        encoder, _steps(zuko.flows.RealNVP, m, size).inv, context=net(m.guide_context)
    ),
    "planar": lambda m, encoder, size, net: PlanarPosterior(
        encoder,
        net(m.guide_transforms * (2 * size + 1)),
        size,
        transforms=m.guide_transforms,
    ),
}


def _steps(flow: type, m: ModelSettings, size: int) -> zuko.lazy.LazyTransform:
    return flow(
        size,
        m.guide_context,
        transforms=m.guide_transforms,
        hidden_features=m.guide_hidden,
    ).transform
