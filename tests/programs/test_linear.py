"""Linear VAEs are factor analysis and PCA: the optimum, the evidence, the posterior."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.decomposition import FactorAnalysis as TheirFactorAnalysis
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.heads import (
    FullRankNormalHead,
    LearnedScaleNormalHead,
    LinearMarginal,
    LinearPosterior,
)
from pyrovae.priors import StandardNormal

FEATURES, LATENT = 6, 2


def data() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    z, noise = (torch.randn(500, n, generator=generator).double() for n in (LATENT, FEATURES))
    weight = torch.randn(FEATURES, LATENT, generator=generator).double()
    return z @ weight.T + noise * torch.linspace(0.3, 1.0, FEATURES) + 0.1


def likelihood(scale_shape: tuple[int, ...]) -> LearnedScaleNormalHead:
    return LearnedScaleNormalHead(nn.Linear(LATENT, FEATURES), scale_shape=scale_shape).double()


def to_the_optimum(loss: nn.Module, x: Tensor) -> float:
    """The loss after L-BFGS on all data, with the same draws at each step."""
    optimizer = torch.optim.LBFGS(
        [w for w in loss.parameters() if w.requires_grad],
        max_iter=500,
        tolerance_grad=1e-9,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        torch.manual_seed(0)
        value = loss(x=x)
        value.backward()
        return value

    optimizer.step(closure)
    return loss(x=x).item()


@pytest.mark.parametrize("kind", ["ppca", "factor analysis"])
def test_the_optimum_and_its_evidence_are_scikit_learns(kind: str) -> None:
    x = data()
    head = likelihood(() if kind == "ppca" else (FEATURES,))
    density = pv.Model(x=LinearMarginal(head))
    torch.manual_seed(0)
    to_the_optimum(pv.ElboLoss(density), x)
    if kind == "ppca":
        theirs = PCA(LATENT).fit(x.numpy())
        # scikit-learn divides by N - 1, maximum likelihood by N
        centred = x - x.mean(0)
        spectrum = torch.linalg.eigvalsh(centred.T @ centred / len(x)).flip(0)
        exact = -0.5 * (
            spectrum[:LATENT].log().sum()
            + (FEATURES - LATENT) * spectrum[LATENT:].mean().log()
            + FEATURES * (1 + np.log(2 * np.pi))
        )
        assert theirs.score(x.numpy()) == pytest.approx(exact.item(), abs=1e-3)
    else:
        fitted = TheirFactorAnalysis(LATENT, tol=1e-10, max_iter=5000).fit(x.numpy())
        exact = torch.tensor(fitted.score(x.numpy()))
    evidence = pv.log_evidence(density, None, {"x": x})
    assert evidence.mean == pytest.approx(exact.item(), abs=1e-3)


def test_the_exact_posterior_makes_every_weight_the_evidence() -> None:
    x, head = data()[:20], likelihood((FEATURES,))
    model = pv.Model(z=StandardNormal(LATENT).double(), x=pv.Node(head, "z"))
    guide = pv.Guide(z=pv.Node(LinearPosterior(head), "x"))
    weights = pv.log_weights(model, guide, {"x": x}, 4)
    exact = LinearMarginal(head)().log_prob(x)
    torch.testing.assert_close(weights, exact.expand_as(weights), atol=1e-9, rtol=0)


def test_a_linear_vae_recovers_the_exact_posterior() -> None:
    """By draws of the ELBO, without a formula: 100,000 of them leave errors of about 1e-2, a thirtieth of a scale."""
    x, head = data(), likelihood((FEATURES,))
    size = LATENT + LATENT * (LATENT + 1) // 2
    encoder = FullRankNormalHead(nn.Linear(FEATURES, size), LATENT).double()
    model = pv.Model(z=StandardNormal(LATENT).double(), x=pv.Node(head, "z"))
    guide = pv.Guide(z=pv.Node(encoder, "x"))
    torch.manual_seed(0)
    to_the_optimum(pv.ElboLoss(pv.Model(x=LinearMarginal(head))), x)
    for weight in model.parameters():
        weight.requires_grad_(False)
    to_the_optimum(pv.IwaeLoss(model, guide, num_particles=200, alpha=1.0), x)
    ours, exact = encoder(x), LinearPosterior(head)(x)
    torch.testing.assert_close(ours.mean, exact.mean, atol=3e-2, rtol=0)
    torch.testing.assert_close(
        ours.covariance_matrix, exact.covariance_matrix.expand(500, -1, -1), atol=3e-2, rtol=0
    )


def test_other_decoders_are_refused() -> None:
    with pytest.raises(TypeError, match="net is Sequential, expected an nn.Linear"):
        LinearMarginal(LearnedScaleNormalHead(nn.Sequential(nn.Linear(2, 3))))
