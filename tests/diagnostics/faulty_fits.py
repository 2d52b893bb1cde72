"""Parts and fits with one fault each, for `planted_faults`."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from fitted_pairs import (
    Fit,
    blobs,
    counts,
    cubic,
    factors,
    line,
    net_of,
    sine,
    train,
    vae,
)
from healthy_fits import linear_program
from pyro.infer.autoguide import AutoNormal
from torch import nn

import pyrovae as pv
from pyrovae.bnn.guides import Empirical, Ensemble, MeanField, PointEstimate
from pyrovae.bnn.priors import last_layer
from pyrovae.heads import (
    CategoricalHead,
    FixedScaleNormalHead,
    LearnedScaleNormalHead,
    NormalHead,
)
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal


class Deaf(nn.Module):
    """A decoder that hears only the first `heard` of its inputs."""

    def __init__(self, latents: int, dims: int, heard: int = 0) -> None:
        super().__init__()
        self.heard, self.net = heard, MLP(latents, [16], dims, nn.Tanh)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        mask = (torch.arange(z.shape[-1]) < self.heard).to(z)
        return self.net(z * mask)


class Narrow(nn.Module):
    """A prior of two latents that is a tenth as wide as usual."""

    def forward(self) -> dist.Independent:
        return dist.Normal(torch.zeros(2), 0.1).to_event(1)


def normal_scale(scale: float) -> Callable[[nn.Module], nn.Module]:
    return lambda net: FixedScaleNormalHead(net, scale=scale)


def small_start(net: nn.Module) -> MeanField:
    return MeanField(net, init_scale=1e-2)


def wide_start(net: nn.Module) -> MeanField:
    return MeanField(net, init_scale=0.7)


def frozen_scales(net: nn.Module) -> MeanField:
    guide = MeanField(net, init_scale=0.02)
    guide.rho.requires_grad_(False)
    return guide


def beta(value: float) -> dict:
    return {"loss_options": {"beta": value}}


def last_layer_frozen() -> Fit:
    """A net of which the last layer is Bayesian, with scales that were held fixed."""
    data = blobs()
    net = net_of(data, (20,), 3)
    bayesian = pv.Bayesian(net, last_layer(net))
    model = pv.Model(y=pv.Node(CategoricalHead(bayesian), "x"))
    guide = frozen_scales(bayesian)
    loss = pv.ElboLoss(model, guide, num_data=150)
    history = train(loss, data, steps=200)
    guide.rho.requires_grad_(True)
    return Fit(model, guide, data, {"history": history})


def auto(make: Callable, steps: int, lr: float, parts: int = 1, n: int = 60) -> Fit:
    data = line(n)
    data = {"x": data["x"], "y": data["y"][:, 0]}
    guide = make(linear_program)
    loss = pv.ElboLoss(linear_program, guide, num_data=n // parts)
    history = train(loss, data, steps=steps, lr=lr, parts=parts)
    return Fit(linear_program, guide, data, {"history": history})


def hierarchy() -> Fit:
    """The top layer of two is not used: the lower one has a prior of its own."""

    class Lower(nn.Module):
        def forward(self, z2: torch.Tensor) -> dist.Independent:
            return dist.Normal(0 * z2, 1.0).to_event(1)

    data = factors()
    model = pv.Model(
        z2=StandardNormal(2),
        z1=pv.Node(Lower(), "z2"),
        x=pv.Node(LearnedScaleNormalHead(MLP(2, [24], 8, nn.Tanh)), "z1"),
    )
    guide = pv.Guide(
        z1=pv.Node(NormalHead(MLP(8, [24], 4, nn.Tanh)), "x"),
        z2=pv.Node(NormalHead(MLP(2, [8], 4, nn.Tanh)), "z1"),
    )
    return Fit(model, guide, data, {"history": train(pv.ElboLoss(model, guide), data)})


def summed_kl() -> Fit:
    """The likelihood is a mean over data, the KL is not divided by N."""
    data = sine()
    net = pv.Bayesian(net_of(data))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.3), "x"))
    guide = MeanField(net, init_scale=0.7)
    loss = pv.ElboLoss(model, guide, num_data=100, beta=100.0)
    return Fit(model, guide, data, {"history": train(loss, data, steps=800)})


def twins() -> Fit:
    """An ensemble whose members all start at the same weights and see the same batches."""
    data = cubic()
    net = net_of(data)
    bayesian = pv.Bayesian(net)
    model = pv.Model(y=pv.Node(LearnedScaleNormalHead(bayesian), "x"))
    guide = Ensemble(bayesian, [net, net, net, net])
    elbo = pyro.infer.Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1)
    loss = pv.ElboLoss(model, guide, num_data=120, elbo=elbo)
    return Fit(model, guide, data, {"history": train(loss, data)})


def stuck_chain() -> Fit:
    """A Markov chain that rejected every proposal."""
    data = line()
    net = pv.Bayesian(nn.Linear(3, 1))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))
    weight, bias = torch.linspace(-1, 1, 3), torch.tensor([0.3])
    draws = {"w.weight": weight.repeat(50, 1, 1), "w.bias": bias.repeat(50, 1)}
    return Fit(model, Empirical(draws), data)


def overfit(make: Callable, data: dict, fresh: dict, **options: object) -> Fit:
    """A point estimate of the weights, scored on data that it was not fitted to."""
    fit = make(data, guide=PointEstimate, **options)
    fit.known["held_out"] = fresh
    return fit


def other_encoder() -> Fit:
    """The decoder of one run with the encoder of the start."""
    fit = vae(factors(), steps=300)
    encoder = pv.Guide(z=pv.Node(NormalHead(MLP(8, [24], 4, nn.Tanh)), "x"))
    return Fit(fit.model, encoder, fit.data)


def narrow_encoder(data: dict, kind: str, scale: float) -> Fit:
    head = FixedScaleNormalHead(MLP(data["x"].shape[1], [24], 2, nn.Tanh), scale=scale)
    return vae(data, kind=kind, encoder=head)


def narrow_autonormal() -> Fit:
    """A guide of fixed, narrow scales for a linear regression."""
    data = line(n=40)
    data = {"x": data["x"], "y": data["y"][:, 0]}
    fit = auto(AutoNormal, 300, 2e-2, n=40)
    with torch.no_grad():
        for parameter in fit.guide.scales.parameters():
            parameter.add_(-1.2)
    return Fit(fit.model, fit.guide, fit.data)


def collinear() -> Fit:
    """Independent normals for two weights of which the data know the sum alone."""
    x = torch.randn(100, 1)
    x = torch.cat([x, x + 0.02 * torch.randn(100, 1), torch.randn(100, 1)], 1)
    data = {"x": x, "y": x[:, 0] + x[:, 2] + 0.5 * torch.randn(100)}
    guide = AutoNormal(linear_program, init_scale=0.05)
    loss = pv.ElboLoss(linear_program, guide, num_data=100)
    return Fit(linear_program, guide, data, {"history": train(loss, data, steps=500)})


def shifted(data: dict, offset: float = 0.0, factor: float = 1.0) -> dict:
    return {**data, "y": offset + factor * data["y"]}


def heavy_noise(n: int = 200) -> dict:
    data = sine(n, 0.0)
    return {**data, "y": data["y"] + 0.1 * dist.StudentT(1.2).sample((n, 1))}


def spread_counts(n: int = 200) -> dict:
    data = counts(n)
    rate = (1.5 + data["x"]).exp() * dist.Gamma(0.7, 0.7).sample((n, 1))
    return {**data, "y": torch.poisson(rate)}


def program_without_scale() -> Fit:
    """Pyro's own loss on minibatches, of a program whose plate does not know N."""
    data = line(240)
    data = {"x": data["x"], "y": data["y"][:, 0]}
    guide = AutoNormal(linear_program, init_scale=0.1)
    loss = pyro.infer.Trace_ELBO()(linear_program, guide)
    history = train(loss, data, steps=720, parts=24)
    return Fit(linear_program, guide, data, {"history": history})


def net_without_n() -> Fit:
    """The same for a Bayesian net."""
    data = sine(200)
    net = pv.Bayesian(net_of(data))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.1), "x"))
    guide = MeanField(net, init_scale=0.1)
    loss = pyro.infer.Trace_ELBO()(model, guide)
    history = train(loss, data, steps=800, parts=20)
    return Fit(model, guide, data, {"history": history})


def frozen_guide() -> Fit:
    """The decoder alone is trained."""
    data = factors()
    model = pv.Model(
        z=StandardNormal(2),
        x=pv.Node(LearnedScaleNormalHead(MLP(2, [24], 8, nn.Tanh)), "z"),
    )
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(8, [24], 4, nn.Tanh)), "x"))
    guide.requires_grad_(False)
    history = train(pv.ElboLoss(model, guide), data)
    guide.requires_grad_(True)
    return Fit(model, guide, data, {"history": history})
