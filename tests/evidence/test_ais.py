"""Annealed importance sampling: exact where the path is flat, unbiased elsewhere, refused where
nothing can move."""

import math
from collections.abc import Callable

import oracles
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import pyrovae as pv
from pyrovae.core.traces import run_model
from pyrovae.evidence import annealed_importance, linear, sigmoidal
from pyrovae.evidence.ais_hmc import Points, move
from pyrovae.evidence.ais_path import AnnealedDensity, Annealing
from pyrovae.evidence.densities import Layout
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import Flat, StandardNormal
from pyrovae.programs.semi_amortized import SemiAmortized

EXACT = {"linear-gaussian": oracles.linear_gaussian, "two-level": oracles.two_level}


@pytest.mark.parametrize("name", EXACT)
def test_a_path_that_starts_at_the_posterior_weighs_the_evidence(name: str) -> None:
    oracle = EXACT[name]()
    evidence = annealed_importance(
        oracle.model, oracle.batch, guide=oracle.guide, num_chains=3, num_steps=5, num_leapfrog=2
    )
    torch.testing.assert_close(evidence.log_px, oracle.log_px, atol=1e-10, rtol=0)
    torch.testing.assert_close(evidence.elbo, oracle.log_px, atol=1e-10, rtol=0)
    assert evidence.num_particles == 3 and evidence.se.max() < 1e-6


def assert_unbiased(log_weights: torch.Tensor, log_px: torch.Tensor) -> None:
    """The mean of w / p(x) is 1 within 5 standard errors, which the data, being independent, tell."""
    ratio = (log_weights - log_px).exp().mean(0)
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / len(ratio) ** 0.5
    assert ratio.std() / len(ratio) ** 0.5 < 0.1


@pytest.mark.parametrize("shift", [None, 1.0], ids=["prior", "wrong-guide"])
@pytest.mark.parametrize("schedule", [linear, sigmoidal])
def test_weights_are_unbiased_however_rough_the_path(
    shift: float | None, schedule: Callable
) -> None:
    oracle = oracles.linear_gaussian(num_data=300, observed=3, shift=shift or 0.0, spread=0.8)
    path = AnnealedDensity(
        oracle.model, None if shift is None else oracle.guide, oracle.batch, "data"
    )
    annealing = Annealing(10, 12, 4, 4, schedule)
    assert_unbiased(
        annealing.log_weights(path, path.draw(10), annealing.steps(path)), oracle.log_px
    )


def test_backward_weights_estimate_one_over_the_evidence() -> None:
    oracle = oracles.linear_gaussian(num_data=300)
    exact = oracle.guide.nodes["z"](oracle.batch).sample((10,))
    guide = oracle.guide.nodes[
        "z"
    ].conditional  # made narrower and moved, so that q / p has light tails
    with torch.no_grad():
        guide.scale_tril.mul_(0.8)
        guide.bias.add_(0.3)
    path = AnnealedDensity(oracle.model, oracle.guide, oracle.batch, "data")
    annealing = Annealing(10, 12, 4, 4, sigmoidal)
    assert_unbiased(
        annealing.log_weights(path, exact, annealing.steps(path), backward=True), -oracle.log_px
    )


@pytest.mark.parametrize(("name", "compile"), [("linear-gaussian", "off"), ("two-level", "on")])
def test_evidence_is_within_its_error_bar_of_the_exact_value(
    name: str, compile: str, uncompiled: None
) -> None:
    """Step by step in Python, and as replays of what is captured."""
    oracle = EXACT[name]()
    evidence = annealed_importance(
        oracle.model, oracle.batch, num_chains=40, num_steps=100, num_leapfrog=4, compile=compile
    )
    assert abs(evidence.mean - oracle.log_px.mean()) < 5 * evidence.monte_carlo_se < 0.6
    assert evidence.elbo.mean() < evidence.mean


def test_trajectories_leave_the_density_as_it_is_at_any_step_size() -> None:
    oracle = oracles.linear_gaussian(num_data=1)
    path, (low, high) = (
        AnnealedDensity(oracle.model, oracle.guide, oracle.batch, "data"),
        (0.5, 0.2),
    )
    # q^0.5 p(x, z)^0.2 with q the exact posterior is a normal of the same mean and 1 / 0.7 of its
    # covariance
    posterior = oracle.guide.nodes["z"](oracle.batch)
    mean, covariance = posterior.mean[0], posterior.covariance_matrix[0] / 0.7
    start = dist.MultivariateNormal(mean, covariance).sample((20_000, 1))
    for step in (0.05, 0.4):
        points = Points.at(start, path)
        for _ in range(5):
            points, probability = move(points, path, (low, high), torch.tensor([step]), 3)
        moved = points.place[:, 0]
        assert ((moved.mean(0) - mean).abs() < 5 * (covariance.diagonal() / 20_000) ** 0.5).all()
        assert ((moved.T.cov() / covariance).diagonal() - 1).abs().max() < 5 * (2 / 20_000) ** 0.5
    assert probability.mean() < 0.9  # the larger step is one that has to be corrected


