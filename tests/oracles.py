"""Models whose evidence and posterior are known exactly: with the posterior as guide every
log-weight is log p(x)."""

import math
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
import torch.nn as nn
from torch import Tensor

import pyrovae as pv
from pyrovae.bnn.priors import normal
from pyrovae.heads import FixedScaleNormalHead
from pyrovae.priors import StandardNormal


@dataclass
class Oracle:
    """A pair, its data and the exact log p(x), `(N,)`."""

    model: object
    guide: object
    batch: dict[str, Tensor]
    log_px: Tensor


class LinearNormal(nn.Module):
    """N(sum_i W_i v_i + b, S): a likelihood, a conditional prior or a posterior of a
    linear-Gaussian model."""

    def __init__(self, weights: list[Tensor], bias: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)
        self.bias = nn.Parameter(bias)
        self.scale_tril = nn.Parameter(torch.linalg.cholesky(covariance))

    def forward(self, *parents: Tensor) -> dist.MultivariateNormal:
        loc = self.bias + sum(parent @ weight.T for parent, weight in zip(parents, self.weights))
        return dist.MultivariateNormal(loc, scale_tril=self.scale_tril)


def linear_gaussian(
    num_data: int = 5,
    latent: int = 2,
    observed: int = 4,
    *,
    shift: float = 0.0,
    spread: float = 1.0,
) -> Oracle:
    """x = W z + b + noise. `shift` and `spread` (times the posterior's standard deviation) make
    the guide wrong."""
    weight, bias, noise = torch.randn(observed, latent), torch.randn(observed), 0.5
    marginal = dist.MultivariateNormal(bias, weight @ weight.T + noise**2 * torch.eye(observed))
    precision = torch.eye(latent) + weight.T @ weight / noise**2
    gain = torch.linalg.solve(precision, weight.T) / noise**2
    posterior = LinearNormal(
        [gain],
        -gain @ bias + shift * torch.linalg.inv(precision).diagonal().sqrt(),
        spread**2 * torch.linalg.inv(precision),
    )
    x = marginal.sample((num_data,))
    likelihood = LinearNormal([weight], bias, noise**2 * torch.eye(observed))
    return Oracle(
        pv.Model(z=StandardNormal(latent), x=pv.Node(likelihood, "z")),
        pv.Guide(z=pv.Node(posterior, "x")),
        {"x": x},
        marginal.log_prob(x),
    )


def two_level() -> Oracle:
    """z2 ~ N(0, 1), z1 = A z2 + noise, x = B z1 + noise, with q(z2 | x) q(z1 | x, z2) exact."""
    a, b = torch.randn(3, 2), torch.randn(4, 3)
    eye = [torch.eye(n) for n in range(5)]
    s1, s0 = 0.7**2 * eye[3], 0.4**2 * eye[4]
    cov_x_given_z2 = b @ s1 @ b.T + s0
    marginal = dist.MultivariateNormal(torch.zeros(4), b @ a @ a.T @ b.T + cov_x_given_z2)
    ba = b @ a
    cov2 = torch.linalg.inv(eye[2] + ba.T @ torch.linalg.solve(cov_x_given_z2, ba))
    gain2 = cov2 @ torch.linalg.solve(cov_x_given_z2, ba).T
    cov1 = torch.linalg.inv(torch.linalg.inv(s1) + b.T @ torch.linalg.solve(s0, b))
    from_x, from_z2 = cov1 @ torch.linalg.solve(s0, b).T, cov1 @ torch.linalg.solve(s1, a)
    x = marginal.sample((6,))
    zeros = [torch.zeros(n) for n in range(5)]
    model = pv.Model(
        z2=StandardNormal(2),
        z1=pv.Node(LinearNormal([a], zeros[3], s1), "z2"),
        x=pv.Node(LinearNormal([b], zeros[4], s0), "z1"),
    )
    guide = pv.Guide(
        z2=pv.Node(LinearNormal([gain2], zeros[2], cov2), "x"),
        z1=pv.Node(LinearNormal([from_x, from_z2], zeros[3], cov1), "x", "z2"),
    )
    return Oracle(model, guide, {"x": x}, marginal.log_prob(x))


def beta_bernoulli() -> Oracle:
    """Hand-written: p ~ Beta(2, 3), ten flips each; the posterior is Beta(2 + heads, 3 + tails)."""
    x = dist.Bernoulli(torch.rand(5, 1)).expand([5, 10]).sample()

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            p = pyro.sample("p", dist.Beta(2.0, 3.0))
            pyro.sample(
                "x", dist.Bernoulli(p.unsqueeze(-1)).expand([*p.shape, 10]).to_event(1), obs=x
            )

    def guide(x: Tensor) -> None:
        heads = x.sum(-1)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("p", dist.Beta(2.0 + heads, 13.0 - heads))

    def log_beta(a: Tensor, b: Tensor) -> Tensor:
        return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)

    heads = x.sum(-1)
    exact = log_beta(2.0 + heads, 13.0 - heads) - log_beta(torch.tensor(2.0), torch.tensor(3.0))
    return Oracle(model, guide, {"x": x}, exact)


