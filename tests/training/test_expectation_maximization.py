"""EM on programs: it never falls, it agrees with scikit-learn, and enumeration is the same model."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.priors import Mixing
from pyrovae.training.expectation_maximization import (
    expectation_maximization,
    maximize_bernoulli,
    maximize_normal,
    responsibilities,
)

SUMMED = {"enumerate": "parallel"}


def bits() -> Tensor:
    centres = torch.rand(4, 12)[torch.randint(4, (300,))]
    return (torch.rand(300, 12) < centres).double()


def bernoulli_mixture(parts: int) -> tuple[pv.Model, Mixing, nn.Embedding]:
    mixing, rows = Mixing(parts).double(), nn.Embedding(parts, 12).double()
    model = pv.Model(k=pv.Node(mixing, infer=SUMMED), x=pv.Node(BernoulliHead(rows), "k"))
    return model, mixing, rows


def test_em_never_falls_and_its_value_is_that_of_enumeration() -> None:
    x = bits()
    model, mixing, rows = bernoulli_mixture(4)
    found = expectation_maximization(
        model, {"x": x}, lambda r: maximize_bernoulli(mixing, rows, x, r), steps=60, tolerance=0
    )
    assert (np.diff(found) > -1e-10).all() and found[-1] > found[0] + 0.5
    exact = pv.log_evidence(model, None, {"x": x})
    assert exact.mean == pytest.approx(found[-1], abs=1e-6)


def test_chunks_of_the_data_take_the_same_steps() -> None:
    x = bits()
    found = []
    for chunk_size in (None, 7):
        torch.manual_seed(1)
        model, mixing, rows = bernoulli_mixture(4)

        def maximize(r: Tensor, mixing: nn.Module = mixing, rows: nn.Embedding = rows) -> None:
            maximize_bernoulli(mixing, rows, x, r)

        found.append(
            expectation_maximization(
                model, {"x": x}, maximize, steps=5, tolerance=0, chunk_size=chunk_size
            )
        )
    assert found[1] == pytest.approx(found[0], abs=1e-10)


def test_gradients_of_the_enumerated_program_lead_to_the_same_likelihood() -> None:
    """From the optimum of EM the enumerated program has nowhere to go."""
    x = bits()
    model, mixing, rows = bernoulli_mixture(4)
    found = expectation_maximization(
        model,
        {"x": x},
        lambda r: maximize_bernoulli(mixing, rows, x, r),
        steps=3000,
        tolerance=1e-14,
    )
    loss = pv.ElboLoss(pv.Marginal(model))
    slopes = torch.autograd.grad(loss(x=x), list(model.parameters()))
    assert max(slope.abs().max().item() for slope in slopes) < 1e-4
    pv.fit(loss, [{"x": x}], epochs=50, lr=1e-4)
    assert pv.log_evidence(model, None, {"x": x}).mean == pytest.approx(found[-1], abs=1e-3)


def test_responsibilities_are_bayes_rule() -> None:
    x = bits()
    model, mixing, rows = bernoulli_mixture(3)
    joint = mixing().logits + torch.distributions.Bernoulli(logits=rows.weight).log_prob(
        x.unsqueeze(1)
    ).sum(-1)
    torch.testing.assert_close(responsibilities(model, {"x": x}, "k"), joint.softmax(1))
    with pytest.raises(
        ValueError, match=r"site 'z' is not enumerated in the model; found \['k'\]"
    ):
        responsibilities(model, {"x": x}, "z")


def test_a_gaussian_mixture_is_scikit_learns() -> None:
    """From the same start, the same optimum, weights and scores."""
    x = torch.cat([torch.randn(150, 2) + 3, 0.5 * torch.randn(150, 2) - 1]).double()
    mixing, rows = Mixing(2).double(), nn.Embedding(2, 4).double()
    start = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).double()
    rows.weight.data = torch.cat([start, torch.zeros(2, 2)], 1)
    model = pv.Model(k=pv.Node(mixing, infer=SUMMED), x=pv.Node(NormalHead(rows), "k"))
    found = expectation_maximization(
        model, {"x": x}, lambda r: maximize_normal(mixing, rows, x, r), steps=500, tolerance=1e-12
    )
    theirs = GaussianMixture(
        2,
        covariance_type="diag",
        reg_covar=0.0,
        tol=1e-12,
        max_iter=500,
        means_init=start.numpy(),
        weights_init=[0.5, 0.5],
        precisions_init=np.ones((2, 2)),
    ).fit(x.numpy())
    assert (np.diff(found) > -1e-10).all()
    ours = pv.log_evidence(model, None, {"x": x}).log_px
    np.testing.assert_allclose(ours.numpy(), theirs.score_samples(x.numpy()), atol=1e-5)
    np.testing.assert_allclose(mixing().probs.detach().numpy(), theirs.weights_, atol=1e-5)


def test_no_component_is_lost_to_the_numbers() -> None:
    """An empty component and pixels that never change leave all numbers finite."""
    x = torch.zeros(10, 12).double()
    model, mixing, rows = bernoulli_mixture(5)
    found = expectation_maximization(
        model, {"x": x}, lambda r: maximize_bernoulli(mixing, rows, x, r), steps=20
    )
    assert np.isfinite(found).all() and found[-1] == pytest.approx(0.0, abs=1e-10)


def test_one_datum_and_sites_that_are_no_components() -> None:
    model, mixing, rows = bernoulli_mixture(3)
    x = bits()[:1]
    assert responsibilities(model, {"x": x}, "k").shape == (1, 3)

    def coin(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.3), infer=SUMMED)
            pyro.sample("x", dist.Normal(k, 1.0), obs=x)

    with pytest.raises(ValueError, match="site 'k' is Bernoulli, expected a Categorical"):
        responsibilities(coin, {"x": torch.randn(3)}, "k")


def test_variances_keep_their_digits_far_from_zero() -> None:
    """In single precision, with an offset a thousand times the spread."""
    torch.manual_seed(0)
    x = torch.cat([0.1 * torch.randn(200, 2) - 0.3, 0.1 * torch.randn(200, 2) + 0.3]).float()
    found = []
    for offset in (0.0, 100.0):
        mixing, rows = Mixing(2).float(), nn.Embedding(2, 4).float()
        moved = x + offset
        with torch.no_grad():
            rows.weight.copy_(torch.cat([moved[[0, -1]], torch.full((2, 2), -2.0)], 1))
        model = pv.Model(k=pv.Node(mixing, infer=SUMMED), x=pv.Node(NormalHead(rows), "k"))

        def maximize(
            r: Tensor, mixing: Mixing = mixing, rows: nn.Embedding = rows, x: Tensor = moved
        ) -> None:
            maximize_normal(mixing, rows, x, r)

        found.append(expectation_maximization(model, {"x": moved}, maximize, steps=20)[-1])
    assert found[1] == pytest.approx(found[0], abs=1e-2)
