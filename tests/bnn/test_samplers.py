"""Chains against the distributions they must keep, normals at the mode against exact posteriors,
draws on disk."""

import math
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from oracles import Regression, assert_mean, assert_moments, bayesian_regression
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import Empirical, JointNormal, MeanField, PointEstimate
from pyrovae.bnn.posthoc import laplace, swag
from pyrovae.bnn.samplers import SGHMC, SGLD, Collect, cyclical
from pyrovae.bnn.samplers.hmc import hmc
from pyrovae.bnn.samplers.random_walk import random_walk
from pyrovae.bnn.samplers.stacked_chains import Chains
from pyrovae.heads import CategoricalHead, FixedScaleNormalHead, SharedVarianceHead
from pyrovae.nets import MLP
from pyrovae.priors import InverseGammaPrior
from pyrovae.training.hooks import Checkpoint


def chains(exact: Regression, start: Tensor) -> pv.Stacked:
    """One for each row of `start`, on the same data."""
    loss = pv.ElboLoss(exact.model, PointEstimate(exact.net), num_data=exact.size)
    stacked = pv.Stacked([loss] * len(start), shared=True)
    place(stacked, [start[:, None, :-1], start[:, -1:]])
    return stacked


def place(stacked: pv.Stacked, values: list[Tensor]) -> None:
    for index, value in enumerate(values):
        stacked.stacked[stacked.names.index(f"guide.loc.{index}")].data.copy_(value)


def states(stacked: pv.Stacked) -> Tensor:
    values = stacked.values(lambda loss: loss.guide.values())
    return torch.cat([value.detach().flatten(1) for value in values.values()], dim=1)


def stationary(step: Tensor, noise: Tensor) -> Tensor:
    """S = step S step^T + noise."""
    size = len(step)
    return torch.linalg.solve(
        torch.eye(size**2) - torch.kron(step, step), noise.flatten()
    ).reshape(size, size)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_sgld_has_its_stationary_distribution(temperature: float) -> None:
    exact = bayesian_regression()
    precision = torch.linalg.inv(exact.covariance)
    rate = 0.3 * exact.size / torch.linalg.eigvalsh(precision)[-1]
    stacked = chains(exact, exact.mean.expand(1000, 3))
    pv.fit(
        stacked,
        [exact.batch] * 80,
        epochs=1,
        optimizer=lambda ps: SGLD(
            ps, lr=float(rate), num_data=exact.size, temperature=temperature
        ),
    )
    eta, eye = rate / exact.size, torch.eye(3)
    expected = stationary(eye - eta * precision, 2 * eta * temperature * eye)
    assert_moments(states(stacked), exact.mean, expected)
    assert torch.linalg.matrix_norm(
        expected - temperature * exact.covariance
    ) < 0.2 * torch.linalg.matrix_norm(expected)  # a large step for a short test


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_sghmc_has_its_stationary_distribution(temperature: float) -> None:
    exact = bayesian_regression()
    precision = torch.linalg.inv(exact.covariance)
    friction, rate = 0.3, 0.1 * exact.size / torch.linalg.eigvalsh(precision)[-1]
    stacked = chains(exact, exact.mean.expand(1000, 3))
    pv.fit(
        stacked,
        [exact.batch] * 100,
        epochs=1,
        optimizer=lambda ps: SGHMC(
            ps, lr=float(rate), num_data=exact.size, friction=friction, temperature=temperature
        ),
    )
    eta, eye, zero = rate / exact.size, torch.eye(3), torch.zeros(3, 3)
    velocity = torch.cat([-eta * precision, (1 - friction) * eye], 1)
    step = torch.cat([velocity + torch.cat([eye, zero], 1), velocity])
    noise = 2 * friction * eta * temperature * eye
    expected = stationary(step, torch.cat([torch.cat([noise, noise], 1)] * 2))[:3, :3]
    assert_moments(states(stacked), exact.mean, expected)
    assert torch.linalg.matrix_norm(
        expected - temperature * exact.covariance
    ) < 0.25 * torch.linalg.matrix_norm(expected)


