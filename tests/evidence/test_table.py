"""One table of every estimate."""

import math

import oracles
import pytest
import torch

import pyrovae as pv
from pyrovae.evidence import evidence_table
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal


def test_rows_agree_with_the_exact_value_and_with_each_other() -> None:
    oracle = oracles.linear_gaussian(num_data=20, shift=0.4, spread=1.2)
    data = ({"x": part} for part in oracle.batch["x"].split(7))  # can be read once
    table = evidence_table(
        oracle.model,
        oracle.guide,
        data,
        num_particles=(400, 1),
        num_chains=50,
        num_steps=80,
        num_leapfrog=3,
    )
    assert [(row.method, row.num_particles) for row in table.rows] == [
        ("ELBO", 400),
        ("IS", 1),
        ("IS", 400),
        ("AIS", 50),
        ("quadrature", None),
    ]
    elbo, one, many, annealed, grid = table.rows
    exact = oracle.log_px.mean().item()
    assert grid.mean == pytest.approx(exact, abs=1e-8) and grid.monte_carlo_se < 1e-8
    for row in (many, annealed):
        assert abs(row.mean - exact) < 5 * row.monte_carlo_se < 0.6
    posterior, q = (pair.guide.nodes["z"](oracle.batch) for pair in (again(), oracle))
    gap = torch.distributions.kl_divergence(q, posterior).mean().item()
    assert abs(elbo.mean - exact + gap) < 5 * elbo.monte_carlo_se < 0.2
    assert math.isnan(one.monte_carlo_se) and one.untrusted is None and many.untrusted == 0
    for row in table.rows:
        assert row.seconds > 0 and (
            row is one or abs(row.se - oracle.log_px.std() / 20**0.5) < 0.1
        )


def again() -> oracles.Oracle:
    """The first oracle of a test once more, with the exact posterior as its guide."""
    torch.manual_seed(0)
    return oracles.linear_gaussian(num_data=20)


def test_is_printed_in_markdown() -> None:
    model = pv.Model(z=StandardNormal(3), x=pv.Node(BernoulliHead(MLP(3, [8], 4)), "z"))
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 6)), "x"))
    table = evidence_table(
        model, guide, {"x": torch.ones(3, 4)}, num_particles=(1, 30), num_steps=None
    )
    lines = str(table).splitlines()
    assert len(lines) == 5 and all(
        line.count("|") == 8 for line in lines
    )  # no quadrature of 3 dimensions
    assert (
        "mean over N = 3" in lines[0]
        and lines[3].startswith("| IS | 1 | -")
        and "nan" not in str(table)
    )


def test_leaves_out_the_grid_of_bounded_latents_and_refuses_no_particles() -> None:
    oracle = oracles.beta_bernoulli()
    table = evidence_table(
        oracle.model, oracle.guide, oracle.batch, num_particles=(30,), num_steps=None
    )
    assert [row.method for row in table.rows] == ["ELBO", "IS"]
    assert table.rows[1].mean == pytest.approx(oracle.log_px.mean().item(), abs=1e-9)
    with pytest.raises(pv.PairError, match="'p' is bounded"):
        evidence_table(oracle.model, oracle.guide, oracle.batch, num_particles=(30,))
    with pytest.raises(ValueError, match="num_particles is empty"):
        evidence_table(oracle.model, oracle.guide, oracle.batch, num_particles=())
