"""The no-U-turn sampler of many nets at once against exact posteriors and by quadrature."""

from collections.abc import Callable
from functools import partial

import pyro.distributions as dist
import pytest
import torch
from oracles import assert_mean, assert_moments, bayesian_regression
from test_gibbs import unknown_noise
from test_mcmc import data, posterior
from test_samplers import chains, exact_entropy, noise_model, place, states
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import PointEstimate
from pyrovae.bnn.priors import last_layer
from pyrovae.bnn.samplers import chains_to_arviz, hmc, noise_variance, random_walk, stacked_nuts
from pyrovae.bnn.samplers.nuts_path import NutsPath
from pyrovae.bnn.samplers.nuts_step import to_compare
from pyrovae.bnn.samplers.warmup import Warmup, windows
from pyrovae.heads import FixedScaleNormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal


@pytest.mark.parametrize("step_size", [0.02, 0.12, 0.2])
def test_it_leaves_the_posterior_as_it_is(step_size: float) -> None:
    exact = bayesian_regression()
    start = dist.MultivariateNormal(exact.mean, exact.covariance).sample((4000,))
    stacked = chains(exact, start)
    result = stacked_nuts(
        stacked,
        exact.batch,
        num_data=exact.size,
        num_samples=1,
        warmup=0,
        max_depth=5,
        step_size=step_size,
    )
    end = states(stacked)
    assert_moments(end, exact.mean, exact.covariance)
    assert torch.equal(torch.cat([value[0].flatten(1) for value in result.draws.values()], 1), end)
    correlation = ((start - exact.mean) * (end - exact.mean)).mean(0) / exact.covariance.diagonal()
    assert correlation.max() < 0.6
    assert_mean(result.energy[0], -exact.log_evidence + 1.5 + exact_entropy(exact))
    assert (result.accept.mean() > 0.98) == (step_size < 0.1) and not result.divergent.any()


@pytest.mark.parametrize("depth", [1, 2])
def test_short_paths_leave_the_posterior_as_it_is(depth: int) -> None:
    """Paths that the largest depth cuts off, unequal lengths of two subtrees, coarse steps."""
    exact = bayesian_regression()
    stacked = chains(exact, dist.MultivariateNormal(exact.mean, exact.covariance).sample((4000,)))
    stacked_nuts(
        stacked,
        exact.batch,
        num_data=exact.size,
        num_samples=1,
        warmup=0,
        max_depth=depth,
        step_size=0.22,
        thin=4,
    )
    assert_moments(states(stacked), exact.mean, exact.covariance)


def test_it_finds_the_posterior_its_steps_and_scales() -> None:
    exact = bayesian_regression()
    stacked = chains(exact, exact.mean + torch.randn(200, 3))
    counted: list[int] = []
    result = stacked_nuts(
        stacked,
        exact.batch,
        num_data=exact.size,
        num_samples=5,
        warmup=50,
        max_depth=5,
        progress=counted.append,
    )
    assert counted == list(range(55))
    assert result.draws["w.weight"].shape == (5, 200, 1, 2) and result.accept.shape == (5, 200)
    assert not result.divergent.any() and 0.75 < result.accept.mean() < 0.95
    flat = torch.cat([value.flatten(2) for value in result.draws.values()], 2)
    assert_moments(flat[-1], exact.mean, exact.covariance)
    # in units of the standard deviations, which are about a tenth
    assert 0.5 < result.step_size.median() < 1.5
    found = chains_to_arviz(result)
    assert set(result.sample_stats()) == {"acceptance_rate", "energy", "diverging"}
    assert found["posterior"].sizes["chain"] == 200