@pytest.mark.parametrize("step_size", [0.02, 0.12])
def test_hmc_leaves_the_posterior_as_it_is(step_size: float) -> None:
    exact = bayesian_regression()
    start = dist.MultivariateNormal(exact.mean, exact.covariance).sample((4000,))
    stacked = chains(exact, start)
    result = hmc(
        stacked,
        exact.batch,
        num_data=exact.size,
        num_samples=1,
        warmup=0,
        num_steps=8,
        step_size=step_size,
    )
    end = states(stacked)
    assert_moments(end, exact.mean, exact.covariance)
    moved = (end != start).any(1)
    assert abs(moved.double().mean() - result.accept.mean()) < 5 * (0.25 / 4000) ** 0.5
    assert (
        (0.6 < moved.double().mean() < 0.97) if step_size > 0.1 else moved.double().mean() > 0.99
    )
    assert torch.equal(torch.cat([value[0].flatten(1) for value in result.draws.values()], 1), end)
    correlation = ((start - exact.mean) * (end - exact.mean)).mean(0) / exact.covariance.diagonal()
    assert correlation.max() < 0.95
    assert_mean(
        result.energy[0], -exact.log_evidence + 1.5 + exact_entropy(exact)
    )  # kinetic energy is 3 / 2


def exact_entropy(exact: Regression) -> Tensor:
    """E[-log p(y, w)] = -log p(y) + H[w | y]."""
    return dist.MultivariateNormal(exact.mean, exact.covariance).entropy()


def test_hmc_finds_the_posterior_and_its_step() -> None:
    exact = bayesian_regression()
    stacked = chains(exact, exact.mean + torch.randn(200, 3))
    result = hmc(
        stacked,
        exact.batch,
        num_data=exact.size,
        num_samples=5,
        warmup=60,
        num_steps=8,
        step_size=0.01,
        thin=2,
    )
    assert result.draws["w.weight"].shape == (5, 200, 1, 2) and result.accept.shape == (5, 200)
    assert (
        not result.divergent.any() and 0.7 < result.accept.mean() < 0.95
    )  # averaged steps are cautious
    assert result.step_size.shape == (200,) and (result.step_size > 0.01).all()
    flat = torch.cat([value.flatten(2) for value in result.draws.values()], 2)
    assert_moments(flat[-1], exact.mean, exact.covariance)
    assert set(result.sample_stats()) == {"acceptance_rate", "energy", "diverging"}


@pytest.mark.parametrize("step_size", [0.02, 0.2])
def test_a_random_walk_leaves_the_posterior_as_it_is(step_size: float) -> None:
    exact = bayesian_regression()
    start = dist.MultivariateNormal(exact.mean, exact.covariance).sample((4000,))
    stacked = chains(exact, start)
    found = random_walk(
        stacked,
        exact.batch,
        num_data=exact.size,
        num_samples=1,
        warmup=0,
        thin=10,
        step_size=step_size,
    )
    end = states(stacked)
    assert_moments(end, exact.mean, exact.covariance)
    assert (end != start).any(1).double().mean() > 0.5 and not found.divergent.any()
    # the energy is U, here before the last step, which leaves its mean as it is
    assert_mean(found.energy[0], -exact.log_evidence + exact_entropy(exact))


def test_a_random_walk_finds_the_posterior_and_its_step() -> None:
    exact = bayesian_regression()
    stacked = chains(exact, exact.mean + torch.randn(300, 3))
    found = random_walk(
        stacked, exact.batch, num_data=exact.size, num_samples=5, warmup=400, thin=20
    )
    assert 0.15 < found.accept.mean() < 0.35
    flat = torch.cat([value.flatten(2) for value in found.draws.values()], 2)
    assert_moments(flat[-1], exact.mean, exact.covariance)
    with pytest.raises(ValueError, match="thin=0"):
        random_walk(stacked, exact.batch, num_data=exact.size, num_samples=5, warmup=4, thin=0)


