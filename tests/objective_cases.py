"""Every objective once, as capture and other devices are to know them. A new objective is one line
here."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
import zuko
from pyro.infer import (
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from pyro.infer.autoguide import AutoLowRankMultivariateNormal, AutoNormal
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import JointNormal, MCDropout, MeanField, PointEstimate, Radial
from pyrovae.bnn.priors import hierarchical, scale_mixture
from pyrovae.core.param_store import local_param_scope
from pyrovae.core.parameters import find_parameters
from pyrovae.heads import BernoulliHead, CategoricalHead, NormalHead
from pyrovae.losses import CapacityLoss, Penalized, PyroLoss, squared_jacobian
from pyrovae.nets import MLP
from pyrovae.posteriors import IAF, FlowPosterior, NonReparameterized
from pyrovae.priors import StandardNormal, VampPrior

X = (torch.rand(12, 4, generator=torch.Generator().manual_seed(0)) < 0.5).double()
Y = torch.arange(12) % 3


def vae(
    posterior: Callable[[], nn.Module] | None = None, prior: nn.Module | None = None
) -> tuple[pv.Model, pv.Guide]:
    head = NormalHead(MLP(4, [6], 4))
    model = pv.Model(z=prior or StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [6], 4)), "z"))
    return model, pv.Guide(z=pv.Node(posterior(head) if posterior else head, "x"))


def bnn(guide: Callable[[nn.Module], nn.Module] = MeanField, **prior: object) -> pv.ElboLoss:
    model = pv.Model(y=pv.Node(CategoricalHead(pv.Bayesian(MLP(4, [5], 3), **prior)), "x"))
    return pv.ElboLoss(model, guide(model), num_data=40)


def stacked() -> nn.Module:
    return pv.Stacked([bnn() for _ in range(3)], shared=True)


class Noisy(nn.Module):
    """Dropout, batch statistics and a buffer that is assigned anew."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 4)
        )
        self.register_buffer("average", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.average = 0.9 * self.average + 0.1 * x.detach().mean(0)
        return self.net(x - self.average)


def hand_written() -> tuple[Callable, Callable]:
    """Pyro functions, one with its parameters in the store."""
    net = nn.Linear(2, 4)

    def model(x: Tensor) -> None:
        pyro.module("net", net)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=net(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        loc, scale = (
            pyro.param("loc", torch.zeros(2)),
            pyro.param("scale", torch.ones(2), dist.constraints.positive),
        )
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(loc.expand(len(x), 2), scale).to_event(1))

    return model, guide


def autoguide(kind: Callable) -> pv.ElboLoss:
    model = pv.Model(y=pv.Node(CategoricalHead(pv.Bayesian(MLP(4, [5], 3))), "x"))
    return pv.ElboLoss(model, kind(model), num_data=40)


LOSSES: dict[str, Callable[[], nn.Module]] = {
    "Trace_ELBO": lambda: pv.ElboLoss(*vae()),
    "five particles": lambda: pv.ElboLoss(
        *vae(), elbo=Trace_ELBO(num_particles=5, vectorize_particles=True, max_plate_nesting=1)
    ),
    "TraceMeanField_ELBO": lambda: pv.ElboLoss(*vae(), elbo=TraceMeanField_ELBO()),
    "TraceGraph_ELBO": lambda: pv.ElboLoss(*vae(), elbo=TraceGraph_ELBO()),
    "score function": lambda: pv.ElboLoss(*vae(NonReparameterized)),
    "warm-up": lambda: pv.ElboLoss(*vae(), beta=pv.LinearWarmup(7)),
    "free bits": lambda: pv.ElboLoss(*vae(), free_bits=0.5),
    "capacity": lambda: CapacityLoss(*vae(), capacity=pv.LinearWarmup(7, stop=2.0), gamma=10.0),
    "penalty": lambda: (
        lambda net: Penalized(
            pv.ElboLoss(*vae(lambda head: NormalHead(net))),
            lambda x: squared_jacobian(net, x),
            weight=0.1,
        )
    )(MLP(4, [6], 4)),
    "vamp": lambda: pv.ElboLoss(*vae(prior=VampPrior(NormalHead(MLP(4, [6], 4)), X[:3]))),
    "iaf": lambda: pv.ElboLoss(*vae(lambda head: IAF(head, 2, 4, hidden=(4,)))),
    "spline flow": lambda: pv.ElboLoss(
        *vae(
            lambda head: FlowPosterior(
                head, zuko.flows.NSF(2, 4, transforms=1, hidden_features=(4,)).transform.inv
            )
        )
    ),
    "coupling flows": lambda: pv.ElboLoss(
        *vae(
            lambda head: FlowPosterior(
                head, zuko.flows.RealNVP(2, 4, transforms=2, hidden_features=(4,)).transform.inv
            ),
            zuko.flows.NICE(2, hidden_features=(4,)),
        )
    ),
    "hand-written": lambda: pv.ElboLoss(*hand_written()),
    "Pyro's ELBO module": lambda: Trace_ELBO()(*vae()),
    "RenyiELBO": lambda: PyroLoss(*vae(), RenyiELBO(num_particles=3)),
    "RenyiELBO, vectorised": lambda: PyroLoss(
        *vae(),
        RenyiELBO(alpha=0.5, num_particles=3, vectorize_particles=True, max_plate_nesting=1),
    ),
    "wake-sleep": lambda: PyroLoss(
        *vae(), ReweightedWakeSleep(num_particles=3, vectorize_particles=False)
    ),
    "dropout, batch norm, buffers": lambda: pv.ElboLoss(*vae(lambda head: NormalHead(Noisy()))),
    **{
        f"IWAE, {gradient}": lambda gradient=gradient: pv.IwaeLoss(
            *vae(), num_particles=4, gradient=gradient
        )
        for gradient in ("plain", "stl", "dreg")
    },
    "Renyi": lambda: pv.IwaeLoss(*vae(), num_particles=4, alpha=0.5),
    "mean-field weights": bnn,
    "scale mixture": lambda: bnn(prior=scale_mixture(0.5, 1.0, 0.01)),
    "hierarchical": lambda: bnn(prior=hierarchical()),
    "low-rank weights": lambda: bnn(lambda model: JointNormal(model, rank=2)),
    "radial": lambda: bnn(Radial),
    "dropout weights": lambda: bnn(lambda model: MCDropout(model, 0.2)),
    "learned dropout": lambda: bnn(lambda model: MCDropout(model, 0.2, learn_rate=True)),
    "point": lambda: bnn(PointEstimate),
    "stacked": stacked,
    "AutoNormal": lambda: autoguide(AutoNormal),
    "AutoLowRank": lambda: autoguide(AutoLowRankMultivariateNormal),
}


def batch_for(loss: nn.Module, name: str) -> dict[str, Tensor]:
    weights = (
        "weights" in name
        or "ropout" in name
        and "norm" not in name
        or name in ("scale mixture", "hierarchical", "radial", "point", "stacked")
        or name.startswith("Auto")
    )
    return {"x": X, "y": Y} if weights else {"x": X}


def program_of(loss: nn.Module, batch: dict[str, Tensor]) -> Callable[[dict[str, Tensor]], object]:
    """Value and gradients with respect to all that trains."""
    parameters = list(find_parameters(loss, batch).values())

    def program(batch: dict[str, Tensor]) -> object:
        with torch.enable_grad(), local_param_scope(), pyro.validation_enabled(False):
            value = loss(**batch)
            gradients = torch.autograd.grad(value, parameters, allow_unused=True)
        return value.detach(), [gradient for gradient in gradients if gradient is not None]

    return program
