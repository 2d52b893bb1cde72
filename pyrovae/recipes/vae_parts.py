"""From settings to a pair: each choice of the command line is one line of a dictionary."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.nn as nn
import zuko

import pyrovae as pv
from pyrovae import heads
from pyrovae.nets import MLP, ConvDecoder, ConvEncoder, GatedMLP, Standardized
from pyrovae.posteriors import (
    IAF,
    FlowPosterior,
    NonReparameterized,
    PlanarPosterior,
    PrecisionWeighted,
)
from pyrovae.priors import MixtureOfNormals, StandardNormal, VampPrior
from pyrovae.recipes.vae_settings import Settings

Shape = tuple[int, ...]
Net = Callable[[int], nn.Module]
"""A fresh net by the size of its output."""

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "elu": nn.ELU}

ENCODERS: dict[str, Callable[[Settings, Shape, int], nn.Module]] = {
    "mlp": lambda s, shape, out: MLP(shape, s.model.hidden, out, ACTIVATIONS[s.model.activation]),
    "gated": lambda s, shape, out: GatedMLP(shape, s.model.hidden, out),
    "conv": lambda s, shape, out: ConvEncoder(
        shape, s.model.hidden, out, ACTIVATIONS[s.model.activation]
    ),
}

DECODERS: dict[str, Callable[[Settings, int, Shape], nn.Module]] = {
    "mlp": lambda s, size, shape: MLP(
        size, s.model.hidden[::-1], shape, ACTIVATIONS[s.model.activation]
    ),
    "gated": lambda s, size, shape: GatedMLP(size, s.model.hidden[::-1], shape),
    "conv": lambda s, size, shape: ConvDecoder(
        size, s.model.hidden[::-1], shape, ACTIVATIONS[s.model.activation]
    ),
}

LIKELIHOODS: dict[
    str, Callable[[Settings, Callable[[Shape], nn.Module], int, Shape, int | None], nn.Module]
] = {
    "bernoulli": lambda s, net, size, shape, levels: heads.BernoulliHead(
        net(shape), event_dim=len(shape)
    ),
    "autoregressive-bernoulli": lambda s, net, size, shape, levels: (
        heads.AutoregressiveBernoulliHead(shape[0], size, s.model.hidden)
    ),
    "continuous-bernoulli": lambda s, net, size, shape, levels: heads.ContinuousBernoulliHead(
        net(shape), event_dim=len(shape)
    ),
    "beta": lambda s, net, size, shape, levels: heads.BetaHead(
        net(_times(2, shape)), event_dim=len(shape)
    ),
    "normal": lambda s, net, size, shape, levels: heads.FixedScaleNormalHead(
        net(shape), scale=s.model.scale, event_dim=len(shape)
    ),
    "normal-learned": lambda s, net, size, shape, levels: heads.LearnedScaleNormalHead(
        net(shape), initial_scale=s.model.scale, event_dim=len(shape)
    ),
    "normal-predicted": lambda s, net, size, shape, levels: heads.NormalHead(
        net(_times(2, shape)), event_dim=len(shape), min_scale=s.model.scale
    ),
    "low-rank-normal": lambda s, net, size, shape, levels: heads.LowRankNormalHead(
        net((shape[0] * (2 + s.model.likelihood_components),)),
        shape[0],
        s.model.likelihood_components,
        min_scale=s.model.scale,
    ),
    "student-t": lambda s, net, size, shape, levels: heads.StudentTHead(
        net(_times(2, shape)), event_dim=len(shape), min_scale=s.model.scale
    ),
    "categorical": lambda s, net, size, shape, levels: heads.CategoricalHead(
        net(_times(_known(levels), shape)), event_shape=shape
    ),
    "logistic-mixture": lambda s, net, size, shape, levels: heads.DiscretizedLogisticMixtureHead(
        net(_times(3 * s.model.likelihood_components, shape)),
        s.model.likelihood_components,
        levels=_known(levels),
        event_shape=shape,
    ),
    "poisson": lambda s, net, size, shape, levels: heads.PoissonHead(
        net(shape), event_dim=len(shape)
    ),
    "negative-binomial": lambda s, net, size, shape, levels: heads.NegativeBinomialHead(
        net(shape), event_dim=len(shape)
    ),
}
VECTORS_ONLY = ("autoregressive-bernoulli", "low-rank-normal")
"""Likelihoods of vectors: images are flattened for them."""
LEVELS = ("categorical", "logistic-mixture")
"""Likelihoods of whole grey levels."""
DENSITIES = (
    "continuous-bernoulli",
    "beta",
    "normal",
    "normal-learned",
    "normal-predicted",
    "low-rank-normal",
    "student-t",
)
"""Likelihoods of real data: their log p(x) changes with the units."""
COUNTS = ("poisson", "negative-binomial")


def _times(count: int, shape: Shape) -> Shape:
    return (count * shape[0], *shape[1:])


def _known(levels: int | None) -> int:
    """The number of grey levels, which data of a likelihood in `LEVELS` have (`refuse_unfit`)."""
    return cast(int, levels)


PRIORS: dict[str, Callable[[Settings, int, nn.Module | None, Shape, int], nn.Module]] = {
    "standard": lambda s, size, encoder, shape, c: StandardNormal(size),
    "conditional": lambda s, size, encoder, shape, c: heads.NormalHead(
        MLP(c, s.model.upper_hidden, 2 * size, ACTIVATIONS[s.model.activation])
    ),
    "mixture": lambda s, size, encoder, shape, c: MixtureOfNormals(size, s.model.prior_components),
    "vamp": lambda s, size, encoder, shape, c: VampPrior(
        cast(nn.Module, encoder),
        torch.zeros(s.model.prior_components, *shape),
        learn_inputs=(s.model.vamp_inputs == "learned"),
        learn_weights=s.model.vamp_weights,
    ),
    "flow": lambda s, size, encoder, shape, c: {
        "coupling": zuko.flows.RealNVP,
        "autoregressive": zuko.flows.MAF,
        "spline": zuko.flows.NSF,
    }[
        s.model.prior_flow
    ](size, c, transforms=s.model.prior_transforms, hidden_features=s.model.prior_hidden),
}

NORMALS: dict[str, Callable[[Settings, int, Net], nn.Module]] = {
    "diagonal": lambda s, size, net: heads.NormalHead(net(2 * size)),
    "full-rank": lambda s, size, net: heads.FullRankNormalHead(
        net(size + size * (size + 1) // 2), size
    ),
    "low-rank": lambda s, size, net: heads.LowRankNormalHead(
        net(size * (2 + s.model.guide_components)), size, s.model.guide_components
    ),
    "mixture": lambda s, size, net: heads.MixtureNormalHead(
        net(s.model.guide_components * (2 * size + 1)), size, s.model.guide_components
    ),
}

FLOWS: dict[str, Callable[[Settings, nn.Module, int, Net], nn.Module]] = {
    "iaf": lambda s, encoder, size, net: IAF(
        encoder,
        size,
        s.model.guide_context,
        transforms=s.model.guide_transforms,
        hidden=s.model.guide_hidden,
        context_net=net(s.model.guide_context),
    ),
    "maf": lambda s, encoder, size, net: FlowPosterior(
        encoder, _steps(zuko.flows.MAF, s, size), context=net(s.model.guide_context)
    ),
    "spline": lambda s, encoder, size, net: FlowPosterior(
        encoder, _steps(zuko.flows.NSF, s, size).inv, context=net(s.model.guide_context)
    ),
    "coupling": lambda s, encoder, size, net: FlowPosterior(
        encoder, _steps(zuko.flows.RealNVP, s, size).inv, context=net(s.model.guide_context)
    ),
    "planar": lambda s, encoder, size, net: PlanarPosterior(
        encoder,
        net(s.model.guide_transforms * (2 * size + 1)),
        size,
        transforms=s.model.guide_transforms,
    ),
}


def _steps(flow: type, s: Settings, size: int) -> zuko.lazy.LazyTransform:
    return flow(
        size,
        s.model.guide_context,
        transforms=s.model.guide_transforms,
        hidden_features=s.model.guide_hidden,
    ).transform


def build(
    s: Settings, shape: Shape, levels: int | None, num_conditions: int = 0
) -> tuple[pv.Model, pv.Guide]:
    """The pair for data of `shape`, with `num_conditions` numbers of c beside each datum.

    What it takes from the training data (`fit_constants`) is saved with its weights.
    """
    return (_hierarchy if s.model.hierarchical else _single)(s, shape, levels, num_conditions)


def _single(s: Settings, shape: Shape, levels: int | None, c: int) -> tuple[pv.Model, pv.Guide]:
    size, condition = s.model.latent_dim[0], ("c",) if c else ()

    def encoder_net(out: int) -> nn.Module:
        return _standardized(ENCODERS[s.model.net](s, (shape[0] + c,) if c else shape, out), shape)

    def context_net(out: int) -> nn.Module:
        return _standardized(
            MLP(
                (shape[0] + c,) if c else shape,
                s.model.hidden[:1],
                out,
                ACTIVATIONS[s.model.activation],
            ),
            shape,
        )

    encoder = posterior = NORMALS.get(s.model.guide, NORMALS["diagonal"])(s, size, encoder_net)
    if s.model.guide in FLOWS:
        posterior = FLOWS[s.model.guide](s, encoder, size, context_net)
    posterior = _wrapped(s, posterior)
    prior = PRIORS[s.model.prior](s, size, encoder, shape, c)
    knows = condition if s.model.prior in ("conditional", "flow") else ()
    model = pv.Model(
        z=pv.Node(prior, *knows),
        x=pv.Node(_likelihood(s, size + c, shape, levels), "z", *condition),
    )
    return model, pv.Guide(z=pv.Node(posterior, "x", *condition))


def _hierarchy(s: Settings, shape: Shape, levels: int | None, c: int) -> tuple[pv.Model, pv.Guide]:
    names, sizes = s.model.layers, s.model.latent_dim
    model: dict[str, nn.Module] = {names[-1]: PRIORS[s.model.prior](s, sizes[-1], None, shape, 0)}
    generative: dict[str, nn.Module] = {}
    for i in reversed(range(len(sizes) - 1)):
        net = MLP(
            sizes[i + 1], s.model.upper_hidden[::-1], 2 * sizes[i], ACTIVATIONS[s.model.activation]
        )
        generative[names[i]] = heads.NormalHead(net)
        model[names[i]] = pv.Node(generative[names[i]], names[i + 1])
    model["x"] = pv.Node(_likelihood(s, sizes[0], shape, levels), names[0])
    guide = _top_down(s, shape, generative) if s.model.ladder else _bottom_up(s, shape)
    return pv.Model(**model), pv.Guide(**guide)


def _bottom_up(s: Settings, shape: Shape) -> dict[str, nn.Module]:
    """q(z1 | x) q(z2 | z1) ...: each layer given the one below it."""
    guide: dict[str, nn.Module] = {}
    below = "x"

    def encoder(out: int) -> nn.Module:
        return _standardized(ENCODERS[s.model.net](s, shape, out), shape)

    net: Net = encoder
    for name, size in zip(s.model.layers, s.model.latent_dim):
        guide[name] = pv.Node(_wrapped(s, NORMALS[s.model.guide](s, size, net)), below)
        below, net = name, functools.partial(_upper_net, s, size)
    return guide


def _upper_net(s: Settings, size: int, out: int) -> nn.Module:
    return MLP(size, s.model.upper_hidden, out, ACTIVATIONS[s.model.activation])


def _top_down(
    s: Settings, shape: Shape, generative: Mapping[str, nn.Module]
) -> dict[str, nn.Module]:
    """A ladder: features from the data up, then posteriors from the top down."""
    names, sizes, activation = s.model.layers, s.model.latent_dim, ACTIVATIONS[s.model.activation]
    guide: dict[str, nn.Module] = {}
    width = s.model.upper_hidden[-1]
    for i, name in enumerate(names):
        net = (
            _standardized(ENCODERS[s.model.net](s, shape, width), shape)
            if i == 0
            else nn.Sequential(
                activation(), MLP(width, s.model.upper_hidden[:-1], width, activation)
            )
        )
        guide[f"features_{name}"] = pv.Value(net, "x" if i == 0 else f"features_{names[i - 1]}")
    for i in reversed(range(len(names))):
        recognition = heads.NormalHead(nn.Sequential(activation(), MLP(width, (), 2 * sizes[i])))
        guide[names[i]] = (
            pv.Node(_wrapped(s, recognition), f"features_{names[i]}")
            if i + 1 == len(names)
            else pv.Node(
                _wrapped(s, PrecisionWeighted(recognition, generative[names[i]])),
                f"features_{names[i]}",
                names[i + 1],
            )
        )
    return guide


def _wrapped(s: Settings, posterior: nn.Module) -> nn.Module:
    """Without reparameterisation for the score-function gradient."""
    return (
        NonReparameterized(posterior) if s.objective.objective == "score-function" else posterior
    )


def _likelihood(s: Settings, size: int, shape: Shape, levels: int | None) -> nn.Module:
    return LIKELIHOODS[s.model.likelihood](
        s, lambda out: DECODERS[s.model.net](s, size, out), size, shape, levels
    )


def _standardized(net: nn.Module, shape: Shape) -> Standardized:
    return Standardized(net, torch.zeros(shape), torch.ones(shape))


@torch.no_grad()
def fit_constants(model: pv.Model, guide: pv.Guide, x: torch.Tensor, s: Settings) -> None:
    """What a pair takes from the training data.

    Inputs of the encoders to mean 0 and scale 1; the Bernoulli's last bias to the logit of the
    mean image; pseudo-inputs to the first data.
    """
    mean, scale = x.mean(0), x.std(0)
    for part in guide.modules():
        if isinstance(part, Standardized) and s.model.likelihood != "bernoulli":
            part.mean.copy_(mean)
            part.scale.copy_(scale.clamp(min=0.1 * float(scale.mean()) or 1.0))
    if s.model.likelihood == "bernoulli" and s.model.net != "conv":
        last = _conditional(model, "x").net.layers[-1]
        last.bias.copy_(mean.clamp(0.001, 0.999).logit().flatten())
    prior = _conditional(model, s.model.layers[-1])
    if isinstance(prior, VampPrior):
        if len(x) < len(prior.pseudo_inputs):
            raise pv.PairError(
                f"--prior-components {len(prior.pseudo_inputs)} are more than the {len(x)} training data."
            )
        prior.pseudo_inputs.copy_(x[: len(prior.pseudo_inputs)])


def _conditional(model: pv.Model, name: str) -> Any:  # noqa: ANN401  # any module of the user's
    return cast(pv.Node, model.nodes[name]).conditional
