"""A share of draws from the prior: right where the guide is badly wrong, with weights that are
bounded."""

import math

import oracles
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import pyrovae as pv
from pyrovae.evidence.defensive import Mixture

BAD = {"moved": {"shift": 4.0}, "narrow": {"spread": 0.2}}


@pytest.mark.parametrize("name", BAD)
def test_defensive_draws_are_exact_where_the_guide_is_badly_wrong(name: str) -> None:
    oracle = oracles.linear_gaussian(num_data=60, latent=1, **BAD[name])
    evidence = pv.log_evidence(
        oracle.model, oracle.guide, oracle.batch, num_particles=3000, defensive=0.3
    )
    assert abs(evidence.mean - oracle.log_px.mean()) < 4 * evidence.monte_carlo_se < 0.1
    assert ((evidence.log_px - oracle.log_px).abs() < 5 * evidence.se).all()
    plain = pv.log_evidence(oracle.model, oracle.guide, oracle.batch, num_particles=3000)
    assert evidence.khat.median() < 0.7 < plain.khat.median()
    assert (evidence.log_px - oracle.log_px).abs().max() < (
        plain.log_px - oracle.log_px
    ).abs().max()


@pytest.mark.parametrize("num_particles", [7, 300, 1001])
def test_defensive_weights_are_bounded_and_make_up_the_share(num_particles: int) -> None:
    oracle = oracles.linear_gaussian(num_data=9, shift=5.0)
    mixture = Mixture(oracle.model, 0.15, num_particles, 100, "data")
    starts = range(0, num_particles, 250)
    log_weights = torch.cat(
        [
            mixture.log_weights(oracle.guide, oracle.batch, start, min(start + 250, num_particles))
            for start in starts
        ]
    )
    assert log_weights.shape == (num_particles, 9)
    peak = (
        oracle.model.nodes["x"]
        .conditional(torch.zeros(2))
        .log_prob(oracle.model.nodes["x"].conditional.bias)
    )
    assert (
        log_weights <= peak - math.log(mixture.num_prior / num_particles)
    ).all()  # p(x | z) / a
    drawn = [stop * mixture.num_prior // num_particles for stop in (0, *starts[1:], num_particles)]
    assert drawn[-1] == mixture.num_prior == round(0.15 * num_particles)


def test_defensive_draws_of_hierarchies_and_bounded_sites() -> None:
    for oracle in (oracles.two_level(), oracles.beta_bernoulli()):
        evidence = pv.log_evidence(
            oracle.model, oracle.guide, oracle.batch, num_particles=2000, defensive=0.1
        )
        assert (
            (evidence.log_px - oracle.log_px).abs() < 5 * evidence.se
        ).all() and evidence.se.max() < 0.1


def test_defensive_result_does_not_depend_on_chunk_or_batches() -> None:
    oracle = oracles.linear_gaussian(num_data=20, shift=2.0)
    results = []
    for chunk, size in ((500, 20), (7, 3)):
        torch.manual_seed(3)
        data = [{"x": part} for part in oracle.batch["x"].split(size)]
        results.append(
            pv.log_evidence(
                oracle.model, oracle.guide, data, num_particles=600, chunk=chunk, defensive=0.1
            )
        )
    torch.testing.assert_close(results[0].log_px, results[1].log_px, rtol=1e-9, atol=1e-9)


def test_refuses_defensive_shares_without_draws_and_guides_that_cannot_score() -> None:
    oracle = oracles.linear_gaussian()
    for share, num_particles in ((0.1, 3), (0.9, 2), (1.0, 10), (-0.1, 10)):
        with pytest.raises(
            ValueError, match=f"defensive={share} of num_particles={num_particles}"
        ):
            pv.log_evidence(
                oracle.model,
                oracle.guide,
                oracle.batch,
                num_particles=num_particles,
                defensive=share,
            )
    with pytest.raises(
        pv.PairError,
        match="Delta or auxiliary.*defensive sampling scores the draws of prior and guide",
    ):
        pv.log_evidence(
            oracle.model, AutoNormal(oracle.model), oracle.batch, num_particles=10, defensive=0.5
        )
