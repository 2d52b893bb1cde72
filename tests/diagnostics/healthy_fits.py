"""Twenty fits in which `diagnose` should find nothing."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
import zuko
from fitted_pairs import (
    Fit,
    bars,
    blobs,
    classes,
    count_factors,
    counts,
    cubic,
    factors,
    line,
    moons,
    poisson,
    regression,
    sine,
    surface,
    train,
    vae,
)
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from torch import nn

import pyrovae as pv
from pyrovae.bnn.guides import Empirical, JointNormal
from pyrovae.bnn.priors import fan_in
from pyrovae.heads import (
    FixedScaleNormalHead,
    FullRankNormalHead,
    LearnedScaleNormalHead,
    NormalHead,
    StudentTHead,
)
from pyrovae.nets import MLP
from pyrovae.posteriors import FlowPosterior
from pyrovae.priors import StandardNormal


def linear_program(x: torch.Tensor, y: torch.Tensor | None = None) -> None:
    """A linear regression as one writes it in Pyro."""
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    b = pyro.sample("b", dist.Normal(torch.zeros(()), 1.0))
    with pyro.plate("data", len(x), dim=-1):
        mean = (x * w).sum(-1) + b
        pyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def autoguide(make: Callable) -> Fit:
    data = line()
    data = {"x": data["x"], "y": data["y"][:, 0]}
    guide = make(linear_program)
    loss = pv.ElboLoss(linear_program, guide, num_data=60)
    return Fit(linear_program, guide, data, {"history": train(loss, data, steps=400)})


def exact_chain() -> Fit:
    """Draws of the posterior itself, of a linear regression."""
    data = line(n=80)
    net = pv.Bayesian(nn.Linear(3, 1))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))
    inputs = torch.cat([data["x"], torch.ones(80, 1)], 1)
    precision = torch.eye(4) + inputs.T @ inputs / 0.25
    mean = torch.linalg.solve(precision, inputs.T @ data["y"] / 0.25)[:, 0]
    draws = dist.MultivariateNormal(mean, precision_matrix=precision).sample((200,))
    guide = Empirical({"w.weight": draws[:, None, :3], "w.bias": draws[:, 3:]})
    return Fit(model, guide, data)


def conditional() -> Fit:
    data = factors(dims=6)
    data["c"] = torch.randint(2, (300, 1)).double()
    data["x"] = data["x"] + 2 * data["c"]
    model = pv.Model(
        z=StandardNormal(2),
        x=pv.Node(LearnedScaleNormalHead(MLP(3, [24], 6, nn.Tanh)), "z", "c"),
    )
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(7, [24], 4, nn.Tanh)), "x", "c"))
    history = train(pv.ElboLoss(model, guide), data, steps=400)
    return Fit(model, guide, data, {"history": history})


def flow() -> Fit:
    encoder = NormalHead(MLP(8, [24], 4, nn.Tanh))
    spline = zuko.flows.NSF(2, 8, transforms=1, hidden_features=(16,)).transform.inv
    return vae(factors(), encoder=FlowPosterior(encoder, spline), steps=300)


KNOWN_NOISE = {"head": lambda net: FixedScaleNormalHead(net, scale=0.2)}
QUIET = KNOWN_NOISE | {"context": pv.LocalReparameterization}
"""Gradients with less noise."""


def particles(num: int) -> pyro.infer.Trace_ELBO:
    return pyro.infer.Trace_ELBO(num_particles=num, vectorize_particles=True, max_plate_nesting=1)


HEALTHY: dict[str, Callable[[], Fit]] = {
    "mean field on a sine": lambda: regression(
        sine(200, 0.2), prior=fan_in(2.0), steps=600, **KNOWN_NOISE
    ),
    "mean field on a cubic": lambda: regression(
        cubic(300), hidden=(30,), prior=fan_in(4.0), steps=700, **QUIET
    ),
    "mean field on a surface, minibatches": lambda: regression(surface(), steps=600, parts=2),
    "mean field, two layers, scaled prior": lambda: regression(
        sine(200, 0.2), hidden=(15, 15), prior=fan_in(2.0), steps=800, **KNOWN_NOISE
    ),
    "joint normal on a sine": lambda: regression(
        sine(200, 0.2),
        prior=fan_in(2.0),
        guide=lambda net: JointNormal(net, rank=2, init_scale=0.03),
        steps=600,
        loss_options={"elbo": particles(8)},
        **KNOWN_NOISE,
    ),
    "student's t on a surface": lambda: regression(
        surface(), head=StudentTHead, out=2, prior=fan_in(2.0), steps=600
    ),
    "local reparameterisation": lambda: regression(
        sine(), steps=500, context=pv.LocalReparameterization
    ),
    "classes of moons": lambda: classes(
        moons(300),
        2,
        hidden=(30,),
        prior=fan_in(4.0),
        steps=700,
        context=pv.LocalReparameterization,
    ),
    "three blobs": lambda: classes(blobs(), 3, hidden=(10,), steps=600),
    "counts": lambda: poisson(counts(), hidden=(10,), steps=400),
    "AutoNormal": lambda: autoguide(AutoNormal),
    "AutoMultivariateNormal": lambda: autoguide(AutoMultivariateNormal),
    "draws of the posterior": exact_chain,
    "factors": lambda: vae(factors(), steps=400),
    "three factors, full rank": lambda: vae(
        factors(400, 10, 3), 3, encoder=FullRankNormalHead(MLP(10, [24], 9, nn.Tanh), 3), steps=400
    ),
    "bars": lambda: vae(bars(), 4, kind="bernoulli", steps=500),
    "count factors": lambda: vae(count_factors(), kind="poisson", steps=400),
    "importance-weighted": lambda: vae(
        factors(), loss=pv.IwaeLoss, loss_options={"num_particles": 5}, steps=400, use=True
    ),
    "conditional": conditional,
    "flow": flow,
}