def noise_model() -> tuple[pv.Model, dict[str, Tensor], dist.InverseGamma]:
    """A variance alone is unknown: its posterior is an inverse gamma."""

    class Zero(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros_like(x)

    y = 0.7 * torch.randn(9, 1)
    model = pv.Model(
        v=pv.Global(InverseGammaPrior(2.0, 1.0)), y=pv.Node(SharedVarianceHead(Zero()), "x", "v")
    )
    return (
        model,
        {"x": torch.zeros(9, 1), "y": y},
        dist.InverseGamma(torch.tensor(6.5), 1.0 + 0.5 * (y**2).sum()),
    )


def test_hmc_on_the_logarithm_of_a_variance() -> None:
    model, batch, posterior = noise_model()
    loss = pv.ElboLoss(model, PointEstimate(model, jacobian=True), num_data=9)
    stacked = pv.Stacked([loss] * 4000, shared=True)
    start = posterior.sample((4000,)).log()
    place(stacked, [start])
    result = hmc(stacked, batch, num_data=9, num_samples=1, warmup=0, num_steps=6, step_size=0.3)
    logs = result.draws["v"][0].log()
    reference = posterior.sample((100_000,)).log()
    for power in (1, 2):
        error = ((logs**power).var() / 4000 + (reference**power).var() / 100_000).sqrt()
        assert ((logs**power).mean() - (reference**power).mean()).abs() < 5 * error
    assert (start != logs).double().mean() > 0.8
    wrong = pv.ElboLoss(model, PointEstimate(model), num_data=9)
    with pytest.raises(ValueError, match=r"jacobian=True"):
        hmc(pv.Stacked([wrong] * 2, shared=True), batch, num_data=9, num_samples=1, warmup=0)


def test_what_hmc_refuses() -> None:
    exact = bayesian_regression()
    stacked = chains(exact, exact.mean.expand(2, 3))
    half = {name: value[:6] for name, value in exact.batch.items()}
    for batch, settings in (
        (exact.batch, {"num_data": 24}),
        (half, {"num_data": 12}),
        (half, {"num_data": 6}),
    ):
        with pytest.raises(ValueError, match="expected the same number thrice"):
            hmc(stacked, batch, num_samples=1, warmup=0, **settings)
    with pytest.raises(ValueError, match="num_samples=0"):
        hmc(stacked, exact.batch, num_data=12, num_samples=0, warmup=0)


def test_a_path_that_explodes_is_rejected_and_reported() -> None:
    exact = bayesian_regression()
    stacked = chains(exact, exact.mean.expand(3, 3))
    result = hmc(
        stacked, exact.batch, num_data=12, num_samples=2, warmup=0, num_steps=200, step_size=1e3
    )
    assert result.divergent.all() and (result.accept == 0).all()
    assert torch.equal(states(stacked), exact.mean.expand(3, 3))


def test_settings_of_chains() -> None:
    w = nn.Parameter(torch.zeros(2))
    for make in (lambda **s: SGLD([w], **s), lambda **s: SGHMC([w], **s)):
        for lr, num_data, temperature in ((0.0, 5, 1.0), (0.1, 0, 1.0), (0.1, 5, -1.0)):
            with pytest.raises(ValueError, match="expected a positive rate"):
                make(lr=lr, num_data=num_data, temperature=temperature)
    with pytest.raises(ValueError, match="friction=0"):
        SGHMC([w], lr=0.1, num_data=5, friction=0.0)
    with pytest.raises(ValueError, match="length=0"):
        cyclical(0)
    optimizer = SGLD([w], lr=2.0, num_data=5)
    schedule, rates = cyclical(4, lowest=0.2)(optimizer), []
    for _ in range(9):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    cosine = [max(0.4, math.cos(math.pi * i / 4) + 1) for i in range(4)]
    assert rates == pytest.approx([*cosine, *cosine, 2.0])
    cold = SGLD([w], lr=0.5, num_data=5, temperature=0.0)
    w.grad = torch.ones(2)
    cold.step()
    assert torch.equal(w.detach(), torch.full((2,), -0.5))


def test_collect_goes_on_where_a_run_is_resumed(tmp_path: Path) -> None:
    def run(epochs: int, folder: str, **settings: object) -> Collect:
        pyro.set_rng_seed(4)
        exact = bayesian_regression()
        guide = PointEstimate(exact.net)
        collect = Collect(
            lambda: {
                name: value.mT if value.dim() > 1 else value
                for name, value in guide.values().items()
            },
            start=2,
            every=2,
            folder=tmp_path / folder,
        )
        pv.fit(
            pv.ElboLoss(exact.model, guide, num_data=12),
            exact.batch,
            epochs=epochs,
            optimizer=lambda ps: SGLD(ps, lr=1e-3, num_data=12),
            hooks=[collect, Checkpoint(tmp_path / f"{folder}.run")],
            **settings,
        )
        return collect

    whole = run(8, "whole").draws()
    assert (
        whole["w.weight"].shape == (4, 2, 1)
        and len({float(value) for value in whole["w.bias"]}) == 4
    )
    run(4, "broken")
    (tmp_path / "broken.run").rename(tmp_path / "kept.run")
    run(8, "broken", resume=tmp_path / "kept.run")  # runs on, and is then begun again from epoch 4
    shorter = run(6, "broken", resume=tmp_path / "kept.run")
    assert all(torch.equal(value, whole[name][:3]) for name, value in shorter.draws().items())
    read = Collect(dict, folder=tmp_path / "broken")
    assert (
        list(read.draws()) == list(whole) == ["w.weight", "w.bias"]
    )  # the net's order, on which swag relies
    assert all(torch.equal(value, whole[name][:3]) for name, value in read.draws().items())
    with pytest.raises(ValueError, match="no draw was kept"):
        Collect(dict).draws()


def test_swag_has_the_moments_of_its_iterates() -> None:
    exact = bayesian_regression()
    draws = dist.MultivariateNormal(exact.mean, exact.covariance).sample((30,))
    moments = swag(exact.values(draws), rank=10)
    mean, deviations = draws.mean(0), draws[-10:] - draws.mean(0)
    expected = 0.5 * torch.diag(draws.var(0, correction=0)) + deviations.T @ deviations / (2 * 9)
    guide = JointNormal(exact.net, rank=10).set(**moments)
    torch.testing.assert_close(guide.distribution().covariance_matrix, expected)
    torch.testing.assert_close(guide.distribution().mean, mean)
    many = swag(
        exact.values(dist.MultivariateNormal(exact.mean, exact.covariance).sample((4001,))),
        rank=4000,
    )
    full = many["factor"] @ many["factor"].T + torch.diag(many["scale"] ** 2)
    half = 0.5 * (exact.covariance + torch.diag(exact.covariance.diagonal()))
    assert ((full - half).abs() < 5 * exact.covariance.diagonal().max() * (2 / 4000) ** 0.5).all()
    with pytest.raises(ValueError, match="10 iterates and rank=10"):
        swag({"w": torch.randn(10, 2)}, rank=10)


@pytest.mark.parametrize("batched", [False, True])
def test_laplace_is_exact_where_the_posterior_is_normal(batched: bool) -> None:
    exact = bayesian_regression()
    data = (
        [{name: value[i : i + 6] for name, value in exact.batch.items()} for i in (0, 6)]
        if batched
        else exact.batch
    )
    mode, rows = exact.values(exact.mean), torch.cat([exact.batch["x"], torch.ones(12, 1)], 1)
    precision = torch.linalg.inv(exact.covariance)
    state = torch.get_rng_state()
    loc, tril = laplace(exact.model, mode, data, full=True, num_draws=200)
    assert torch.equal(state, torch.get_rng_state()) and torch.equal(loc, exact.mean)
    assert torch.equal(tril, tril.tril())
    error = (2 * torch.einsum("nj,nk->jk", rows**2, rows**2) / exact.noise**4 / 200).sqrt()
    assert ((torch.linalg.inv(tril @ tril.T) - precision).abs() < 5 * error).all()
    loc, scale = laplace(exact.model, mode, data, num_draws=200)
    assert ((scale**-2 - precision.diagonal()).abs() < 5 * error.diagonal()).all()
    MeanField(exact.net).set(loc, scale)
    guide = JointNormal(exact.net).set(loc, scale_tril=tril)
    turned = dict(reversed(mode.items()))
    torch.testing.assert_close(laplace(exact.model, turned, data, num_draws=2)[0], exact.mean)
    weights = pv.log_weights(exact.model, guide, exact.batch, 200, plate=None)
    assert (weights.logsumexp(0) - math.log(200) - exact.log_evidence).abs() < 0.05


def test_laplace_of_a_classifier_is_the_gauss_newton_matrix() -> None:
    net = pv.Bayesian(nn.Linear(2, 3, bias=False))
    model, batch = (
        pv.Model(y=pv.Node(CategoricalHead(net), "x")),
        {"x": torch.randn(5, 2), "y": torch.zeros(5).long()},
    )
    mode = PointEstimate(net).values()
    p = (batch["x"] @ mode["w.weight"].detach().T).softmax(-1)
    hessian = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
    expected = torch.einsum("nab,nc,nd->acbd", hessian, batch["x"], batch["x"]).reshape(
        6, 6
    ) + torch.eye(6)
    got = []
    for seed in range(60):
        torch.manual_seed(seed)  # laplace leaves the generator where it was
        _, tril = laplace(model, mode, batch, full=True, num_draws=5)
        got.append(torch.linalg.inv(tril @ tril.T))
    assert_mean(torch.stack(got), expected)


def test_laplace_looks_at_no_targets_and_refuses_what_is_not_normal() -> None:
    exact = bayesian_regression()
    mode = exact.values(exact.mean)
    results = []
    for y in (exact.batch["y"], exact.batch["y"] + 100.0):
        pyro.set_rng_seed(0)
        results.append(laplace(exact.model, mode, {"x": exact.batch["x"], "y": y}, full=True)[1])
    assert torch.equal(*results)
    model, batch, _ = noise_model()
    with pytest.raises(pv.PairError, match=r"\['v'\].*pyro.condition"):
        laplace(model, PointEstimate(model).values(), batch)
    net = pv.Bayesian(MLP(1, [], 1))
    both = pv.Model(
        v=pv.Global(InverseGammaPrior(2.0, 1.0)), y=pv.Node(SharedVarianceHead(net), "x", "v")
    )
    values = PointEstimate(net).values()
    with pytest.raises(pv.PairError, match=r"\['v'\]"):
        laplace(both, values, batch)
    fixed = pyro.condition(both, data={"v": torch.tensor(0.25)})
    reference = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))
    pyro.set_rng_seed(0)
    first = laplace(fixed, values, batch, num_draws=3)[1]
    pyro.set_rng_seed(0)
    torch.testing.assert_close(first, laplace(reference, values, batch, num_draws=3)[1])