def test_scales_adapt_to_each_number_of_each_chain() -> None:
    """Posteriors whose two scales differ by a factor of 90, either way round: unit scales would need
    paths of hundreds of steps."""
    x = torch.zeros(60, 40, 2)
    x[:30, :20, 0], x[:30, 20:, 1] = 0.01, 20.0
    x[30:, :20, 0], x[30:, 20:, 1] = 20.0, 0.01

    def make() -> pv.ElboLoss:
        net = pv.Bayesian(nn.Linear(2, 1, bias=False))
        model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=1.0), "x"))
        return pv.ElboLoss(model, PointEstimate(model), num_data=40)

    stacked = pv.Stacked([make() for _ in range(60)])
    batch = {"x": x, "y": torch.zeros(60, 40, 1)}
    result = stacked_nuts(stacked, batch, num_data=40, num_samples=20, warmup=60, max_depth=4)
    precision = 1.0 + x.square().sum(1)
    draws = result.draws["w.weight"][:, :, 0]
    ratio = draws[4::5].square() * precision
    assert ((ratio.mean(0).unflatten(0, (2, 30)).mean(1) - 1.0).abs() < 5 * (2 / 120) ** 0.5).all()
    assert (result.step_size > 0.3).all()


def test_draws_of_the_noise_variance_between_paths() -> None:
    """By quadrature over the variance, given which the weights are normal and integrate out."""
    batch, log_v = data(), torch.linspace(-6.0, 4.0, 2001)
    v = log_v.exp()
    covariance = v[:, None, None] * torch.eye(10) + batch["x"] @ batch["x"].T
    marginal = dist.MultivariateNormal(torch.zeros(10), covariance).log_prob(batch["y"][:, 0])
    prior = dist.InverseGamma(torch.tensor(2.0), torch.tensor(0.5)).log_prob(v)
    weights = (marginal + prior + log_v).softmax(0)
    mean, _ = posterior(batch, v)
    model = unknown_noise()
    loss = pv.ElboLoss(model, PointEstimate(model, jacobian=True), num_data=10)
    stacked = pv.Stacked([loss] * 60, shared=True)
    result = stacked_nuts(
        stacked,
        batch,
        num_data=10,
        num_samples=10,
        warmup=20,
        draws={"variance": noise_variance()},
    )
    flat = {name: value[::3].flatten(0, 1) for name, value in result.draws.items()}
    logs = flat["variance"].flatten().log()
    for found, expected in (
        (logs, weights @ log_v),
        (logs**2, weights @ log_v**2),
        (flat["w.weight"][:, 0, 0], weights @ mean[:, 0]),
        (flat["w.weight"][:, 0, 1], weights @ mean[:, 1]),
    ):
        assert_mean(found, expected)


def test_what_cannot_be_drawn_is_refused() -> None:
    model, batch, _ = noise_model()
    loss = pv.ElboLoss(model, PointEstimate(model, jacobian=True), num_data=9)
    stacked, numbers = pv.Stacked([loss] * 2, shared=True), {"num_samples": 1, "warmup": 0}
    with pytest.raises(ValueError, match=r"\['variance'\] are to be drawn, expected .* \['v'\]"):
        stacked_nuts(stacked, batch, num_data=9, draws={"variance": noise_variance()}, **numbers)
    with pytest.raises(ValueError, match="max_depth=0"):
        stacked_nuts(stacked, batch, num_data=9, max_depth=0, **numbers)
    with pytest.raises(ValueError, match="expected the same number thrice"):
        stacked_nuts(stacked, batch, num_data=8, **numbers)


def test_draws_of_another_shape_or_density_are_refused() -> None:
    """A number for two, which would be spread over both; a tempered prior."""
    model = pv.Model(
        means=pv.Global(StandardNormal(2)),
        y=pv.Node(FixedScaleNormalHead(Shift(), scale=1.0), "x", "means"),
    )
    batch = {"x": torch.zeros(3, 2), "y": torch.zeros(3, 2)}
    for beta, draw, words in (
        (1.0, lambda trace: torch.zeros(()), r"'means' has shape \(\), expected .* \(2,\)"),
        (0.5, lambda trace: torch.zeros(2), "beta=0.5"),
    ):
        loss = pv.ElboLoss(model, PointEstimate(model), num_data=3, beta=beta)
        stacked = pv.Stacked([loss] * 2, shared=True)
        with pytest.raises(ValueError, match=words):
            stacked_nuts(
                stacked, batch, num_data=3, num_samples=1, warmup=0, draws={"means": draw}
            )