def test_a_trajectory_into_nothing_is_rejected() -> None:
    def cliff(place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value = (1 - place.square()).log().sum(-1)  # NaN beyond 1
        return value, value

    points = Points.at(torch.zeros(200, 1, 1), cliff)
    for step in (1.0, 1e300):
        after, probability = move(points, cliff, (0.5, 0.5), torch.tensor([step]), 3)
        assert (
            after.place.abs().max() < 1
            and torch.isfinite(after.terms).all()
            and (probability == 0).any()
        )


def test_pilot_finds_steps_that_are_accepted_65_times_in_100() -> None:
    oracle = oracles.two_level()
    path = AnnealedDensity(oracle.model, None, oracle.batch, "data")
    annealing = Annealing(16, 50, 5, 4, sigmoidal)
    steps, points = annealing.steps(path), Points.at(path.draw(500), path)
    assert steps.shape == (49, 6)
    accepted = []
    for b, step in zip(annealing.ladder[1:-1].tolist(), steps):
        points, probability = move(points, path, (1.0, b), step, 5)
        accepted.append(probability.mean(0))
    assert (
        0.55 < torch.stack(accepted).mean() < 0.75
        and (torch.stack(accepted).mean(0) - 0.65).abs().max() < 0.15
    )


def test_result_does_not_depend_on_batches() -> None:
    oracle = oracles.linear_gaussian(num_data=131)
    results = []
    for size in (131, 50, 1):
        torch.manual_seed(3)
        data = [{"x": part} for part in oracle.batch["x"].split(size)]
        results.append(
            annealed_importance(
                oracle.model, data, num_chains=2, num_steps=4, num_leapfrog=2
            ).log_px
        )
    assert results[0].shape == (131,)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-9, atol=1e-9)


def test_draws_move_on_but_nothing_else_does() -> None:
    oracle = oracles.linear_gaussian()
    oracle.model.train()
    first, second = (
        annealed_importance(
            oracle.model, oracle.batch, guide=oracle.guide, num_steps=3, num_leapfrog=1
        )
        for _ in range(2)
    )
    again = [
        annealed_importance(oracle.model, oracle.batch, num_steps=3, num_chains=2, num_leapfrog=1)
        for _ in range(2)
    ]
    assert (
        not torch.equal(again[0].log_px, again[1].log_px)
        and first.log_px.shape == second.log_px.shape
    )
    for module in (oracle.model, oracle.guide):
        assert all(
            isinstance(p, torch.nn.Parameter) and p.requires_grad and p.grad is None
            for p in module.parameters()
        )
    assert oracle.model.training


def test_float32_models_give_float64_numbers() -> None:
    torch.set_default_dtype(torch.float32)
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    evidence = annealed_importance(model, {"x": torch.ones(3, 4)}, num_chains=2, num_steps=3)
    assert evidence.log_px.dtype == torch.float64


def test_conditions_and_events_of_any_shape() -> None:
    # x = c (s + sum M) + noise with scalar s and 2 x 3 matrix M, all normal
    def model(x: torch.Tensor, c: torch.Tensor) -> None:
        with pyro.plate("rows", len(x), dim=-1):
            s = pyro.sample("s", dist.Normal(c, 1.0))
            m = pyro.sample("m", dist.Normal(torch.zeros(2, 3), 0.5).to_event(2))
            pyro.sample("x", dist.Normal(c * (s + m.sum((-2, -1))), 0.5), obs=x)

    c = torch.rand(40) + 0.5
    exact = dist.Normal(c.square(), (c.square() * (1 + 6 * 0.25) + 0.25).sqrt())
    x = exact.sample()
    evidence = annealed_importance(
        model, {"x": x, "c": c}, num_chains=20, num_steps=60, num_leapfrog=4, plate="rows"
    )
    assert abs(evidence.mean - exact.log_prob(x).mean()) < 5 * evidence.monte_carlo_se < 0.2
    layout = Layout.of(run_model(model, pyro.poutine.Trace(), {"x": x, "c": c}, 3))
    values = layout.unpack(vector := torch.randn(3, 40, layout.size))
    assert layout.size == 7 and values["s"].shape == (3, 40) and values["m"].shape == (3, 40, 2, 3)
    assert torch.equal(layout.pack(values), vector)


