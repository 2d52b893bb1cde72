"""Model, prior and guide of one Bayesian neural network, built from the settings."""

from collections.abc import Callable

import torch.nn as nn
from pyro.infer import ELBO, TraceMeanField_ELBO

import pyrovae as pv
from pyrovae.bnn import priors as weight_priors
from pyrovae.bnn.guides import MCDropout, MeanField, PointEstimate, Radial
from pyrovae.bnn.priors import WeightPrior
from pyrovae.heads import CategoricalHead, NormalHead, SharedVarianceHead
from pyrovae.nets import MLP, LeNet, ResNet
from pyrovae.priors import InverseGammaPrior
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task
from pyrovae.recipes.refusal import Refusal

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}
BLOCKS = {"resnet8": 1, "resnet20": 3}
"""Of a stage."""
PriorFactory = Callable[[BnnSettings, nn.Module], WeightPrior]
"""From the settings and the net to the prior of its weights."""
GuideFactory = Callable[[BnnSettings, pv.Model, Task], nn.Module]


def build_model(prior: PriorFactory, s: BnnSettings, task: Task) -> pv.Model:
    """p(w) p(y | x, w) with fresh initial weights."""
    width = task.outputs * (2 if task.kind == "regression" and s.model.noise == "input" else 1)
    layers = build_net(s, task, width)
    net = pv.Bayesian(layers, prior(s, layers), event_dim=1)
    if task.kind == "classification":
        return pv.Model(y=pv.Node(CategoricalHead(net), "x"))
    if s.model.noise == "input":
        return pv.Model(y=pv.Node(NormalHead(net, min_scale=1e-3), "x"))
    return pv.Model(
        variance=pv.Global(InverseGammaPrior(1.0, 0.01)),
        y=pv.Node(SharedVarianceHead(net), "x", "variance"),
    )


def build_net(s: BnnSettings, task: Task, outputs: int) -> nn.Module:
    """The net of --net on rows `(N, D)`; those of images are reshaped. Raises Refusal for other rows."""
    activation = ACTIVATIONS[s.model.activation]
    if s.model.net == "mlp":
        return MLP(task.num_features, s.model.hidden, outputs, activation)
    if task.image_shape is None:
        raise Refusal(
            f"--net {s.model.net} is for images, but {task.name} has rows of {task.num_features} features; use mlp."
        )
    shape = task.image_shape
    net = (
        LeNet(shape, outputs, activation)
        if s.model.net == "lenet"
        else ResNet(shape, outputs, blocks=BLOCKS[s.model.net], activation=activation)
    )
    return nn.Sequential(nn.Unflatten(-1, shape), net)


def normal_prior(s: BnnSettings, net: nn.Module) -> WeightPrior:
    """The prior of --prior and --prior-scale."""
    scale = s.model.prior_scale
    if s.model.prior == "fan-in":
        return weight_priors.fan_in(scale, scale)
    return weight_priors.normal(scale)


def laplace_prior(s: BnnSettings, net: nn.Module) -> WeightPrior:
    """`normal_prior`, on the last layer alone with --laplace last-layer, and with precisions that
    --prior-fit during sets."""
    prior = normal_prior(s, net)
    if s.inference.laplace in ("last-layer", "last-layer-kron"):
        prior = weight_priors.last_layer(net, prior)
    return weight_priors.Scaled(prior, net) if s.inference.prior_fit == "during" else prior


def mixture_prior(s: BnnSettings, net: nn.Module) -> WeightPrior:
    return weight_priors.scale_mixture(*s.model.mixture)


def hierarchical_prior(s: BnnSettings, net: nn.Module) -> WeightPrior:
    return weight_priors.hierarchical(*s.model.hierarchical)


def mean_field(s: BnnSettings, model: pv.Model, task: Task) -> MeanField:
    return MeanField(model, init_scale=s.inference.init_scale)


def radial(s: BnnSettings, model: pv.Model, task: Task) -> Radial:
    return Radial(model, init_scale=s.inference.init_scale)


def dropout_rate(s: BnnSettings, task: Task) -> float:
    """--rate, or the usual one: where y has little noise, that of dropout is soon the larger."""
    usual = 0.01 if task.kind == "regression" else 0.05
    return usual if s.inference.rate is None else s.inference.rate


def dropout(s: BnnSettings, model: pv.Model, task: Task) -> MCDropout:
    return MCDropout(model, dropout_rate(s, task))


def concrete_dropout(s: BnnSettings, model: pv.Model, task: Task) -> MCDropout:
    return MCDropout(model, dropout_rate(s, task), learn_rate=True)


def point(s: BnnSettings, model: pv.Model, task: Task) -> PointEstimate:
    return PointEstimate(model)


def sampler_state(s: BnnSettings, model: pv.Model, task: Task) -> PointEstimate:
    """The state of a Markov chain, with the density of the unconstrained values it moves."""
    return PointEstimate(model, jacobian=True)


def monte_carlo_kl() -> ELBO | None:
    """The ELBO with the KL estimated from the sample: the default of `ElboLoss`."""
    return None


def closed_form_kl() -> ELBO:
    return TraceMeanField_ELBO()
