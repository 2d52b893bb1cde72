"""log p(x): exact where it can be, right within its own error bar elsewhere, refused where it
means nothing."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import oracles
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoGuideList, AutoNormal
from pyro.ops.stats import fit_generalized_pareto
from scipy import stats
from torch import nn

import pyrovae as pv
from pyrovae.data import load_digits
from pyrovae.diagnostics.active_units import kl_per_dim
from pyrovae.evidence.weight_summary import WeightSummary
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import Flat, StandardNormal
from pyrovae.programs.semi_amortized import SemiAmortized

EXACT = {
    "linear-gaussian": oracles.linear_gaussian,
    "two-level": oracles.two_level,
    "beta-bernoulli": oracles.beta_bernoulli,
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("num_particles", [1, 3])
def test_log_weights_at_the_exact_posterior_are_the_evidence(
    name: str, num_particles: int
) -> None:
    oracle = EXACT[name]()
    log_weights = pv.log_weights(oracle.model, oracle.guide, oracle.batch, num_particles)
    assert log_weights.shape == (num_particles, len(oracle.log_px))
    torch.testing.assert_close(
        log_weights, oracle.log_px.expand_as(log_weights), atol=1e-10, rtol=0
    )


@pytest.mark.parametrize("name", EXACT)
def test_exact_posterior_needs_no_error_bar(name: str) -> None:
    oracle = EXACT[name]()
    evidence = pv.log_evidence(oracle.model, oracle.guide, oracle.batch, num_particles=600)
    torch.testing.assert_close(evidence.log_px, oracle.log_px, atol=1e-10, rtol=0)
    torch.testing.assert_close(evidence.elbo, oracle.log_px, atol=1e-10, rtol=0)
    torch.testing.assert_close(
        evidence.ess, torch.full_like(evidence.ess, 600.0), atol=1e-6, rtol=0
    )
    assert (evidence.se < 1e-8).all() and not evidence.untrusted.any()


def test_joint_weight_of_a_global_latent() -> None:
    model, guide, batch, exact = oracles.linear_regression()
    log_weights = pv.log_weights(model, guide, batch, 4, plate=None)
    torch.testing.assert_close(log_weights, exact.expand(4), atol=1e-10, rtol=0)


def test_wrong_guide_is_within_four_standard_errors() -> None:
    oracle = oracles.linear_gaussian(num_data=50, shift=0.3, spread=1.2)
    evidence = pv.log_evidence(oracle.model, oracle.guide, oracle.batch, num_particles=2000)
    assert ((evidence.log_px - oracle.log_px).abs() < 4 * evidence.se).all()
    assert abs(evidence.mean - oracle.log_px.mean()) < 4 * evidence.monte_carlo_se
    assert evidence.elbo.mean() < evidence.log_px.mean()


@pytest.mark.parametrize(("shift", "spread"), [(0.3, 1.3), (0.5, 0.9), (0.3, 0.7)])
def test_standard_error_is_right_to_a_fifth_over_200_repeats(
    shift: float, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sampling error of a spread from 200 repeats x 10 data is about 2 % to 4 % (heavier tails:
    # more), so 20 % is the
    # requirement and not luck. At spread 0.7 the delta method reports 0.8 of the spread.
    # The repeats are one call: its particles are drawn for each row alone. The tails of the 2000
    # rows, fitted one after another, bear on no number that is compared.
    monkeypatch.setattr("pyrovae.evidence.weight_summary.fit_pareto", lambda tail: (0.0, 0.0))
    oracle = oracles.linear_gaussian(num_data=10, shift=shift, spread=spread)
    every = pv.log_evidence(
        oracle.model, oracle.guide, {"x": oracle.batch["x"].repeat(200, 1)}, num_particles=300
    )
    log_px, se = every.log_px.reshape(200, 10), every.se.reshape(200, 10)
    spread_of_data = log_px.var(0).mean().sqrt()
    assert 0.8 < (se.square().mean().sqrt() / spread_of_data) < 1.2
    spread_of_mean = log_px.mean(1).std()
    reported = [
        dataclasses.replace(every, log_px=x, se=e).monte_carlo_se for x, e in zip(log_px, se)
    ]
    assert 0.8 < np.mean(reported) / spread_of_mean < 1.2


def test_jackknife_equals_leaving_each_particle_out() -> None:
    log_weights = 2 * torch.randn(300, 3)
    summary = WeightSummary(300)
    for part in log_weights.split(71):
        summary.add(part)
    left_out = torch.stack(
        [
            torch.cat([log_weights[:k], log_weights[k + 1 :]]).logsumexp(0) - math.log(299)
            for k in range(300)
        ]
    )
    exact = ((left_out - left_out.mean(0)).square().sum(0) * 299 / 300).sqrt()
    torch.testing.assert_close(summary.se, exact, rtol=1e-10, atol=0)
    torch.testing.assert_close(summary.log_mean, oracles.log_mean_exp(log_weights))
    debiased = 300 * oracles.log_mean_exp(log_weights) - 299 * left_out.mean(0)
    torch.testing.assert_close(summary.jackknife, debiased, rtol=0, atol=1e-10)
    torch.testing.assert_close(summary.mean_se, log_weights.std(0) / 300**0.5)
    p = log_weights.softmax(0)
    torch.testing.assert_close(summary.ess, 1 / p.square().sum(0))


def test_khat_finds_the_tail() -> None:
    # w = u^-k has a Pareto tail of shape k, known exactly.
    u = torch.rand(20_000, 3)
    summary = WeightSummary(20_000)
    summary.add(-torch.tensor([0.2, 0.5, 0.9]) * u.log())
    assert (
        summary.khat - torch.tensor([0.2, 0.5, 0.9])
    ).abs().max() < 0.2  # 5 s.d. of a fit to 425 points


def test_smoothing_agrees_with_the_paper_s_recipe_and_with_arviz() -> None:
    log_weights = torch.tensor([0.5, 1.5, 3.0]) * torch.randn(2000, 3)
    summary = WeightSummary(2000)
    for part in log_weights.split(700):
        summary.add(part)
    for column in range(3):
        ordered, m = np.sort(log_weights[:, column].numpy()), 135  # ceil(3 sqrt(2000))
        shape, scale = fit_generalized_pareto(
            torch.tensor(np.exp(ordered[-m:]) - np.exp(ordered[-m - 1]))
        )
        smooth = np.exp(ordered[-m - 1]) + stats.genpareto.ppf(
            (np.arange(m) + 0.5) / m, shape, scale=scale
        )
        weights = np.concatenate([np.exp(ordered[:-m]), np.minimum(smooth, np.exp(ordered[-1]))])
        assert summary.psis[column] == pytest.approx(np.log(weights.mean()), abs=1e-9)
    import arviz

    if hasattr(arviz, "psislw"):  # ArviZ 1.x keeps it elsewhere
        smoothed, khat = arviz.psislw(log_weights.T.numpy(), normalize=False)
        np.testing.assert_allclose(summary.khat, khat, atol=1e-6)
        np.testing.assert_allclose(
            summary.psis, oracles.log_mean_exp(torch.tensor(smoothed.T)), atol=1e-6
        )
    assert not torch.allclose(summary.psis, summary.log_mean)


def test_smoothing_takes_noise_out_of_heavy_tails() -> None:
    # w = u^-0.6 has mean 1 / 0.4 and a Pareto tail of shape 0.6
    def repeats(num: int) -> WeightSummary:
        summary = WeightSummary(500)
        summary.add(-0.6 * torch.rand(500, num).log())
        return summary

    summary = repeats(300)
    error, smooth_error = (
        (estimate.exp() - 2.5).square().mean() for estimate in (summary.log_mean, summary.psis)
    )
    assert smooth_error < 0.8 * error


def test_jackknife_removes_most_of_the_bias_at_few_particles() -> None:
    oracle = oracles.linear_gaussian(num_data=4000, shift=0.4, spread=1.3)
    evidence = pv.log_evidence(oracle.model, oracle.guide, oracle.batch, num_particles=8)
    bias, left = evidence.log_px - oracle.log_px, evidence.jackknife - oracle.log_px
    assert bias.mean() < -5 * bias.std() / 4000**0.5  # there is a bias to remove
    assert bias.mean().abs() - left.mean().abs() > 5 * (left - bias).std() / 4000**0.5


def test_smoothed_and_jackknifed_estimates_of_few_or_equal_weights() -> None:
    one, few, equal, alone = (WeightSummary(k) for k in (1, 20, 100, 1000))
    one.add(torch.zeros(1, 2))
    few.add(torch.randn(20, 2))
    equal.add(torch.full((100, 2), -3.0))
    alone.add(torch.cat([torch.zeros(1, 2), torch.full((999, 2), -200.0)]))
    assert one.jackknife.isnan().all() and one.psis.isnan().all() and few.psis.isnan().all()
    for estimate in (equal.psis, equal.jackknife):
        torch.testing.assert_close(estimate, torch.full((2,), -3.0))
    torch.testing.assert_close(alone.psis, alone.log_mean)
    assert (alone.jackknife == torch.inf).all()


def test_refined_guides_cover_more() -> None:
    oracle = oracles.linear_gaussian(num_data=16)
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x"))  # never trained
    refined = SemiAmortized(guide, oracle.model, steps=80, lr=0.1)
    plain, better = (
        pv.log_evidence(oracle.model, q, oracle.batch, num_particles=1000)
        for q in (guide, refined)
    )
    assert (
        better.khat.median() < plain.khat.median() - 0.3
        and better.ess.median() > 3 * plain.ess.median()
    )
    assert (
        better.untrusted.sum() < plain.untrusted.sum()
        and better.elbo.mean() > plain.elbo.mean() + 1.0
    )
    assert abs(better.mean - oracle.log_px.mean()) < 5 * better.monte_carlo_se < 0.2
    mixed = pv.log_evidence(oracle.model, refined, oracle.batch, num_particles=1000, defensive=0.1)
    assert abs(mixed.mean - oracle.log_px.mean()) < 5 * mixed.monte_carlo_se < 0.2


def test_result_does_not_depend_on_chunk_or_batches() -> None:
    oracle = oracles.linear_gaussian(num_data=41, shift=0.5)
    x = oracle.batch["x"]
    results = []
    for chunk, size in ((500, 41), (7, 41), (500, 10), (250, 1)):
        torch.manual_seed(3)
        data = [{"x": part} for part in x.split(size)]
        results.append(
            pv.log_evidence(oracle.model, oracle.guide, data, num_particles=600, chunk=chunk)
        )
    for other in results[1:]:
        for name in ("log_px", "se", "elbo", "ess", "khat"):
            torch.testing.assert_close(
                getattr(other, name), getattr(results[0], name), rtol=1e-9, atol=1e-9
            )


def test_one_particle_is_the_elbo() -> None:
    oracle = oracles.linear_gaussian(num_data=300, shift=0.5)
    evidence = pv.log_evidence(oracle.model, oracle.guide, oracle.batch, num_particles=1)
    torch.testing.assert_close(evidence.log_px, evidence.elbo)
    # KL(q || posterior) of a shift of 0.5 s.d. in correlated coordinates, by its closed form
    posterior, wrong = oracles.linear_gaussian, oracle.guide.nodes["z"]({"x": oracle.batch["x"]})
    torch.manual_seed(0)
    pyro.set_rng_seed(0)
    exact = posterior(num_data=300).guide.nodes["z"]({"x": oracle.batch["x"]})
    kl = torch.distributions.kl_divergence(wrong, exact).mean()
    elbo = oracle.log_px.mean() - kl
    assert abs(evidence.mean - elbo) < 4 * (evidence.log_px - oracle.log_px).std() / 300**0.5
    assert evidence.se.isnan().all()


def test_errors_of_one_datum_and_of_one_particle_are_unknown() -> None:
    oracle = oracles.linear_gaussian(num_data=1, shift=0.5)
    datum = pv.log_evidence(oracle.model, oracle.guide, oracle.batch, num_particles=100)
    assert math.isnan(datum.mean_se) and datum.monte_carlo_se > 0
    assert (
        f"{datum.mean:.3f} nats (N = 1 datum, standard error unknown; K = 100 particles, Monte"
        in str(datum)
    )
    oracle = oracles.linear_gaussian(num_data=9, shift=0.5)
    particle = pv.log_evidence(oracle.model, oracle.guide, oracle.batch, num_particles=1)
    assert math.isnan(particle.monte_carlo_se) and particle.mean_se > 0
    assert "over N = 9 data; K = 1 particle, Monte Carlo part unknown)" in str(
        particle
    ) and "nan" not in str(particle)


def test_khat_and_se_of_dominated_weights() -> None:
    summary = WeightSummary(1000)
    summary.add(torch.cat([torch.zeros(1, 2), torch.full((999, 2), -200.0)]))
    assert (summary.khat == torch.inf).all() and (summary.se == torch.inf).all()
    equal = WeightSummary(1000)
    equal.add(torch.full((1000, 2), -3.0))
    assert (equal.khat == -torch.inf).all() and (equal.se < 1e-8).all()


def test_the_exact_posterior_is_trusted_in_float32_too() -> None:
    oracle = oracles.linear_gaussian(num_data=20)
    model, guide, batch = (
        oracle.model.float(),
        oracle.guide.float(),
        {"x": oracle.batch["x"].float()},
    )
    evidence = pv.log_evidence(model, guide, batch, num_particles=1000)
    assert (evidence.log_px - oracle.log_px).abs().max() < 1e-4
    assert not evidence.untrusted.any() and "misses mass" not in str(evidence)


def test_draws_move_on_but_nothing_else_does() -> None:
    oracle = oracles.linear_gaussian(shift=0.5)
    oracle.model.train()
    first, second = (
        pv.log_evidence(oracle.model, oracle.guide, oracle.batch, num_particles=30)
        for _ in range(2)
    )
    assert not torch.equal(first.log_px, second.log_px)
    assert oracle.model.training and all(
        p.requires_grad and p.grad is None for p in oracle.model.parameters()
    )


def digits_vae() -> tuple[pv.Model, pv.Guide, torch.Tensor]:
    train, _, test = load_digits().batches("static", batch_size=100, flatten=True)
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [64], 64, nn.Tanh)), "z"))
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(64, [64], 4, nn.Tanh)), "x"))
    pv.fit(pv.ElboLoss(model, guide), train, epochs=15, lr=1e-2)
    return model, guide, test.take(100)["x"]


def test_trained_vae_agrees_with_quadrature_on_100_digits() -> None:
    torch.set_default_dtype(torch.float32)
    model, guide, x = digits_vae()
    evidence, exact = (
        pv.log_evidence(model, guide, {"x": x}, num_particles=5000),
        quadrature(model, x),
    )
    assert abs(evidence.mean - exact.mean()) < 4 * evidence.monte_carlo_se
    assert ((evidence.log_px - exact).abs() < 4 * evidence.se).all()
    grid = pv.evidence.quadrature(model, {"x": x})
    torch.testing.assert_close(
        grid.log_px, exact, atol=1e-4, rtol=0
    )  # decoder and densities are in single precision
    assert grid.error.max() < 1e-4
    annealed = pv.evidence.annealed_importance(model, {"x": x}, num_steps=60, num_leapfrog=4)
    assert abs(annealed.mean - exact.mean()) < 4 * annealed.monte_carlo_se < 0.3
    assert kl_per_dim(model, guide, {"x": x}).shape == (2,)


@torch.no_grad()
def quadrature(
    model: pv.Model, x: torch.Tensor, points: int = 300, reach: float = 6.0
) -> torch.Tensor:
    axis = torch.linspace(-reach, reach, points)
    grid = torch.cartesian_prod(axis, axis)
    log_pz = model.nodes["z"]({}).log_prob(grid).double()
    logits = model.nodes["x"]({"z": grid}).base_dist.logits
    log_px_z = (x @ logits.T - nn.functional.softplus(logits).sum(-1)).double()
    return (log_px_z + log_pz).logsumexp(-1) + 2 * math.log(2 * reach / (points - 1))


def test_peak_memory_does_not_grow_with_k() -> None:
    code = """
