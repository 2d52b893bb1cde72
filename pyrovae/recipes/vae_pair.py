"""Model and guide of a VAE from its settings."""

import functools
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn as nn

import pyrovae as pv
from pyrovae import heads
from pyrovae.nets import MLP, Corrupted, Standardized
from pyrovae.posteriors import NonReparameterized, PrecisionWeighted
from pyrovae.priors import VampPrior
from pyrovae.recipes.vae_parts import (
    ACTIVATIONS,
    DECODERS,
    ENCODERS,
    FLOWS,
    LIKELIHOODS,
    NORMALS,
    PRIORS,
    Net,
    Shape,
)
from pyrovae.recipes.vae_settings import Settings


def build(
    s: Settings, shape: Shape, levels: int | None, num_conditions: int = 0
) -> tuple[pv.Model, pv.Guide]:
    """Model and guide for data of `shape`, conditioned on a vector c of size `num_conditions`.

    Constants computed from the training data (`fit_constants`) are saved with the weights.
    """
    return (_hierarchy if s.model.hierarchical else _single)(s, shape, levels, num_conditions)


def _single(s: Settings, shape: Shape, levels: int | None, c: int) -> tuple[pv.Model, pv.Guide]:
    size, condition = s.model.latent_dim[0], ("c",) if c else ()

    def encoder_net(out: int) -> nn.Module:
        return _encoder(
            s, ENCODERS[s.model.net](s.model, (shape[0] + c,) if c else shape, out), shape
        )

    def context_net(out: int) -> nn.Module:
        return _encoder(
            s,
            MLP(
                (shape[0] + c,) if c else shape,
                s.model.hidden[:1],
                out,
                ACTIVATIONS[s.model.activation],
            ),
            shape,
        )

    encoder = posterior = NORMALS.get(s.model.guide, NORMALS["diagonal"])(
        s.model, size, encoder_net
    )
    if s.model.guide in FLOWS:
        posterior = FLOWS[s.model.guide](s.model, encoder, size, context_net)
    posterior = _wrapped(s, posterior)
    prior = PRIORS[s.model.prior](s.model, size, encoder, shape, c)
    knows = condition if s.model.prior in ("conditional", "flow") else ()
    model = pv.Model(
        z=pv.Node(prior, *knows),
        x=pv.Node(_likelihood(s, size + c, shape, levels), "z", *condition),
    )
    return model, pv.Guide(z=pv.Node(posterior, "x", *condition))


def _hierarchy(s: Settings, shape: Shape, levels: int | None, c: int) -> tuple[pv.Model, pv.Guide]:
    names, sizes = s.model.layers, s.model.latent_dim
    model: dict[str, nn.Module] = {
        names[-1]: PRIORS[s.model.prior](s.model, sizes[-1], None, shape, 0)
    }
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
    """q(z1 | x) q(z2 | z1) ...: each layer conditioned on the one below it."""
    guide: dict[str, nn.Module] = {}
    below = "x"

    def encoder(out: int) -> nn.Module:
        return _encoder(s, ENCODERS[s.model.net](s.model, shape, out), shape)

    net: Net = encoder
    for name, size in zip(s.model.layers, s.model.latent_dim):
        guide[name] = pv.Node(_wrapped(s, NORMALS[s.model.guide](s.model, size, net)), below)
        below, net = name, functools.partial(_upper_net, s, size)
    return guide


def _upper_net(s: Settings, size: int, out: int) -> nn.Module:
    return MLP(size, s.model.upper_hidden, out, ACTIVATIONS[s.model.activation])


def _top_down(
    s: Settings, shape: Shape, generative: Mapping[str, nn.Module]
) -> dict[str, nn.Module]:
    """A ladder: deterministic features bottom-up, then posteriors top-down."""
    names, sizes, activation = s.model.layers, s.model.latent_dim, ACTIVATIONS[s.model.activation]
    guide: dict[str, nn.Module] = {}
    width = s.model.upper_hidden[-1]
    for i, name in enumerate(names):
        net = (
            _encoder(s, ENCODERS[s.model.net](s.model, shape, width), shape)
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
    """The posterior, not reparameterised if the objective uses the score function."""
    return (
        NonReparameterized(posterior) if s.objective.objective == "score-function" else posterior
    )


def _likelihood(s: Settings, size: int, shape: Shape, levels: int | None) -> nn.Module:
    return LIKELIHOODS[s.model.likelihood](
        s.model, lambda out: DECODERS[s.model.net](s.model, size, out), size, shape, levels
    )


def _encoder(s: Settings, net: nn.Module, shape: Shape) -> nn.Module:
    """A net that reads x: standardised and, in training, corrupted as the settings say."""
    standardized = Standardized(net, torch.zeros(shape), torch.ones(shape))
    if s.model.corrupt == "none":
        return standardized
    return Corrupted(standardized, s.model.corrupt, s.model.corrupt_level)


@torch.no_grad()
def fit_constants(model: pv.Model, guide: pv.Guide, x: torch.Tensor, s: Settings) -> None:
    """Set the constants that depend on the training data.

    Standardise the inputs of the encoders; set the last bias of a Bernoulli decoder to the logit
    of the mean image, and the pseudo-inputs to the first data.
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
                f"--prior-components {len(prior.pseudo_inputs)} exceeds the number of training data, {len(x)}."
            )
        prior.pseudo_inputs.copy_(x[: len(prior.pseudo_inputs)])


def _conditional(model: pv.Model, name: str) -> Any:  # noqa: ANN401  # any module
    return cast(pv.Node, model.nodes[name]).conditional
