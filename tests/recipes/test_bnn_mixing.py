"""R-hat of the chains of a network, against ArviZ's of the log-likelihoods themselves."""

from pathlib import Path

import arviz
import numpy as np
import pytest
import torch
from test_scripts import run
from torch import nn

import pyrovae as pv
from pyrovae.bnn.guides import Empirical
from pyrovae.heads import FixedScaleNormalHead
from pyrovae.recipes.bnn_mixing import mixing
from pyrovae.recipes.bnn_scores import Scores


def line() -> pv.Model:
    net = pv.Bayesian(nn.Linear(1, 1, bias=False))
    return pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=1.0), "x"))


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_it_is_of_log_p_chain_after_chain(apart: float) -> None:
    w = torch.randn(3, 50) + apart * torch.arange(3.0)[:, None]
    batch = {"x": torch.tensor([[1.0], [2.0]]), "y": torch.zeros(2, 1)}
    log_p = -0.5 * (w[..., None] * batch["x"][:, 0]) ** 2
    found = mixing(line(), Empirical({"w.weight": w.reshape(150, 1, 1)}), batch, 150, 3)
    worst = max(float(arviz.rhat(log_p[..., n].numpy())) for n in range(2))
    least = min(float(arviz.ess(log_p[..., n].numpy())) for n in range(2))
    assert found == pytest.approx({"r_hat": worst, "ess": least}, rel=5e-3)  # ties in ranks
    assert (found["r_hat"] > 1.1) == (apart > 0)


@pytest.mark.parametrize(("draws", "spread"), [(6, 1.0), (40, 0.0)])
def test_too_few_draws_and_chains_that_stand_still_have_none(
    draws: int, spread: float, caplog: pytest.LogCaptureFixture
) -> None:
    batch = {"x": torch.ones(1, 1), "y": torch.zeros(1, 1)}
    w = 1.0 + spread * torch.randn(draws, 1, 1)
    assert mixing(line(), Empirical({"w.weight": w}), batch, draws, 2) == {}
    assert "no R-hat" in caplog.text


def test_data_that_all_draws_are_sure_of_are_left_out() -> None:
    """As log p = 0 of a class in float32."""
    guide = Empirical({"w.weight": torch.randn(60, 1, 1)})
    batch = {"x": torch.tensor([[1.0], [2.0], [0.0]]), "y": torch.zeros(3, 1)}
    some = {name: value[:2] for name, value in batch.items()}
    assert mixing(line(), guide, batch, 60, 2) == mixing(line(), guide, some, 60, 2) != {}


def test_scores_without_it_are_kept() -> None:
    scores = Scores([{"rmse": 1.0, "r_hat": 1.1}, {"rmse": 2.0}], {"a": np.zeros(1)})
    assert scores.summary().keys() == {"rmse"}


def test_chains_that_have_not_met_are_said_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = ("--splits", 1, "--hidden", 4, "--steps", 20, "--draws", 8, "--random-walk-steps", 10)
    ask = ("compare_bnn.py", "--methods", "random-walk", *small, "--chains", 2)
    run(*ask, "--out", tmp_path)
    assert "the chains have not met: R-hat" in caplog.text
    caption = (tmp_path / "comparison.md").read_text()
    assert (
        "chains have met below 1.05" in caption
        and "| R-hat | ESS | seconds a network |" in caption
    )
    assert "random-walk 16" in caption
