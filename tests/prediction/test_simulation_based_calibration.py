"""Simulation-based calibration: uniform ranks for exact posteriors, and nothing else passes."""

import math

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import NUTS
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from scipy.stats import chisquare, uniform
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.guides import JointNormal, MeanField, PointEstimate
from pyrovae.bnn.samplers import Chains, hmc, mcmc
from pyrovae.heads import FixedScaleNormalHead
from pyrovae.metrics import rank_bins, rank_counts, rank_statistics, uniformity_p_value
from pyrovae.prediction import (
    SimulatedRanks,
    amortized_posterior,
    chain_posterior,
    fitted_posterior,
    log_likelihood,
    one_by_one,
    ranks_to_arviz,
    simulate,
    simulation_based_calibration,
)

N, D, NOISE = 12, 3, 0.5
X = torch.randn(N, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
X[:, 1] = 0.95 * X[:, 0] + 0.3 * X[:, 1]  # two columns that are hard to tell apart


def regression() -> tuple[pv.Model, pv.Bayesian]:
    """y = x w + noise with a standard normal prior of w: everything is known."""
    net = pv.Bayesian(nn.Linear(D, 1, bias=False))
    return pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=NOISE), "x")), net


def exact(x: Tensor, y: Tensor, shift: float = 0.0, spread: float = 1.0) -> None:
    """The posterior of the weights in closed form, or one moved and widened by so many standard
    deviations."""
    precision = torch.eye(D) + x.T @ x / NOISE**2
    covariance = torch.linalg.inv(precision)
    mean = (covariance @ x.T @ y)[..., 0] / NOISE**2 + shift * covariance.diagonal().sqrt()
    flat = pyro.sample(
        "flat",
        dist.MultivariateNormal(mean, spread**2 * covariance),
        infer={"is_auxiliary": True},
    )
    pyro.sample("w.weight", dist.Delta(flat.unsqueeze(-2), event_dim=2))


def prior(x: Tensor, y: Tensor) -> None:
    pyro.sample("w.weight", dist.Normal(torch.zeros(1, D), 1.0).to_event(2))


def calibrate(guide: object, num: int = 500, **settings: object) -> SimulatedRanks:
    return simulation_based_calibration(
        regression()[0],
        amortized_posterior(guide, num_draws=99),
        {"x": X},
        num_simulations=num,
        **settings,
    )


def make(guide: type, **settings: object) -> object:
    def loss(index: int) -> pv.ElboLoss:
        model, net = regression()
        return pv.ElboLoss(model, guide(net), num_data=N, **settings)

    return loss


def test_simulations_follow_the_model() -> None:
    found = simulate(regression()[0], {"x": X}, num_simulations=4000)
    assert len(found) == 4000 and found.latents["w.weight"].shape == (4000, 1, D)
    assert found.data["x"].shape == (4000, N, D) and torch.equal(found.data["x"][7], X)
    noise = found.data["y"] - X @ found.latents["w.weight"].mT  # of what made them
    assert abs(noise.std() - NOISE) < 5 * NOISE / math.sqrt(2 * noise.numel())
    assert (found.latents["w.weight"].std(0) - 1).abs().max() < 5 / math.sqrt(2 * 4000)


def test_simulations_of_local_latents_and_of_placeholders(vae_pair: tuple) -> None:
    model, _ = vae_pair
    found = simulate(model, {"num": 3}, num_simulations=5, observed=("x",))
    assert found.latents["z"].shape == (5, 3, 2) and set(found.data) == {"x"}
    held = simulate(model, {"x": torch.full((3, 4), 7.0)}, num_simulations=5, observed=("x",))
    assert held.data["x"].max() == 1


@pytest.fixture
def vae_pair() -> tuple[pv.Model, pv.Guide]:
    from pyrovae.heads import BernoulliHead, NormalHead
    from pyrovae.nets import MLP
    from pyrovae.priors import StandardNormal

    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    return model, pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 2 * 2)), "x"))


def test_simulating_says_what_it_lacks() -> None:
    model, _ = regression()

    def two(x: Tensor, y: Tensor, c: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.Normal(z, 1.0), obs=c)
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    row = torch.zeros(3)
    with pytest.raises(pv.PairError, match=r"has no sites \['t'\]"):
        simulate(model, {"x": X}, num_simulations=2, observed=("t",))
    with pytest.raises(pv.PairError, match=r"observes \['c'\] too"):
        simulate(two, {"x": row, "y": row, "c": row}, num_simulations=2)
    with pytest.raises(pv.PairError, match=r"called as model\(x=...\).*placeholders"):
        simulate(two, {"x": row}, num_simulations=2)
    with pytest.raises(pv.PairError, match="no posterior to look at"):
        simulate(model, {"x": X}, num_simulations=2, observed=("y", "w.weight"))
    with pytest.raises(ValueError, match="num_simulations=0"):
        simulate(model, {"x": X}, num_simulations=0)


