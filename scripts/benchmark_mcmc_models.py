"""The posteriors of `benchmark_mcmc.py` as Pyro programs, with their data."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

Draws = dict[str, np.ndarray]
"""`(chain, draw, *shape)` by name."""


def _same(draws: Draws) -> Draws:
    return draws


@dataclasses.dataclass(frozen=True)
class Posterior:
    """A Pyro program, its arguments, and of which functions of the draws the effective number is
    that of the posterior."""

    model: Callable
    batch: dict[str, Tensor]
    read: Callable[[Draws], Draws] = _same


def eight_schools(y: Tensor, s: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * z, s), obs=y)


def logistic(x: Tensor, y: Tensor) -> None:
    w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
    b = pyro.sample("b", dist.Normal(0.0, 5.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=x @ w + b), obs=y)


def hierarchical(x: Tensor, group: Tensor, y: Tensor) -> None:
    """Intercepts and slopes of 20 groups around common ones, not centred."""
    mean = pyro.sample("mean", dist.Normal(torch.zeros(2), 5.0).to_event(1))
    spread = pyro.sample("spread", dist.HalfNormal(torch.ones(2)).to_event(1))
    noise = pyro.sample("noise", dist.HalfNormal(1.0))
    with pyro.plate("groups", 20):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    effect = (mean + spread * z)[group]
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(effect[:, 0] + effect[:, 1] * x, noise), obs=y)


def funnel() -> None:
    """Neal's (2003), of 10 dims."""
    v = pyro.sample("v", dist.Normal(0.0, 3.0))
    pyro.sample("x", dist.Normal(torch.zeros(9), (0.5 * v).exp()).to_event(1))


def bnn(x: Tensor, y: Tensor) -> None:
    """50 tanh units."""
    w1 = pyro.sample("w1", dist.Normal(torch.zeros(1, 50), 1.0).to_event(2))
    b1 = pyro.sample("b1", dist.Normal(torch.zeros(50), 1.0).to_event(1))
    w2 = pyro.sample("w2", dist.Normal(torch.zeros(50), 50**-0.5).to_event(1))
    b2 = pyro.sample("b2", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(torch.tanh(x @ w1 + b1) @ w2 + b2, 0.1), obs=y)


def _functions(draws: Draws) -> Draws:
    """The net at 9 inputs: its weights are not identified, the units can change places."""
    grid = np.linspace(-2, 2, 9)[:, None]
    hidden = np.tanh(grid @ draws["w1"] + draws["b1"][..., None, :])
    values = (hidden * draws["w2"][..., None, :]).sum(-1) + draws["b2"][..., None]
    return {"f": values}


def posteriors() -> dict[str, Posterior]:
    """By the name of the work; the data are always the same."""
    g = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    s = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    x = noise(500, 20)
    labels = (torch.rand(500, generator=g) < torch.sigmoid(x @ (0.5 * noise(20)))).float()
    group = torch.arange(300) % 20
    effect, covariate = torch.tensor([1.0, -0.5]) + 0.5 * noise(20, 2), noise(300)
    response = effect[group, 0] + effect[group, 1] * covariate + 0.7 * noise(300)
    place = 4 * torch.rand(50, 1, generator=g) - 2
    curve = torch.sin(2 * place[:, 0]) + 0.1 * noise(50)
    return {
        "schools": Posterior(eight_schools, {"y": y, "s": s}),
        "logistic": Posterior(logistic, {"x": x, "y": labels}),
        "hierarchical": Posterior(hierarchical, {"x": covariate, "group": group, "y": response}),
        "funnel": Posterior(funnel, {}),
        "bnn": Posterior(bnn, {"x": place, "y": curve}, _functions),
    }