class Shift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = pv.Bayesian(nn.Linear(2, 2))

    def forward(self, x: Tensor, means: Tensor) -> Tensor:
        return self.net(x) + means


def test_a_site_alone() -> None:
    model, batch, exact = noise_model()
    loss = pv.ElboLoss(model, PointEstimate(model, jacobian=True), num_data=9)
    stacked = pv.Stacked([loss] * 4000, shared=True)
    place(stacked, [torch.zeros(4000)])
    with pytest.raises(ValueError, match="nothing to move"):
        stacked_nuts(
            stacked, batch, num_data=9, num_samples=1, warmup=0, draws={"v": noise_variance("v")}
        )
    result = stacked_nuts(stacked, batch, num_data=9, num_samples=1, warmup=40, max_depth=4)
    assert_mean(result.draws["v"][0].log(), exact.sample((200_000,)).log().mean())


def test_a_path_that_explodes_is_reported() -> None:
    exact = bayesian_regression()
    stacked = chains(exact, exact.mean.expand(3, 3))
    result = stacked_nuts(
        stacked, exact.batch, num_data=12, num_samples=2, warmup=0, step_size=1e3, max_depth=4
    )
    assert result.divergent.all() and (result.accept == 0).all()
    assert torch.equal(states(stacked), exact.mean.expand(3, 3))


def net_loss() -> pv.ElboLoss:
    net = pv.Bayesian(MLP(2, [6], 1))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.3), "x"))
    return pv.ElboLoss(model, PointEstimate(model), num_data=15)


def test_captured_steps_are_the_same(caplog: pytest.LogCaptureFixture) -> None:
    losses = [net_loss() for _ in range(3)]
    batch = {"x": torch.randn(3, 15, 2), "y": torch.randn(3, 15, 1)}
    found = []
    for compile in ("off", "on"):
        torch.manual_seed(3)
        stacked = pv.Stacked(losses)
        with caplog.at_level("INFO"):
            found.append(
                stacked_nuts(
                    stacked,
                    batch,
                    num_data=15,
                    num_samples=2,
                    warmup=3,
                    max_depth=4,
                    step_size=0.02,
                    compile=compile,
                )
            )
    assert "captured an evaluation" in caplog.text and "not compiled" not in caplog.text
    for name, value in found[0].draws.items():
        torch.testing.assert_close(value, found[1].draws[name], rtol=1e-6, atol=1e-6)


SAMPLERS = (stacked_nuts, partial(hmc, num_steps=3), random_walk)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_parameters_without_a_prior_stay(sampler: Callable) -> None:
    """The body of a net whose last layer alone is Bayesian: its draws would belong to other bodies."""
    layers = MLP(2, [4], 1)
    net = pv.Bayesian(layers, last_layer(layers))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.3), "x"))
    stacked = pv.Stacked([pv.ElboLoss(model, PointEstimate(model), num_data=15)] * 2, shared=True)
    before = [value.detach().clone() for value in stacked.stacked]
    batch = {"x": torch.randn(15, 2), "y": torch.randn(15, 1)}
    sampler(stacked, batch, num_data=15, num_samples=3, warmup=3)
    for name, value, old in zip(stacked.names, stacked.stacked, before):
        assert torch.equal(value, old) != name.startswith("guide"), name


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_random_energy_is_refused(sampler: Callable) -> None:
    net = pv.Bayesian(nn.Sequential(nn.Linear(2, 6), nn.Dropout(0.5), nn.Linear(6, 1)))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.3), "x"))
    stacked = pv.Stacked([pv.ElboLoss(model, PointEstimate(model), num_data=15)] * 2, shared=True)
    batch = {"x": torch.randn(15, 2), "y": torch.randn(15, 1)}
    with pytest.raises(ValueError, match="energy is random"):
        sampler(stacked, batch, num_data=15, num_samples=1, warmup=0)
    sampler(stacked.eval(), batch, num_data=15, num_samples=1, warmup=0)


