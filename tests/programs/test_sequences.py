"""State space models as hand-written Pyro pairs, against the Kalman filter."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.nets import MLP

A = torch.tensor([[0.9, 0.2], [-0.1, 0.7]]).double()
C = torch.tensor([[1.0, -0.5]]).double()
Q, R = 0.3 * torch.eye(2).double(), torch.tensor([[0.4]]).double()


def normal(loc: Tensor, covariance: Tensor) -> dist.MultivariateNormal:
    return dist.MultivariateNormal(loc, covariance)


def kalman(y: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """log p(y) of each sequence `(B, T, 1)`, and mean and covariance of each p(z_t | y_1..y_t)."""
    loc, covariance = torch.zeros(len(y), 2).double(), torch.eye(2).double()
    log_p, filtered = torch.zeros(len(y)).double(), []
    for t in range(y.shape[1]):
        if t:
            loc, covariance = loc @ A.T, A @ covariance @ A.T + Q
        spread = C @ covariance @ C.T + R
        log_p = log_p + normal(loc @ C.T, spread).log_prob(y[:, t])
        gain = covariance @ C.T @ torch.linalg.inv(spread)
        loc, covariance = loc + (y[:, t] - loc @ C.T) @ gain.T, covariance - gain @ C @ covariance
        filtered.append((loc, covariance))
    return log_p, filtered


def linear(y: Tensor) -> None:
    with pyro.plate("data", len(y), dim=-1):
        z = pyro.sample("z0", normal(torch.zeros(2).double(), torch.eye(2).double()))
        for t in range(y.shape[1]):
            if t:
                z = pyro.sample(f"z{t}", normal(z @ A.T, Q))
            pyro.sample(f"y{t}", normal(z @ C.T, R), obs=y[:, t])


def smoother(y: Tensor) -> None:
    """The exact posterior, drawn backwards: p(z_t | z_{t+1}, y_1..y_t)."""
    _, filtered = kalman(y)
    with pyro.plate("data", len(y), dim=-1):
        z = torch.zeros(2).double()
        for t in reversed(range(y.shape[1])):
            loc, covariance = filtered[t]
            if t < y.shape[1] - 1:
                gain = covariance @ A.T @ torch.linalg.inv(A @ covariance @ A.T + Q)
                loc = loc + (z - loc @ A.T) @ gain.T
                covariance = covariance - gain @ A @ covariance
            z = pyro.sample(f"z{t}", normal(loc, 0.5 * (covariance + covariance.T)))


def sequences(num: int, steps: int) -> Tensor:
    with pyro.poutine.trace() as trace:
        pyro.poutine.uncondition(linear)(torch.zeros(num, steps, 1).double())
    return torch.stack([trace.trace.nodes[f"y{t}"]["value"] for t in range(steps)], 1)


class DeepMarkov(nn.Module):
    """z_t ~ N(f(z_{t-1}), Q), y_t ~ N(g(z_t), R); the guide reads y backwards.

    Source: Krishnan, Shalit & Sontag 2017, arXiv:1609.09869, section 4 (the combiner).
    """

    def __init__(self, transition: nn.Module, emission: nn.Module) -> None:
        super().__init__()
        self.transition, self.emission = transition, emission
        self.reader = nn.GRU(1, 8, batch_first=True)
        self.combiner = MLP(2 + 8, [16], 4)

    def model(self, y: Tensor) -> None:
        with pyro.plate("data", len(y), dim=-1):
            z = pyro.sample("z0", normal(torch.zeros(2).double(), torch.eye(2).double()))
            for t in range(y.shape[1]):
                if t:
                    z = pyro.sample(f"z{t}", normal(self.transition(z), Q))
                pyro.sample(f"y{t}", normal(self.emission(z), R), obs=y[:, t])

    def guide(self, y: Tensor) -> None:
        future = self.reader(y.flip(1))[0].flip(1)
        with pyro.plate("data", len(y), dim=-1):
            z = torch.zeros(2).double()
            for t in range(y.shape[1]):
                h = future[:, t]
                batch = torch.broadcast_shapes(z.shape[:-1], h.shape[:-1])
                joined = torch.cat([z.expand(*batch, 2), h.expand(*batch, 8)], -1)
                loc, width = self.combiner(joined).chunk(2, -1)
                z = pyro.sample(
                    f"z{t}", dist.Normal(loc, nn.functional.softplus(width)).to_event(1)
                )


def affine(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False).double()
    layer.weight = nn.Parameter(weight.clone(), requires_grad=False)
    return layer


def test_the_smoother_gives_the_kalman_filters_evidence() -> None:
    y = sequences(6, 9)
    exact, _ = kalman(y)
    weights = pv.log_weights(linear, smoother, {"y": y}, 3)
    torch.testing.assert_close(weights, exact.expand_as(weights), atol=1e-8, rtol=0)
    evidence = pv.log_evidence(linear, smoother, {"y": y}, num_particles=50)
    torch.testing.assert_close(evidence.log_px, exact, atol=1e-8, rtol=0)


def trained(deep: DeepMarkov, y: Tensor, epochs: int) -> pv.History:
    return pv.fit(pv.ElboLoss(deep.model, deep.guide), [{"y": y}], epochs=epochs, lr=0.02)


def test_a_deep_markov_model_with_linear_nets_is_the_linear_model() -> None:
    """Its guide is trained, and importance sampling then agrees with the Kalman filter."""
    torch.manual_seed(0)
    y = sequences(40, 4)
    deep = DeepMarkov(affine(A), affine(C)).double()
    trained(deep, y, 150)
    evidence = pv.log_evidence(deep.model, deep.guide, {"y": y}, num_particles=2000)
    exact, _ = kalman(y)
    assert abs(evidence.mean - exact.mean().item()) < 5 * evidence.monte_carlo_se + 1e-3
    assert evidence.monte_carlo_se < 0.02


def test_a_deep_markov_model_learns() -> None:
    torch.manual_seed(0)
    y = sequences(200, 4)
    deep = DeepMarkov(MLP(2, [8], 2), MLP(2, [8], 1)).double()
    history = trained(deep, y, 120)
    exact, _ = kalman(y)
    assert history[0]["elbo"] < exact.mean() - 1.0
    assert history[-1]["elbo"] > exact.mean() - 0.5
