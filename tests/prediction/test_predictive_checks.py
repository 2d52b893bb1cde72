"""Posterior-predictive checks: replicates of the right model look like the data, others do not."""

import arviz
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

import pyrovae as pv
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.plots import predictive_checks
from pyrovae.prediction import posterior_predictive_check
from pyrovae.priors import StandardNormal

STATISTICS = {"mean": torch.mean, "sd": torch.std, "largest": torch.max}


def model(y: Tensor) -> None:
    """A normal of unknown mean and known scale."""
    m = pyro.sample("m", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(y), dim=-1):
        pyro.sample("y", dist.Normal(m, 1.0), obs=y)


def guide(y: Tensor) -> None:
    """Its exact posterior."""
    precision = len(y) + 0.01
    pyro.sample("m", dist.Normal(y.sum() / precision, precision**-0.5))


def test_replicates_have_the_moments_of_the_posterior_predictive() -> None:
    y = 3.0 + torch.randn(50)
    check = posterior_predictive_check(model, guide, {"y": y}, STATISTICS, num_samples=4000)
    assert check.observed["mean"] == y.mean() and check.replicated["sd"].shape == (4000,)
    variance = 1 / 50 + 1 / 50.01  # of the mean of a replicate: its noise, and the posterior
    expected = y.sum() / 50.01
    assert abs(check.replicated["mean"].mean() - expected) < 5 * (variance / 4000) ** 0.5
    assert abs(check.replicated["mean"].var() / variance - 1) < 5 * (2 / 4000) ** 0.5
    assert all(0.01 < value < 0.99 for value in check.p_values.values())
    assert "mean: " in str(check) and "4000 replicates" in str(check)


def test_data_of_another_scale_or_with_an_outlier_stand_out() -> None:
    y = torch.randn(50)
    wide = posterior_predictive_check(model, guide, {"y": 2 * y}, STATISTICS, num_samples=500)
    assert wide.p_values["sd"] < 0.01 and 0.3 < wide.p_values["mean"] < 0.7
    narrow = posterior_predictive_check(model, guide, {"y": 0.5 * y}, STATISTICS, num_samples=500)
    assert narrow.p_values["sd"] > 0.99
    y[7] = 9.0
    outlier = posterior_predictive_check(model, guide, {"y": y}, STATISTICS, num_samples=500)
    assert outlier.p_values["largest"] < 0.01 and outlier.pit[7] > 0.99
    titles = [axes.get_title() for axes in predictive_checks(outlier.panels()).axes]
    assert [title.split("\n")[0] for title in titles] == list(STATISTICS)


def test_transforms_of_held_out_data_are_uniform() -> None:
    y = torch.randn(2000)
    check = posterior_predictive_check(model, guide, {"y": y}, {}, num_samples=200)
    counts = torch.histc(check.pit, 10, 0, 1)
    # chi-square of 9 degrees of freedom, 1e-4 beyond; one of 2000 data is hardly seen by the guide
    assert ((counts - 200) ** 2 / 200).sum() < 33.7 and check.pit.shape == (2000,)


def test_ties_count_by_half_and_local_latents_have_checks_too() -> None:
    pair = (
        pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z")),
        pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "x")),
    )
    x = torch.ones(3, 4)
    check = posterior_predictive_check(
        *pair, x, {"zero": lambda x: 0.0 * x.sum()}, num_samples=20, site="x", names=("x",)
    )
    assert check.p_values == {"zero": 0.5} and check.pit.shape == (3, 4)


def test_what_cannot_be_checked_is_refused() -> None:
    y = torch.randn(5)
    with pytest.raises(pv.PairError, match=r"site='x', but the data name \['y'\]"):
        posterior_predictive_check(model, guide, {"y": y}, STATISTICS, num_samples=2, site="x")
    with pytest.raises(pv.PairError, match=r"shapes \{'square': \(5,\)\}, expected one number"):
        posterior_predictive_check(model, guide, {"y": y}, {"square": torch.square}, num_samples=2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:arviz")
def test_arviz_draws_its_checks_from_posterior_draws() -> None:
    y = torch.randn(30)
    draws = pv.posterior_draws(model, guide, {"y": y}, num_samples=100)
    data = pv.to_inference_data(draws)
    if hasattr(arviz, "plot_ppc_tstat"):
        arviz.plot_ppc_tstat(data)
    else:
        arviz.plot_bpv(data, kind="t_stat", t_stat="std")
        arviz.plot_loo_pit(data, y="y")


@pytest.mark.parametrize("how", ["mask", "fn", "obs_mask", "event"])
def test_masked_data_are_left_out(how: str) -> None:
    """What stands in their place is read neither in the data nor in replicates."""
    known = torch.arange(40) % 4 > 0
    y = torch.where(known, torch.randn(40), torch.tensor(-999.0))

    def masked(y: Tensor, known: Tensor) -> None:
        m, wide = pyro.sample("m", dist.Normal(0.0, 10.0)), how == "event"
        fn = dist.Normal(m.unsqueeze(-1).expand(*m.shape, 2), 1.0).to_event(1) if wide else None
        fn = fn or dist.Normal(m, 1.0)
        with pyro.plate("data", 40, dim=-1), poutine.mask(mask=known if how == "mask" else True):
            pyro.sample(
                "y",
                fn.mask(known) if how in ("fn", "event") else fn,
                obs=y,
                obs_mask=known if how == "obs_mask" else None,
            )

    def posterior(y: Tensor, known: Tensor) -> None:
        guide(y[known])

    batch = {"y": y.unsqueeze(-1).expand(40, 2) if how == "event" else y, "known": known}
    check = posterior_predictive_check(masked, posterior, batch, STATISTICS, num_samples=300)
    assert torch.isclose(check.observed["mean"], y[known].mean())
    assert all(0.002 < value < 0.998 for value in check.p_values.values()) or how == "event"
    assert check.pit.shape == batch["y"].shape
    assert check.pit[~known].isnan().all() and check.pit[known].isfinite().all()
    whole = posterior_predictive_check(model, guide, {"y": y[known]}, {}, num_samples=300)
    if how != "event":
        assert (check.pit[known] - whole.pit).abs().max() < 0.25


def test_masks_of_parts_of_data_are_refused() -> None:
    known = torch.tensor([[True, False], [True, True]])

    def masked(y: Tensor) -> None:
        m = pyro.sample("m", dist.Normal(0.0, 10.0))
        with pyro.plate("data", 2, dim=-1):
            fn = dist.Normal(m.unsqueeze(-1).expand(*m.shape, 2), 1.0).mask(known)
            pyro.sample("y", fn.to_event(1), obs=y)

    with pytest.raises(pv.PairError, match="a mask leaves out parts of data"):
        posterior_predictive_check(masked, guide, {"y": torch.zeros(2, 2)}, {}, num_samples=5)