class Correlations(nn.Module):
    """p(L) of correlations; its distribution."""

    def forward(self) -> dist.LKJCholesky:
        return dist.LKJCholesky(3, torch.tensor(2.0))


class Shifted(nn.Module):
    """N(f(x), 1), whatever the correlations are."""

    def __init__(self) -> None:
        super().__init__()
        self.net = pv.Bayesian(nn.Linear(1, 1, bias=False))

    def forward(self, x: Tensor, factor: Tensor) -> dist.Independent:
        return dist.Normal(self.net(x), 1.0).to_event(1)


def test_the_jacobian_of_a_matrix_counts_once() -> None:
    """The energy of a Cholesky factor on the scale that chains move, by its density and Jacobian."""
    model = pv.Model(factor=pv.Global(Correlations()), y=pv.Node(Shifted(), "x", "factor"))
    losses = {}
    for jacobian in (False, True):
        guide = PointEstimate(model, jacobian=jacobian)
        place_at = {"factor": torch.linalg.cholesky(torch.eye(3) + 0.3 * (1 - torch.eye(3)))}
        loss = pv.ElboLoss(model, guide.start_at(place_at), num_data=2)
        losses[jacobian] = loss(x=torch.ones(2, 1), y=torch.ones(2, 1))
    unconstrained = guide.unconstrained()["factor"]
    transform = torch.distributions.biject_to(dist.constraints.corr_cholesky)
    volume = transform.log_abs_det_jacobian(unconstrained, transform(unconstrained))
    assert torch.allclose(losses[False] - losses[True], volume / 2, rtol=1e-4)


def test_draws_of_several_chains_are_a_guide() -> None:
    rows = torch.zeros(3, 2)
    draws = {"w": torch.arange(6.0).reshape(3, 2)}
    chains = Chains(draws, rows, rows, rows.bool(), torch.ones(2))
    with pyro.plate("particles", 6, dim=-2):
        found = Empirical(chains.flat())()["w"].flatten()
    assert found.sort().values.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    with pytest.raises(TypeError, match="Chains, expected draws by site"):
        Empirical(chains)