def uniform_gamma() -> Oracle:
    """Hand-written: z ~ Gamma(2, 1), x ~ Uniform(0, z), so that x ~ Exponential(1); the guide also
    draws z below x."""
    x = dist.Exponential(1.0).sample((8,))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Gamma(2.0, 1.0))
            pyro.sample("x", dist.Uniform(0.0, z), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Gamma(3.0 + 0.0 * x, 1.0))

    return Oracle(model, guide, {"x": x}, -x)


def linear_regression(num_data: int = 12) -> tuple[object, object, dict[str, Tensor], Tensor]:
    """y = w x + noise with one global w, hand-written; its guide is the exact posterior; the joint
    log p(y | x)."""
    x = torch.randn(num_data, 3)
    y = dist.Normal(x @ torch.tensor([1.0, -2.0, 0.5]), 0.3).sample()
    precision = torch.eye(3) + x.T @ x / 0.09
    mean = torch.linalg.solve(precision, x.T @ y) / 0.09

    def model(x: Tensor, y: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("y", dist.Normal((x * w).sum(-1), 0.3), obs=y)

    def guide(x: Tensor, y: Tensor) -> None:
        pyro.sample("w", dist.MultivariateNormal(mean, precision_matrix=precision))

    exact = dist.MultivariateNormal(
        torch.zeros(num_data), x @ x.T + 0.09 * torch.eye(num_data)
    ).log_prob(y)
    return model, guide, {"x": x, "y": y}, exact


def log_mean_exp(log_weights: Tensor) -> Tensor:
    return log_weights.logsumexp(0) - math.log(len(log_weights))


@dataclass
class Regression:
    """y = w x + b + noise with a normal prior on w and b, as a `Bayesian` net: everything is
    known."""

    net: pv.Bayesian
    model: pv.Model
    batch: dict[str, Tensor]
    noise: float
    mean: Tensor
    """Of the exact posterior, `(P,)`, the weights before the bias."""
    covariance: Tensor
    log_evidence: Tensor
    prior_scale: float

    @property
    def size(self) -> int:
        return len(self.batch["y"])

    @property
    def sites(self) -> list[str]:
        return ["w.weight", "w.bias"]

    def values(self, flat: Tensor) -> dict[str, Tensor]:
        """Weights `(*batch, P)` by site."""
        return {"w.weight": flat[..., None, :-1], "w.bias": flat[..., -1:]}

    def predictive(self, x: Tensor) -> dist.Normal:
        """The exact p(y | x, D), (B,)."""
        rows = with_one(x)
        return dist.Normal(
            rows @ self.mean, ((rows @ self.covariance * rows).sum(-1) + self.noise**2).sqrt()
        )

    def elbo(self, loc: Tensor, scale: Tensor) -> Tensor:
        """Of the mean-field guide N(loc, scale^2), nats for all data."""
        rows, y = with_one(self.batch["x"]), self.batch["y"].squeeze(-1)
        spread = (rows**2 @ scale**2) / (2 * self.noise**2)
        prior = dist.Normal(torch.zeros_like(loc), self.prior_scale)
        kl = torch.distributions.kl_divergence(dist.Normal(loc, scale), prior).sum()
        return dist.Normal(rows @ loc, self.noise).log_prob(y).sum() - spread.sum() - kl


def with_one(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)


def bayesian_regression(
    num_data: int = 12, inputs: int = 2, *, noise: float = 0.5, prior_scale: float = 1.5
) -> Regression:
    x = torch.randn(num_data, inputs)
    rows = with_one(x)
    marginal = dist.MultivariateNormal(
        torch.zeros(num_data), prior_scale**2 * rows @ rows.T + noise**2 * torch.eye(num_data)
    )
    y = marginal.sample()
    precision = torch.eye(inputs + 1) / prior_scale**2 + rows.T @ rows / noise**2
    net = pv.Bayesian(nn.Linear(inputs, 1), normal(prior_scale))
    return Regression(
        net,
        pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=noise), "x")),
        {"x": x, "y": y.unsqueeze(-1)},
        noise,
        torch.linalg.solve(precision, rows.T @ y) / noise**2,
        torch.linalg.inv(precision),
        marginal.log_prob(y),
        prior_scale,
    )


def assert_mean(draws: Tensor, exact: Tensor | float) -> None:
    """The mean of independent draws `(S, ...)` lies within 5 standard errors of what it should be."""
    error = draws.std(0) / len(draws) ** 0.5
    score = (draws.mean(0) - exact).abs() - 5 * error
    assert (score <= 1e-10).all(), f"{draws.mean(0)} +- {error}, expected {exact}"


def assert_moments(draws: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """The same for the mean and covariance of vectors `(S, P)`."""
    assert_mean(draws, mean)
    centred = draws - mean
    assert_mean(centred.unsqueeze(-1) * centred.unsqueeze(-2), covariance)