def test_ranks_count_draws_below_and_break_ties_evenly() -> None:
    draws = torch.tensor([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]])
    assert rank_statistics(draws, torch.tensor([2.5, 9.0])).tolist() == [2, 3]
    tied = rank_statistics(torch.zeros(3, 40_000), torch.zeros(40_000))
    share = torch.bincount(tied) / 40_000
    assert len(share) == 4 and (share - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 40_000)
    with pytest.raises(ValueError, match=r"truth has shape \(2, 1\)"):
        rank_statistics(draws, torch.zeros(2, 1))
    with pytest.raises(ValueError, match="1 draws or true values are NaN"):
        rank_statistics(draws, torch.tensor([0.0, math.nan]))
    with pytest.raises(ValueError, match="at least one draw"):
        rank_statistics(draws[:0], draws[0])


@pytest.mark.parametrize(("num_draws", "bins"), [(99, 10), (99, 7), (12, 5), (3, 4)])
def test_counts_and_p_values_are_those_of_scipy(num_draws: int, bins: int) -> None:
    ranks = torch.randint(0, num_draws + 1, (300,))
    counts, expected = rank_counts(ranks, num_draws, bins)
    assert counts.sum() == 300 and expected.sum().item() == pytest.approx(300)
    reference = chisquare(counts.numpy(), expected.numpy()).pvalue
    assert uniformity_p_value(ranks, num_draws, bins).item() == pytest.approx(reference, abs=1e-12)


def test_bins_by_default_and_wrong_ones() -> None:
    assert [rank_bins(*pair) for pair in ((500, 199), (500, 9), (30, 99), (500, 96), (500, 1))] == [
        20, 10, 2, 20, 2,
    ]  # fmt: skip
    ranks = torch.arange(5)
    with pytest.raises(ValueError, match="from 2 to L [+] 1 = 5"):
        rank_counts(ranks, 4, 6)
    with pytest.raises(ValueError, match="not numbers from 0 to L = 3"):
        rank_counts(ranks, 3, 2)


def test_p_values_of_an_exact_posterior_are_uniform() -> None:
    """Over 60 studies with three weights each (a weight a study, as weights of one study depend on
    each other); Kolmogorov's statistic above 1.95 / 60^0.5 has probability 1e-3."""
    p_values = torch.stack(
        [calibrate(exact, num=200).p_values()["w.weight"][0, index % D] for index in range(60)]
    )
    order = torch.arange(1, 61) / 60
    sorted_values = p_values.sort().values
    distance = torch.maximum(order - sorted_values, sorted_values - order + 1 / 60).max()
    assert distance < 1.95 / math.sqrt(60)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"spread": 1.5}, "too wide"),
        ({"spread": 0.6}, "too narrow"),
        ({"shift": 0.5}, "too high"),
        ({"shift": -0.5}, "too low"),
    ],
)
def test_wrong_posteriors_are_rejected_and_named(wrong: dict[str, float], word: str) -> None:
    ranks = calibrate(lambda x, y: exact(x, y, **wrong))
    assert ranks.p_values()["w.weight"].max() < 1e-6 and ranks.p_value() < 1e-6
    assert f"{word} in 3 of 3" in str(ranks)
    right = calibrate(exact)
    assert right.p_value() > 1e-3 and "too" not in str(right)


def test_the_prior_as_posterior_shows_in_the_log_likelihood_alone() -> None:
    quantities = {"log_likelihood": log_likelihood(regression()[0])}
    ranks = calibrate(prior, quantities=quantities)
    assert ranks.p_values()["w.weight"].min() > 1e-3
    assert ranks.ranks["log_likelihood"].shape == (500,)
    assert ranks.p_values()["log_likelihood"] < 1e-6
    assert calibrate(exact, quantities=quantities).p_value() > 1e-3


def test_log_likelihood_is_that_of_the_model() -> None:
    model, _ = regression()
    w, y = torch.randn(1, D), torch.randn(N, 1)
    expected = dist.Normal(X @ w.T, NOISE).log_prob(y).sum()
    found = log_likelihood(model)({"w.weight": w}, {"x": X, "y": y})
    torch.testing.assert_close(found, expected)


def train(loss: pv.Stacked, data: dict[str, Tensor]) -> None:
    """To where the loss no longer falls: 200 steps with a rate that goes to 0."""
    pv.fit(
        loss,
        data,
        epochs=200,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.1),
        schedule=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200),
        compile="off",
    )