def test_starts_from_a_guide_that_is_refined_for_each_datum() -> None:
    oracle = oracles.linear_gaussian(num_data=20)
    guide = SemiAmortized(
        pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x")), oracle.model, steps=60, lr=0.1
    )
    evidence = annealed_importance(
        oracle.model, oracle.batch, guide=guide, num_steps=15, num_leapfrog=4
    )
    assert abs(evidence.mean - oracle.log_px.mean()) < 5 * evidence.monte_carlo_se < 0.4
    assert all(p.requires_grad and p.grad is None for p in guide.parameters())


def test_progress_goes_round_the_temperatures() -> None:
    lengths = []

    def progress(temperatures: list) -> list:
        lengths.append(len(temperatures))
        return temperatures

    oracle = oracles.linear_gaussian()
    annealed_importance(oracle.model, oracle.batch, num_steps=7, num_leapfrog=1, progress=progress)
    assert lengths == [30 + 6, 7]  # the pilot settles first; then every step is weighed


def one_site(fn: dist.Distribution, *, mask: bool = True, inside: bool = True) -> Callable:
    def model(x: torch.Tensor) -> None:
        z = None if inside else pyro.sample("z", fn)
        with pyro.plate("data", len(x), dim=-1):
            with pyro.poutine.mask(mask=True if mask else torch.arange(len(x)) > 0):
                z = pyro.sample("z", fn) if inside else z
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            one_site(dist.Beta(2.0, 2.0)),
            r"'z' is bounded \(Interval.*but annealed importance sampling moves real-valued",
        ),
        (one_site(dist.LogNormal(0.0, 1.0)), "'z' is bounded"),
        (one_site(dist.VonMises(0.0, 1.0)), "'z' is bounded"),
        (one_site(dist.Bernoulli(0.5)), "'z' is discrete"),
        (one_site(dist.Delta(torch.tensor(0.5))), "'z' is a Delta"),
        (one_site(dist.Normal(0.0, 1.0), inside=False), "'z' lies outside plate 'data'"),
        (one_site(dist.Normal(0.0, 1.0), mask=False), "'z' is masked"),
        (
            pv.Model(z=Flat(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z")),
            "'z' has a flat prior, which has no draws",
        ),
    ],
)
def test_refuses_latents_that_cannot_be_moved(model: Callable, message: str) -> None:
    x = torch.ones(3, 4) if isinstance(model, pv.Model) else torch.ones(3)
    with pytest.raises(pv.PairError, match=message):
        annealed_importance(model, {"x": x}, num_steps=2)


def test_refuses_a_guide_that_cannot_score_what_it_did_not_draw() -> None:
    oracle = oracles.linear_gaussian()
    with pytest.raises(pv.PairError, match="Delta or auxiliary"):
        annealed_importance(
            oracle.model, oracle.batch, guide=AutoNormal(oracle.model), num_steps=2
        )


def test_refuses_grey_pixels_in_any_batch_and_no_data() -> None:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    with pytest.raises(pv.PairError, match="grey values such as 0.5"):
        annealed_importance(
            model,
            [{"x": torch.ones(128, 4)}, {"x": torch.full((1, 4), 0.5)}],
            num_steps=2,
            num_leapfrog=1,
        )
    with pytest.raises(pv.PairError, match="no batch"):
        annealed_importance(model, [], num_steps=2)


def test_refuses_schedules_that_do_not_rise_from_0_to_1() -> None:
    with pytest.raises(ValueError, match="num_steps': 0"):
        annealed_importance(one_site(dist.Normal(0.0, 1.0)), {"x": torch.ones(3)}, num_steps=0)
    for schedule in (
        lambda num: torch.linspace(0, 0.9, num + 1),
        lambda num: torch.linspace(0, 1, num),
        torch.zeros,
    ):
        with pytest.raises(ValueError, match=r"expected num_steps \+ 1 = 6 that rise from 0 to 1"):
            annealed_importance(
                one_site(dist.Normal(0.0, 1.0)),
                {"x": torch.ones(3)},
                num_steps=5,
                schedule=schedule,
            )
    assert math.isclose(sigmoidal(9).sum(), 5.0) and torch.equal(
        linear(2), torch.tensor([0.0, 0.5, 1.0])
    )
