"""Small fits for the tests of `diagnose`: parts of which healthy and faulty ones are made."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import MeanField
from pyrovae.heads import (
    BernoulliHead,
    CategoricalHead,
    FixedScaleNormalHead,
    LearnedScaleNormalHead,
    NormalHead,
    PoissonHead,
)
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

Batch = dict[str, Tensor]


@dataclass
class Fit:
    """A pair after training, and what `diagnose` is told of it."""

    model: Callable
    guide: Callable
    data: Any
    known: dict[str, Any] = field(default_factory=dict)

    def diagnose(self) -> pv.Diagnosis:
        return pv.diagnose(self.model, self.guide, self.data, **self.known)


# data


def sine(n: int = 100, noise: float = 0.1) -> Batch:
    x = 4 * torch.rand(n, 1) - 2
    return {"x": x, "y": torch.sin(2 * x) + noise * torch.randn(n, 1)}


def cubic(n: int = 120, noise: float = 0.2) -> Batch:
    x = 3 * torch.rand(n, 1) - 1.5
    return {"x": x, "y": x**3 - x + noise * torch.randn(n, 1)}


def surface(n: int = 200, noise: float = 0.2) -> Batch:
    x = torch.randn(n, 2)
    return {"x": x, "y": (x[:, :1] * x[:, 1:]).tanh() + x[:, :1] + noise * torch.randn(n, 1)}


def line(n: int = 60, dims: int = 3, noise: float = 0.5) -> Batch:
    x = torch.randn(n, dims)
    return {
        "x": x,
        "y": x @ torch.linspace(-1, 1, dims)[:, None] + 0.3 + noise * torch.randn(n, 1),
    }


def moons(n: int = 200, noise: float = 0.2) -> Batch:
    angle, y = math.pi * torch.rand(n), (torch.rand(n) < 0.5).long()
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    x = torch.where(y[:, None] == 1, upper, torch.tensor([1.0, 0.4]) - upper)
    return {"x": 1.5 * (x + noise * torch.randn(n, 2)), "y": y}


def blobs(n: int = 150, classes: int = 3, noise: float = 0.6) -> Batch:
    y = torch.randint(classes, (n,))
    angle = 2 * math.pi * y / classes
    return {"x": torch.stack([angle.cos(), angle.sin()], 1) + noise * torch.randn(n, 2), "y": y}


def counts(n: int = 150) -> Batch:
    x = 2 * torch.rand(n, 1) - 1
    return {"x": x, "y": torch.poisson((1 + 1.5 * x).exp())}


def factors(n: int = 300, dims: int = 8, latents: int = 2, noise: float = 0.3) -> Batch:
    loadings = torch.linalg.qr(torch.randn(dims, latents))[0].T * dims**0.5 / 1.5
    return {"x": torch.randn(n, latents) @ loadings + noise * torch.randn(n, dims)}


def bars(n: int = 300, size: int = 4, flip: float = 0.03) -> Batch:
    rows, columns = (torch.rand(2, n, size) < 0.35).unbind()
    x = rows[:, :, None] | columns[:, None, :]
    x = x ^ (torch.rand(x.shape) < flip)
    return {"x": x.flatten(1).to(torch.get_default_dtype())}


def count_factors(n: int = 300, dims: int = 8) -> Batch:
    z = torch.randn(n, 2)
    return {"x": torch.poisson((0.7 + z @ (0.8 * torch.randn(2, dims))).clamp(max=3.5).exp())}


# training


def train(
    loss: nn.Module,
    data: Batch,
    steps: int = 300,
    lr: float = 2e-2,
    *,
    parts: int = 1,
    cosine: bool = True,
    optimizer: Any = None,
    context: Any = nullcontext,
) -> pv.History:
    """`steps` steps of Adam, in `parts` minibatches an epoch."""
    size = len(data["x"])
    batches = (
        [{k: v[i::parts] for k, v in data.items()} for i in range(parts)] if parts > 1 else [data]
    )
    epochs = max(1, steps // parts)
    assert size >= parts

    def schedule(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    return pv.fit(
        loss,
        batches,
        epochs=epochs,
        lr=lr,
        compile="off",
        schedule=schedule if cosine else None,
        optimizer=optimizer,
        context=context,
    )


def net_of(data: Batch, hidden: Sequence[int] = (20,), out: int = 1, act: Any = nn.Tanh) -> MLP:
    return MLP(data["x"].shape[1], list(hidden), out, act)


def regression(
    data: Batch,
    *,
    hidden: Sequence[int] = (20,),
    head: Callable[[nn.Module], nn.Module] = lambda net: LearnedScaleNormalHead(
        net, initial_scale=0.5
    ),
    guide: Callable[[nn.Module], nn.Module] = lambda net: MeanField(net, init_scale=0.05),
    prior: Any = None,
    num_data: int | None = None,
    out: int = 1,
    act: Any = nn.Tanh,
    use: bool = False,
    loss_options: dict | None = None,
    **options: Any,
) -> Fit:
    """A Bayesian net, trained."""
    net = net_of(data, hidden, out, act)
    bayesian = pv.Bayesian(net) if prior is None else pv.Bayesian(net, prior)
    model = pv.Model(y=pv.Node(head(bayesian), "x"))
    posterior = guide(bayesian)
    loss = pv.ElboLoss(
        model, posterior, num_data=num_data or len(data["x"]), **(loss_options or {})
    )
    history = train(loss, data, **options)
    known = {"history": history} | ({"loss": loss} if use else {})
    return Fit(model, posterior, data, known)


def classes(data: Batch, count: int, **options: Any) -> Fit:
    return regression(data, head=CategoricalHead, out=count, **options)


def poisson(data: Batch, **options: Any) -> Fit:
    return regression(data, head=PoissonHead, **options)


def vae(
    data: Batch,
    latents: int = 2,
    *,
    kind: str = "normal",
    hidden: int = 24,
    scale: float | None = None,
    decoder: nn.Module | None = None,
    encoder: nn.Module | None = None,
    prior: nn.Module | None = None,
    head: Callable[[nn.Module], nn.Module] | None = None,
    loss: Callable[..., nn.Module] = pv.ElboLoss,
    loss_options: dict | None = None,
    use: bool = False,
    **options: Any,
) -> Fit:
    """A variational autoencoder, trained."""
    dims = data["x"].shape[1]
    heads: dict[str, Callable[[nn.Module], nn.Module]] = {
        "normal": lambda net: (
            LearnedScaleNormalHead(net, initial_scale=0.5)
            if scale is None
            else FixedScaleNormalHead(net, scale=scale)
        ),
        "bernoulli": BernoulliHead,
        "poisson": PoissonHead,
    }
    decoder = decoder or MLP(latents, [hidden], dims, nn.Tanh)
    encoder = encoder or NormalHead(MLP(dims, [hidden], 2 * latents, nn.Tanh))
    model = pv.Model(
        z=prior or StandardNormal(latents), x=pv.Node((head or heads[kind])(decoder), "z")
    )
    guide = pv.Guide(z=pv.Node(encoder, "x"))
    objective = loss(model, guide, **(loss_options or {}))
    history = train(objective, data, **options)
    return Fit(model, guide, data, {"history": history} | ({"loss": objective} if use else {}))