def test_mean_field_is_too_narrow_where_weights_are_correlated() -> None:
    model, _ = regression()
    posterior = fitted_posterior(make(MeanField), train, num_draws=99)
    ranks = simulation_based_calibration(model, posterior, {"x": X}, num_simulations=200)
    assert ranks.p_values()["w.weight"][0, :2].max() < 1e-6
    assert ranks.spread()["w.weight"][0, :2].min() > 1.4
    assert "too narrow in 2 of 3" in str(ranks)


@pytest.mark.parametrize("guide", [JointNormal, AutoNormal, AutoMultivariateNormal])
def test_draws_of_stacked_guides_are_those_of_each_member(guide: type) -> None:
    """Moments of many draws against those of the members on their own; autoguides too."""

    def loss(index: int) -> pv.ElboLoss:
        model, net = regression()
        program = guide(net) if guide is JointNormal else guide(model, init_scale=0.3)
        return pv.ElboLoss(model, program, num_data=N)

    found: list[pv.Stacked] = []
    data = dict(simulate(regression()[0], {"x": X}, num_simulations=2).data)
    posterior = fitted_posterior(loss, lambda loss, _: found.append(loss), num_draws=4000)
    draws = posterior(data)["w.weight"]
    assert draws.shape == (4000, 2, 1, D)
    for index in range(2):
        own = found[0].member(index)
        rows = {name: value[index] for name, value in data.items()}
        alone = pv.predict(own.model, own.guide, rows, num_samples=4000)["w.weight"].squeeze(1)
        error = ((draws[:, index].var(0) + alone.var(0)) / 4000).sqrt()
        assert ((draws[:, index].mean(0) - alone.mean(0)).abs() < 5 * error).all()
        assert (draws[:, index].std(0) / alone.std(0) - 1).abs().max() < 0.1  # 5 of its errors
    assert (draws[:, 0] - draws[:, 1]).abs().min() > 0  # noise of its own


def test_chains_of_all_data_sets_at_once_are_flat() -> None:
    model, _ = regression()
    posterior = chain_posterior(
        make(PointEstimate),
        lambda loss, data: hmc(
            loss, data, num_data=N, num_samples=39, warmup=60, num_steps=8, step_size=0.1
        ),
    )
    ranks = simulation_based_calibration(model, posterior, {"x": X}, num_simulations=200, thin=2)
    assert ranks.num_draws == 19 and ranks.p_value() > 1e-3
    assert "too" not in str(ranks)


def test_one_data_set_after_another() -> None:
    model, _ = regression()
    seen: list[int] = []
    posterior = one_by_one(
        lambda rows: mcmc(model, rows, NUTS, num_samples=3, warmup=3, num_chains=2),
        progress=seen.append,
    )
    ranks = simulation_based_calibration(model, posterior, {"x": X}, num_simulations=2)
    assert seen == [0, 1] and ranks.num_draws == 6 and ranks.ranks["w.weight"].shape == (2, 1, D)


def test_draws_of_several_chains_are_thinned_within_each() -> None:
    def slow(rows: dict[str, Tensor]) -> Chains:
        draws = torch.arange(20.0).reshape(20, 1, 1, 1) + torch.zeros(20, 4, 1, D)
        numbers = torch.zeros(20, 4)
        return Chains({"w.weight": draws}, numbers, numbers, numbers.bool(), torch.ones(4))

    model, _ = regression()
    data = dict(simulate(model, {"x": X}, num_simulations=2).data)
    draws = one_by_one(slow)(data)["w.weight"][4::5, 0, 0, 0]
    assert draws.tolist() == 4 * [4.0, 9.0, 14.0, 19.0]
    ranks = simulation_based_calibration(model, one_by_one(slow), {"x": X}, num_simulations=5)
    assert ranks.num_draws == 80 and "thin them" in str(ranks)


def test_amortised_guides_of_local_latents(vae_pair: tuple) -> None:
    model, guide = vae_pair
    ranks = simulation_based_calibration(
        model,
        amortized_posterior(guide, num_draws=19),
        {"num": 3},
        num_simulations=100,
        observed=("x",),
        quantities={"log_likelihood": log_likelihood(model)},
    )
    assert ranks.ranks["z"].shape == (100, 3, 2) and ranks.counts(4)["z"].shape == (4, 3, 2)
    assert list(ranks.numbers())[-2:] == ["z[2,1]", "log_likelihood"]


