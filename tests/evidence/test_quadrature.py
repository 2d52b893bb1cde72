"""Integrals over a grid: right to rounding where the density is smooth, and honest about their
error elsewhere."""

import oracles
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyrovae as pv
from pyrovae.evidence import annealed_importance, quadrature
from pyrovae.heads import BernoulliHead, MixtureNormalHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import MixtureOfNormals, StandardNormal, VampPrior


@pytest.mark.parametrize("latent", [1, 2])
@pytest.mark.parametrize("scale", [1.0, 50.0], ids=["usual", "far-out"])
def test_linear_gaussian_evidence_to_rounding(latent: int, scale: float) -> None:
    oracle = oracles.linear_gaussian(num_data=40, latent=latent)
    batch = {
        "x": scale * oracle.batch["x"]
    }  # far out, the posterior lies where the prior never draws
    exact = pv.log_weights(oracle.model, oracle.guide, batch, 1)[0]
    result = quadrature(oracle.model, batch)
    torch.testing.assert_close(result.log_px, exact, atol=1e-8, rtol=0)
    assert result.error.max() < 1e-8 and result.num_points.max() <= 65**latent
    assert result.log_px.dtype == torch.float64


def test_two_sites_of_one_dimension_each() -> None:
    def model(x: torch.Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            a = pyro.sample("a", dist.Normal(1.0, 2.0))
            b = pyro.sample("b", dist.Normal(a, 0.3))
            pyro.sample("x", dist.Normal(a - 3 * b, 0.1), obs=x)

    x = torch.linspace(-9, 9, 40)
    result = quadrature(model, [{"x": part} for part in x.split(7)])
    exact = dist.Normal(-2.0, (4 * 4.0 + 9 * 0.09 + 0.01) ** 0.5).log_prob(x)
    torch.testing.assert_close(result.log_px, exact, atol=1e-8, rtol=0)


def test_mixture_priors_are_integrated_and_annealed_as_the_real_latents_they_are() -> None:
    oracle = oracles.linear_gaussian(num_data=10)
    likelihood, prior = oracle.model.nodes["x"].conditional, MixtureOfNormals(2, 3)
    weight, bias = likelihood.weights[0].detach(), likelihood.bias.detach()
    each = dist.MultivariateNormal(
        prior.loc.detach() @ weight.T + bias, weight @ weight.T + 0.25 * torch.eye(4)
    )
    exact = each.log_prob(oracle.batch["x"].unsqueeze(1)).logsumexp(1) - torch.tensor(3.0).log()
    model = pv.Model(z=prior, x=pv.Node(likelihood, "z"))
    torch.testing.assert_close(quadrature(model, oracle.batch).log_px, exact, atol=1e-8, rtol=0)
    annealed = annealed_importance(model, oracle.batch, num_steps=50, num_leapfrog=3)
    assert abs(annealed.mean - exact.mean()) < 5 * annealed.monte_carlo_se
    vamp = VampPrior(NormalHead(MLP(4, [8], 4)), torch.rand(3, 4))
    guide = pv.Guide(z=pv.Node(MixtureNormalHead(MLP(4, [8], 10), 2, 2), "x"))
    model = pv.Model(z=vamp, x=pv.Node(likelihood, "z"))
    annealed = annealed_importance(
        model, oracle.batch, guide=guide, num_steps=5, num_leapfrog=1, num_chains=2
    )
    assert annealed.log_px.isfinite().all()


def test_several_modes() -> None:
    def model(x: torch.Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z.square(), 0.05), obs=x)

    x = torch.tensor([0.0, 0.5, 4.0, 9.0])
    axis = torch.linspace(-8, 8, 2_000_001)
    exact = (
        torch.stack(
            [
                (
                    dist.Normal(0.0, 1.0).log_prob(axis)
                    + dist.Normal(axis.square(), 0.05).log_prob(row)
                ).logsumexp(0)
                for row in x
            ]
        )
        + axis.diff()[0].log()
    )
    torch.testing.assert_close(quadrature(model, {"x": x}).log_px, exact, atol=1e-8, rtol=0)


def test_error_covers_what_kinks_cost() -> None:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(NormalHead(MLP(2, [8], 2 * 4, nn.ReLU)), "z"))
    x = torch.randn(8, 4)
    coarse, fine = (
        quadrature(model, {"x": x}, tolerance=0.0, max_points=n**2) for n in (129, 513)
    )
    assert (coarse.num_points == 129**2).all() and (fine.num_points == 513**2).all()
    assert 1e-9 < coarse.error.max() < 1e-2 and fine.error.max() < coarse.error.max()
    assert ((coarse.log_px - fine.log_px).abs() < 2 * coarse.error + 1e-9).all()


def test_says_when_no_box_holds_the_mass() -> None:
    def model(x: torch.Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Cauchy(0.0, 1.0))
            pyro.sample("x", dist.Bernoulli(logits=z.sign()), obs=x)

    result = quadrature(model, {"x": torch.ones(3)}, max_points=300)
    assert (result.error > 0.1).all() and "largest error" in str(result)


def test_result_does_not_depend_on_batches_and_leaves_no_trace() -> None:
    oracle = oracles.linear_gaussian(num_data=70)
    oracle.model.train()
    results = [
        quadrature(oracle.model, [{"x": part} for part in oracle.batch["x"].split(size)])
        for size in (70, 9)
    ]
    torch.testing.assert_close(results[0].log_px, results[1].log_px, atol=1e-9, rtol=0)
    assert oracle.model.training and all(p.grad is None for p in oracle.model.parameters())
    assert abs(results[0].mean - oracle.log_px.mean()) < 1e-9
    assert abs(results[0].mean_se - oracle.log_px.std() / 70**0.5) < 1e-9


def test_refuses_what_no_grid_can_cover() -> None:
    model = pv.Model(z=StandardNormal(3), x=pv.Node(BernoulliHead(MLP(3, [8], 4)), "z"))
    with pytest.raises(
        pv.PairError,
        match="3 latent dimensions a datum, and a grid is for 1 or 2. Use annealed_importance",
    ):
        quadrature(model, {"x": torch.ones(2, 4)})
    with pytest.raises(pv.PairError, match="no latent sites given these data"):
        quadrature(pv.Model(x=StandardNormal(2)), {"x": torch.ones(2, 2)})
    with pytest.raises(
        pv.PairError, match="bounded .* but quadrature integrates over real-valued"
    ):
        oracle = oracles.beta_bernoulli()
        quadrature(oracle.model, oracle.batch)
