"""Posteriors and traversals of VAEs: which there are, and what they show."""

from pathlib import Path

import pytest
import torch
from untrained_vae import untrained

import pyrovae as pv
from pyrovae.recipes.latent_figures import of_trained, posteriors, traversals
from pyrovae.recipes.vae_model_settings import ModelSettings


@pytest.mark.parametrize(
    ("settings", "expected", "panels"),
    [
        ({"latent_dim": (2,), "prior": "mixture", "guide": "full-rank"}, True, 1),
        ({"latent_dim": (8,), "prior": "flow", "guide": "iaf"}, True, 6),
        ({"latent_dim": (1,)}, True, 1),
        ({"latent_dim": (3,), "guide": "point", "prior": "laplace"}, False, 0),
        ({"latent_dim": (3,), "guide": "point", "prior": "flat"}, False, 0),
    ],
)
def test_posteriors_are_drawn_where_there_are_any(
    settings: dict, expected: bool, panels: int, tmp_path: Path
) -> None:
    run = untrained(tmp_path, ModelSettings(hidden=(8,), **settings))
    data, size = run.data("test"), settings["latent_dim"][0]
    codes, state = run.encode(data.data.tensors["x"], num_draws=2).mean, torch.get_rng_state()
    found = of_trained(
        run.model, run.guide, data, codes, codes.var(0), lambda z: torch.zeros(len(z), 1, 2, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert ("posteriors" in found) == expected and "traversals" in found
    if expected:
        assert len(found["posteriors"].axes) == panels
        title = found["posteriors"].axes[0].get_title() if size == 2 else ""
        assert not title or "20 test data" in title
    own = "standard deviations of the codes" in found["traversals"].axes[0].get_title()
    assert own != expected


def test_a_prior_of_other_variables_has_no_figure() -> None:
    prior = pv.Node(pv.heads.NormalHead(pv.nets.MLP(2, [4], 4)), "c")
    assert posteriors(prior, torch.randn(5, 3, 2), torch.ones(2), None, what="") == {}


def test_traversals_walk_the_most_used_dims_first() -> None:
    seen = []

    def decode(z: torch.Tensor) -> torch.Tensor:
        seen.append(z)
        return torch.zeros(len(z), 1, 2, 2)

    codes, start = torch.randn(50, 3), torch.tensor([0.1, 0.2, 0.3])
    traversals(decode, start, torch.tensor([0.5, 2.0, 1.0]), codes, own_scale=False)
    (path,) = (each.reshape(3, 9, 3) for each in seen)
    assert path[0, :, 1].tolist() == pytest.approx(torch.linspace(-2.5, 2.5, 9).tolist())
    assert (path[0, :, 0] == 0.1).all() and (path[1, :, 1] == 0.2).all()