def test_guides_that_vmap_refuses_run_one_after_another(caplog: pytest.LogCaptureFixture) -> None:
    def looks(x: Tensor, y: Tensor) -> None:
        exact(x, y, shift=0.0 if y.sum().item() < 0 else 1e-9)

    posterior = amortized_posterior(looks, num_draws=2000)
    data = dict(simulate(regression()[0], {"x": X}, num_simulations=2).data)
    draws = posterior(data)["w.weight"]
    assert draws.shape == (2000, 2, 1, D) and "one data set after another" in caplog.text
    at_once = amortized_posterior(exact, num_draws=2000)(data)["w.weight"]
    error = ((draws.var(0) + at_once.var(0)) / 2000).sqrt()
    assert ((draws.mean(0) - at_once.mean(0)).abs() < 5 * error).all()
    with pytest.raises(pv.PairError, match="refuses the quantity 'sign'"):
        calibrate(exact, num=5, quantities={"sign": lambda latents, data: data["y"].sum().item()})


def test_discrete_latents_of_a_hand_written_program() -> None:
    x, means = torch.linspace(-1, 1, 4), torch.tensor([-1.0, 0.0, 1.0])

    def model(x: Tensor, y: Tensor) -> None:
        k = pyro.sample("k", dist.Categorical(torch.ones(3) / 3))
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("y", dist.Normal(means[k] * x, 1.0), obs=y)

    def guide(x: Tensor, y: Tensor) -> None:
        logits = dist.Normal(means[:, None] * x, 1.0).log_prob(y).sum(-1)
        pyro.sample("k", dist.Categorical(logits=logits))

    def study(guide: object) -> SimulatedRanks:
        posterior = amortized_posterior(guide, num_draws=99)
        return simulation_based_calibration(
            model, posterior, {"x": x, "y": torch.zeros(4)}, num_simulations=500
        )

    right = study(guide)
    assert right.ranks["k"].shape == (500,) and right.p_value() > 1e-3
    wrong = study(lambda x, y: pyro.sample("k", dist.Categorical(torch.tensor([0.6, 0.3, 0.1]))))
    assert wrong.p_value() < 1e-6 and "too low in 1 of 1" in str(wrong)


def test_dependent_draws_are_reported() -> None:
    chain = torch.randn(50, 40).cumsum(0)
    ranks = SimulatedRanks.of({"w": chain}, {"w": chain[0]})
    assert ranks.autocorrelation["w"] > 0.8 and "thin them" in str(ranks)
    still = SimulatedRanks.of({"w": torch.zeros(1, 40)}, {"w": torch.zeros(40)})
    assert still.autocorrelation["w"] == 0 and "thin" not in str(still)


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        ({"w.weight": torch.zeros(9, 5, D)}, r"shapes \{'w.weight': \(9, 5, 3\)\}"),
        ({"v": torch.zeros(9, 5, 1, D)}, r"expected some of \{'w.weight': \('L', 5, 1, 3\)\}"),
        ({}, "shapes {}"),
    ],
)
def test_other_draws_than_of_the_latents_are_refused(draws: dict, message: str) -> None:
    model, _ = regression()
    with pytest.raises(pv.PairError, match=message):
        simulation_based_calibration(model, lambda _: draws, {"x": X}, num_simulations=5)


def test_other_misuse_is_refused() -> None:
    model, net = regression()
    fine = {"w.weight": torch.zeros(9, 5, 1, D)}
    with pytest.raises(ValueError, match="thin=0"):
        calibrate(exact, thin=0)
    with pytest.raises(ValueError, match="num_draws=0"):
        amortized_posterior(exact, num_draws=0)
    with pytest.raises(pv.PairError, match="names of sites"):
        simulation_based_calibration(
            model,
            lambda _: fine,
            {"x": X},
            num_simulations=5,
            quantities={"w.weight": log_likelihood(model)},
        )
    with pytest.raises(pv.PairError, match="has no guide to draw from"):
        fitted_posterior(lambda index: nn.Linear(1, 1), lambda *_: None, num_draws=2)({"x": X})


def test_arviz_draws_the_transforms() -> None:
    ranks = calibrate(exact, num=50)
    data = ranks_to_arviz(ranks)
    values = data["prior_sbc"]["w.weight"]
    assert dict(values.sizes) == {"chain": 1, "draw": 50, "w.weight_dim_0": 1, "w.weight_dim_1": D}
    if hasattr(arviz, "plot_ecdf_pit"):
        arviz.plot_ecdf_pit(data)
    else:
        arviz.plot_ecdf(
            values.values[0, :, 0, 0],
            eval_points=np.linspace(0, 1, 100),
            cdf=uniform.cdf,
            difference=True,
            confidence_bands=True,
        )
