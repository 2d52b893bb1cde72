"""Priors beside the conformance suite: the short cut of mixtures of diagonal normals, and priors
without parameters."""

import pyro.distributions as dist
import pytest
import torch

import pyrovae as pv
from pyrovae.heads import FullRankNormalHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import Flat, Laplace, MixtureOfNormals, StandardNormal, VampPrior
from pyrovae.priors.diagonal import MixtureOfDiagonals, mixture


def parts(components: int, features: int, spread: float = 3.0) -> tuple[torch.Tensor, ...]:
    return (
        torch.randn(components),
        spread * torch.randn(components, features),
        torch.randn(components, features).exp(),
    )


def both(
    logits: torch.Tensor, loc: torch.Tensor, scale: torch.Tensor
) -> tuple[dist.MixtureSameFamily, ...]:
    weights, normals = dist.Categorical(logits=logits), dist.Normal(loc, scale).to_event(1)
    return MixtureOfDiagonals(weights, normals), dist.MixtureSameFamily(weights, normals)


@pytest.mark.parametrize(("components", "features"), [(1, 1), (5, 2), (40, 30)])
def test_the_short_cut_is_the_mixture(components: int, features: int) -> None:
    quick, slow = both(*parts(components, features))
    for shape in ((), (7,), (3, 7)):
        z = 3 * torch.randn(*shape, features)
        torch.testing.assert_close(quick.log_prob(z), slow.log_prob(z), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(
        quick.expand((3, 7)).log_prob(z), slow.log_prob(z), atol=1e-12, rtol=1e-12
    )


def test_gradients_of_the_short_cut_are_those_of_the_mixture() -> None:
    tensors = [part.requires_grad_() for part in (*parts(4, 3), torch.randn(6, 3))]
    gradients = [
        torch.autograd.grad(both(*tensors[:3])[i].log_prob(tensors[3]).sum(), tensors)
        for i in (0, 1)
    ]
    for quick, slow in zip(*gradients):
        torch.testing.assert_close(quick, slow, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize(
    ("spread", "scale"), [(1.0, 1.0), (30.0, 1.0), (1.0, 1e-3), (1000.0, 0.1)]
)
def test_float32_densities_lose_nothing_where_the_terms_cancel(
    spread: float, scale: float
) -> None:
    logits, loc, _ = (part.float() for part in parts(10, 20, spread))
    scales = torch.full_like(loc, scale)
    z = (loc[:7] + scales[:7] * torch.randn(7, 20)).float()
    exact = both(logits.double(), loc.double(), scales.double())[1].log_prob(z.double())
    got = both(logits, loc, scales)[0].log_prob(z)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), exact, atol=1e-5, rtol=1e-6)


def test_expanding_makes_no_copies_and_draws_each_datum_anew() -> None:
    quick, _ = both(*parts(4, 3))
    wide = quick.expand((3, 1000))
    assert wide.batch_shape == (3, 1000) and wide.base_dist is quick
    z = wide.sample()
    assert z.shape == (3, 1000, 3) and len(z.reshape(-1, 3).unique(dim=0)) == 3000
    weights = quick.mixture_distribution.probs
    expected = (weights.unsqueeze(-1) * quick.component_distribution.mean).sum(0)
    error = z.reshape(-1, 3).std(0) / 3000**0.5
    assert ((z.reshape(-1, 3).mean(0) - expected).abs() < 5 * error).all()


def test_only_diagonal_normals_take_the_short_cut() -> None:
    logits = torch.zeros(3)
    assert isinstance(
        mixture(logits, NormalHead(MLP(4, [], 4))(torch.rand(3, 4))), MixtureOfDiagonals
    )
    full = mixture(logits, FullRankNormalHead(MLP(4, [], 5), 2)(torch.rand(3, 4)))
    assert not isinstance(full, MixtureOfDiagonals) and full.log_prob(torch.zeros(5, 2)).shape == (
        5,
    )
    laplace = dist.Laplace(torch.zeros(3, 2), 1.0).to_event(1)
    assert not isinstance(mixture(logits, laplace), MixtureOfDiagonals)
    vamp = VampPrior(FullRankNormalHead(MLP(4, [], 5), 2), torch.rand(3, 4))
    each = torch.stack([vamp.encoder(u).log_prob(torch.ones(2)) for u in vamp.pseudo_inputs])
    torch.testing.assert_close(
        vamp().log_prob(torch.ones(2)), (each - torch.tensor(3.0).log()).logsumexp(0)
    )


def test_priors_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="num_components=0"):
        MixtureOfNormals(2, 0)
    with pytest.raises(ValueError, match="scale=0"):
        Laplace(2, scale=0)


def test_a_flat_prior_weighs_nothing_and_has_no_draws() -> None:
    z = torch.randn(3, 5, 2)
    assert (Flat(2)().expand((3, 5)).log_prob(z) == 0).all()
    model = pv.Model(z=Flat(2))
    with pytest.raises(NotImplementedError):
        model(num=3)
    torch.testing.assert_close(Laplace(2, scale=0.5)().log_prob(z), (-2 * z.abs()).sum(-1))
    torch.testing.assert_close(
        StandardNormal(2)().log_prob(z), dist.Normal(0.0, 1.0).log_prob(z).sum(-1)
    )