def test_statistics_of_the_batch_are_refused() -> None:
    net = pv.Bayesian(nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.Linear(6, 1)))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.3), "x"))
    stacked = pv.Stacked([pv.ElboLoss(model, PointEstimate(model), num_data=15)] * 2, shared=True)
    batch = {"x": torch.randn(15, 2), "y": torch.randn(15, 1)}
    with pytest.raises(ValueError, match=r"changes its buffers \['model.*running_mean"):
        stacked_nuts(stacked, batch, num_data=15, num_samples=1, warmup=0)
    assert not stacked.member(0).model.nodes.y.conditional.net.net[1].running_mean.any()
    stacked_nuts(stacked.eval(), batch, num_data=15, num_samples=1, warmup=0)


def by_recursion(index: int) -> set[int]:
    """The first leaves of the balanced subtrees that leaf `index` completes."""
    size, first = 2, set()
    while index % size == size - 1:
        first.add(index - size + 1)
        size *= 2
    return first


def test_kept_leaves_are_those_of_the_recursion() -> None:
    kept: dict[int, int] = {}
    for index in range(256):
        place, others = to_compare(index)
        if index % 2 == 0:
            kept[place] = index
            assert not list(others)
        assert {kept[other] for other in others} == by_recursion(index)


def test_a_bent_posterior() -> None:
    """Two weights, y ~ N(a + b^2, 0.5), by quadrature."""

    class Bent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            return x * 0 + self.w[0] + self.w[1] ** 2

    net = pv.Bayesian(Bent())
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.5), "x"))
    loss = pv.ElboLoss(model, PointEstimate(model), num_data=2)
    batch = {"x": torch.zeros(2, 1), "y": torch.tensor([[0.8], [1.2]])}
    stacked = pv.Stacked([loss] * 800, shared=True)
    result = stacked_nuts(stacked, batch, num_data=2, num_samples=1, warmup=40, max_depth=5)
    a, b = torch.meshgrid(torch.linspace(-5, 5, 801), torch.linspace(-5, 5, 801), indexing="ij")
    log_p = -0.5 * (a**2 + b**2)
    for y in (0.8, 1.2):
        log_p = log_p - 0.5 * ((y - a - b**2) / 0.5) ** 2
    p = log_p.flatten().softmax(0)
    w = result.draws["w.w"][0]
    for found, exact in (
        (w[:, 0], a),
        (w[:, 0] ** 2, a**2),
        (w[:, 1] ** 2, b**2),
        (w[:, 0] * w[:, 1] ** 2, a * b**2),
    ):
        assert_mean(found, p @ exact.flatten())


@pytest.mark.parametrize("pooled", [False, True])
def test_variances_are_those_of_the_last_window(pooled: bool) -> None:
    draws = torch.randn(30, 2, 3) * torch.tensor([0.01, 1.0, 100.0])

    class Still:
        q, variance, asked = draws[0], torch.ones(2, 3), 0

        def reasonable_step(self) -> Tensor:
            self.asked += 1
            return torch.full((2,), 0.1 * self.asked)

    sampler = Still()
    warmup = Warmup(sampler, 30, None, 0.8, pooled=pooled)
    begin, (end,) = windows(30)
    for index, draw in enumerate(draws):
        sampler.q = draw
        warmup.update(torch.tensor([1.0, 0.5]), last=index == 29)
    spread, count = draws[begin:end].var(0), end - begin
    if pooled:
        spread, count = spread.mean(0), 2 * count
    expected = (count * spread + 0.005) / (count + 5)
    torch.testing.assert_close(sampler.variance, expected.expand(2, 3))
    assert sampler.variance.is_contiguous()  # compiled steps read it
    assert sampler.asked == 2
    assert warmup.value[0] > 0.2 > warmup.value[1]  # each chain has its step size


def test_paths_end_where_they_turn() -> None:
    """Half a period of a unit normal is pi / 0.3, about 10 steps; without an end it were 1023."""
    calls: list[int] = []

    def unit(q: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(1)
        return 0.5 * q.square().sum(1), q

    path = NutsPath(torch.zeros(1, 20), unit, [], 10, "off")
    for _ in range(20):
        path(torch.full((1,), 0.3))
    assert 20 * 7 <= len(calls) <= 20 * 31