import resource, torch, pyrovae as pv
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import Flat, StandardNormal
torch.set_num_threads(1)
model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [256], 784)), "z"))
guide = pv.Guide(z=pv.Node(NormalHead(MLP(784, [8], 4)), "x"))
for k in 500, 5000:  # the peak of a process only grows
    pv.log_evidence(model, guide, {"x": torch.ones(16, 784)}, num_particles=k)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    small, large = map(int, run.stdout.split())
    assert large < 1.2 * small


def vae(latent: nn.Module | None = None) -> tuple[pv.Model, pv.Guide]:
    model = pv.Model(z=latent or StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    return model, pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x"))


def test_refuses_a_global_latent() -> None:
    model, guide, batch, _ = oracles.linear_regression()
    with pytest.raises(
        pv.PairError,
        match=r"'w' lies outside plate 'data', so log p\(x_i\) has no per-datum estimate",
    ):
        pv.log_evidence(model, guide, batch, num_particles=10)


def test_refuses_a_guide_without_density() -> None:
    model, _ = vae()
    with pytest.raises(pv.PairError, match="'z' is a Delta, which has no density"):
        pv.log_evidence(model, AutoDelta(model), {"x": torch.ones(3, 4)}, num_particles=10)


def test_refuses_a_flat_prior() -> None:
    model, guide = vae()
    flat = pv.Model(z=Flat(2), x=model.nodes["x"])
    with pytest.raises(pv.PairError, match="'z' has a flat prior"):
        pv.log_evidence(flat, guide, {"x": torch.ones(3, 4)}, num_particles=10)


def test_a_guide_marked_for_enumeration_draws_and_agrees_with_the_sum() -> None:
    def model(x: torch.Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(torch.ones(3)), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(y.to(x), 1.0), obs=x)

    def guide(x: torch.Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("y", dist.Categorical(torch.ones(3)), infer={"enumerate": "parallel"})

    drawn = pv.log_evidence(model, guide, {"x": torch.ones(3)}, num_particles=1000)
    exact = pv.log_evidence(model, None, {"x": torch.ones(3)})
    assert ((drawn.log_px - exact.log_px).abs() < 5 * drawn.se).all()


def test_refuses_a_point_mass_beside_a_density() -> None:
    def model(x: torch.Tensor) -> None:
        with pyro.plate("data", len(x)):
            a, z = (pyro.sample(name, dist.Normal(0.0, 1.0)) for name in "az")
            pyro.sample("x", dist.Normal(a + z, 1.0), obs=x)

    guide = AutoGuideList(model)
    guide.append(AutoDelta(pyro.poutine.block(model, expose=["a"])))
    guide.append(AutoNormal(pyro.poutine.block(model, expose=["z"])))
    with pytest.raises(pv.PairError, match="'a' is a Delta"):
        pv.log_evidence(model, guide, {"x": torch.zeros(5)}, num_particles=10)


def test_refuses_batches_that_condition_on_different_data() -> None:
    model, guide = vae()
    data = [{"x": torch.ones(3, 4)}, {"x": torch.ones(3, 4), "y": torch.ones(3)}]
    with pytest.raises(pv.PairError, match="evaluate them apart"):
        pv.log_evidence(model, guide, data, num_particles=10)


class Pixels(nn.Module):
    """A pair whose latent pixels lie in a plate of their own, which meets the plate of the
    particles."""

    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim, self.loc = dim, nn.Parameter(torch.zeros(()))

    def model(self, x: torch.Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1), pyro.plate("pixels", 4, dim=self.dim):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample(
                "x", dist.Bernoulli(logits=z), obs=x.T.unsqueeze(-2) if self.dim is None else x.T
            )

    def guide(self, x: torch.Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1), pyro.plate("pixels", 4, dim=self.dim):
            pyro.sample("z", dist.Normal(self.loc, 1.0))


def test_refuses_a_plate_where_the_particles_go_but_trains_it() -> None:
    pixels, batch = Pixels(dim=-2), {"x": torch.ones(3, 4)}
    history = pv.fit(pv.ElboLoss(pixels.model, pixels.guide), [batch], epochs=2)
    assert len(history) == 2 and pixels.loc != 0
    message = r"plate 'pixels' lies at dim -2, where the K particles go.*trains as it is.*\.to_event\(1\)"
    with pytest.raises(pv.PairError, match=message):
        pv.log_evidence(pixels.model, pixels.guide, batch, num_particles=10)
    for plate in ("data", None):
        with pytest.raises(pv.PairError, match=message):
            pv.log_weights(pixels.model, pixels.guide, batch, 10, plate=plate)


@pytest.mark.parametrize("plate", ["data", None])
@pytest.mark.parametrize("num_particles", [4, 5])
def test_refuses_a_plate_left_of_the_particles(num_particles: int, plate: str | None) -> None:
    pixels = Pixels(dim=None)  # Pyro then takes the next free dim, -3
    with pytest.raises(
        pv.PairError, match=r"log-probabilities of shape \(4, ., 3\), expected \(K, B\)"
    ):
        pv.log_weights(
            pixels.model, pixels.guide, {"x": torch.ones(3, 4)}, num_particles, plate=plate
        )


def test_nothing_latent_is_exact() -> None:
    model, guide = pv.Model(x=StandardNormal(2)), pv.Guide(x=StandardNormal(2))
    x = torch.randn(5, 2)
    evidence = pv.log_evidence(model, guide, {"x": x}, num_particles=30)
    torch.testing.assert_close(evidence.log_px, dist.Normal(0.0, 1.0).log_prob(x).sum(-1))


def test_refuses_grey_pixels_in_any_batch() -> None:
    model, guide = vae()
    data = [{"x": torch.ones(128, 4)}, {"x": torch.full((1, 4), 0.5)}]
    with pytest.raises(pv.PairError, match="grey values such as 0.5"):
        pv.log_evidence(model, guide, data, num_particles=10)


def test_refuses_no_data_and_no_particles() -> None:
    model, guide = vae()
    with pytest.raises(pv.PairError, match="no batch"):
        pv.log_evidence(model, guide, [], num_particles=10)
    with pytest.raises(ValueError, match="num_particles=0"):
        pv.log_evidence(model, guide, {"x": torch.ones(3, 4)}, num_particles=0)


def test_autoguide_gives_per_datum_evidence() -> None:
    oracle = oracles.linear_gaussian(num_data=7)
    guide = AutoNormal(oracle.model, init_scale=0.2)
    evidence = pv.log_evidence(oracle.model, guide, [oracle.batch], num_particles=2000)
    assert evidence.log_px.shape == (7,)
    trusted = ~evidence.untrusted
    assert ((evidence.log_px - oracle.log_px).abs() < 5 * evidence.se)[trusted].all()


def test_says_when_it_cannot_be_trusted() -> None:
    oracle = oracles.linear_gaussian(num_data=20, spread=0.25)
    evidence = pv.log_evidence(oracle.model, oracle.guide, oracle.batch, num_particles=500)
    assert evidence.untrusted.any()
    assert f"k-hat > 0.7 for {int(evidence.untrusted.sum())} of 20 data" in str(evidence)
    assert "K = 500" in str(evidence) and "N = 20" in str(evidence) and "nats" in str(evidence)


def test_joint_evidence_of_data_that_share_latents(uncompiled: None) -> None:
    model, guide, batch, exact = oracles.linear_regression()
    evidence = pv.log_evidence(model, guide, batch, num_particles=300, plate=None)
    torch.testing.assert_close(evidence.log_px, exact.reshape(1), atol=1e-10, rtol=0)
    torch.testing.assert_close(evidence.elbo, exact.reshape(1), atol=1e-10, rtol=0)

    def wide(x: torch.Tensor, y: torch.Tensor) -> None:
        precision = torch.eye(3) + x.T @ x / 0.09
        pyro.sample(
            "w",
            dist.MultivariateNormal(
                torch.linalg.solve(precision, x.T @ y) / 0.09 + 0.02,
                precision_matrix=precision / 1.3,
            ),
        )

    for compile in ("off", "on"):
        evidence = pv.log_evidence(
            model, wide, [batch], num_particles=2000, plate=None, compile=compile
        )
        assert abs(evidence.mean - exact) < 4 * evidence.se.item() < 0.2
        assert not evidence.untrusted.any()


def test_joint_evidence_is_of_one_batch_and_of_whole_plates() -> None:
    model, guide, batch, _ = oracles.linear_regression()
    halves = [
        {name: value[part] for name, value in batch.items()}
        for part in (slice(0, 6), slice(6, 12))
    ]
    with pytest.raises(
        pv.PairError, match="yield several. Their joint evidence is not the sum of theirs"
    ):
        pv.log_evidence(model, guide, halves, num_particles=10, plate=None)
    with pytest.raises(ValueError, match="defensive=0.1 with plate=None"):
        pv.log_evidence(model, guide, batch, num_particles=10, plate=None, defensive=0.1)

    def subsampled(x: torch.Tensor, y: torch.Tensor) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("data", 100, subsample=torch.arange(12), dim=-1):
            pyro.sample("y", dist.Normal((x * w).sum(-1), 0.3), obs=y)

    with pytest.raises(
        pv.PairError, match="plate 'data' subsamples 12 of 100 data inside the model"
    ):
        pv.log_evidence(subsampled, guide, batch, num_particles=10, plate=None)


@pytest.mark.parametrize("options", [{}, {"compile": "on"}, {"chunk": 70}, {"defensive": 0.3}])
def test_a_support_that_depends_on_latents_gives_weights_of_0(options: dict) -> None:
    oracle = oracles.uniform_gamma()
    evidence = pv.log_evidence(
        oracle.model, oracle.guide, oracle.batch, num_particles=2000, **options
    )
    assert ((evidence.log_px - oracle.log_px).abs() < 5 * evidence.se).all() and (
        evidence.se < 0.2
    ).all()
    assert (evidence.elbo == -math.inf).all() and (evidence.ess > 100).all()


def test_the_joint_weight_is_0_where_one_datum_lies_outside() -> None:
    x = torch.tensor([0.2, 1.5, 0.9])

    def model(x: torch.Tensor) -> None:
        z = pyro.sample("z", dist.Gamma(4.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Uniform(0.0, z).expand([3]), obs=x)

    def guide(x: torch.Tensor) -> None:
        pyro.sample("z", dist.Gamma(2.0, 1.0))

    exact = -1.5 - math.log(6.0)  # z^3 exp(-z) / 6 times z^-3 from the largest datum on
    evidence = pv.log_evidence(model, guide, {"x": x}, num_particles=4000, plate=None)
    assert abs(evidence.mean - exact) < 5 * evidence.se.item() < 0.3


def test_a_support_that_does_not_move_is_still_asked_for() -> None:
    def model(x: torch.Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Gamma(2.0, 1.0))
            pyro.sample("x", dist.Uniform(0.0, torch.tensor(1.0)), obs=x[:, 0])
            pyro.sample("y", dist.Uniform(0.0, z), obs=x[:, 1])

    def guide(x: torch.Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Gamma(2.0, 1.0))

    with pytest.raises(pv.PairError, match="site 'x' is Uniform with support"):
        pv.log_evidence(
            model, guide, {"x": torch.tensor([[0.5, 2.0], [1.5, 0.1]])}, num_particles=30
        )
    with pytest.raises(pv.PairError, match="1.5"):
        pv.log_evidence(
            model,
            guide,
            [{"x": torch.tensor([[0.5, 2.0]])}, {"x": torch.tensor([[1.5, 0.1]])}],
            num_particles=30,
            compile="on",
        )
    assert (
        pv.log_evidence(model, guide, {"x": torch.tensor([[0.5, 2.0]])}, num_particles=30)
        .log_px.isfinite()
        .all()
    )


def test_weights_of_0_count_and_have_no_tail() -> None:
    weights = dist.Gamma(3.0, 1.0).sample((400, 3))
    weights[:100] = 0.0  # a first chunk with nothing
    weights[:, 1] *= torch.rand(400) < 0.05
    weights[:, 2] = 0.0
    summary = WeightSummary(400)
    for chunk in weights.log().split(100):
        summary.add(chunk)
    mean = weights.mean(0)
    torch.testing.assert_close(summary.log_mean, mean.log())
    torch.testing.assert_close(
        summary.ess[:2], (weights.sum(0) ** 2 / weights.square().sum(0))[:2]
    )
    left_out = ((weights.sum(0) - weights) / 399).log()
    se = (399 / 400 * (left_out - left_out.mean(0)).square().sum(0)).sqrt()
    torch.testing.assert_close(summary.se[:2], se[:2], rtol=1e-6, atol=0.0)
    torch.testing.assert_close(
        summary.jackknife[:2],
        (400 * mean.log() - 399 * left_out.mean(0))[:2],
        rtol=1e-6,
        atol=1e-9,
    )
    assert (summary.mean == -math.inf).all() and summary.mean_se.isnan().all()
    num = int((weights[:, 1] > 0).sum()) // 5
    assert num < 5 and summary.khat[1] == math.inf and summary.psis[1] == summary.log_mean[1]
    assert summary.khat[0] < 0.7 and abs(summary.psis[0] - summary.log_mean[0]) < 0.05
    assert summary.log_mean[2] == summary.psis[2] == summary.jackknife[2] == -math.inf
    assert summary.ess[2] == 0.0 and summary.se[2].isnan() and summary.khat[2] == math.inf


def test_a_few_equal_weights_among_zeros_have_no_heavy_tail() -> None:
    weights = torch.zeros(2000, 1)
    weights[::25] = 1.0
    summary = WeightSummary(2000)
    summary.add(weights.log())
    assert summary.khat[0] == -math.inf and summary.psis[0] == summary.log_mean[
        0
    ] == pytest.approx(math.log(0.04))
