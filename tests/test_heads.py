"""What single heads promise beyond the conformance suite: their layout, closed forms, and numbers far from the middle."""
import math

import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import nn

import pyrovae as pv
from pyrovae.heads import DeltaHead, FixedScaleNormalHead, FullRankNormalHead, LowRankNormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal


def test_full_rank_normal_reads_its_numbers_row_by_row() -> None:
    numbers = torch.randn(5, 9)
    fn = FullRankNormalHead(nn.Identity(), 3, min_scale=0.5)(numbers)
    s, (a, b, c) = 0.5 + numbers[0, 3:6].exp(), numbers[0, 6:] / math.sqrt(3)
    tril = torch.tensor([[s[0], 0, 0], [a, s[1], 0], [b, c, s[2]]])
    torch.testing.assert_close(fn.covariance_matrix[0], tril @ tril.T)
    torch.testing.assert_close(fn.mean, numbers[:, :3])


def test_low_rank_normal_is_the_dense_normal() -> None:
    numbers = torch.randn(5, 3 * 4)
    fn = LowRankNormalHead(nn.Identity(), 3, 2, min_scale=0.5)(numbers)
    factors = numbers[:, 6:].reshape(5, 3, 2) / math.sqrt(3)
    dense = dist.MultivariateNormal(numbers[:, :3], factors @ factors.mT + torch.diag_embed((0.5 + numbers[:, 3:6].exp()) ** 2))
    x = torch.randn(4, 5, 3)
    torch.testing.assert_close(fn.log_prob(x), dense.log_prob(x))
    torch.testing.assert_close(fn.expand((4, 5)).log_prob(x), dense.log_prob(x))


def test_low_rank_normal_scores_exactly_in_float32_and_under_autocast() -> None:
    numbers = torch.randn(5, 50 * 7)
    numbers[:, 50:100] = math.log(1e-3)  # float32 loses whole nats of this Mahalanobis distance
    head = LowRankNormalHead(nn.Identity(), 50, 5)
    fn = head(numbers)
    x = fn.sample().float()
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            single = head(numbers.float()).log_prob(x)
        exact = head(numbers.float().double()).log_prob(x.double())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=0)  # float32 rounds the variances alone


@pytest.mark.parametrize("features", [2, 50])
def test_fresh_correlated_normals_are_near_the_identity(features: int) -> None:
    """Without the square root of the features in L and W, eigenvalues at 50 features are off by another factor of ten."""
    for head in (FullRankNormalHead(MLP(10, [64], features + features * (features + 1) // 2), features),
                 LowRankNormalHead(MLP(10, [64], features * 5), features, 3)):
        variances = torch.linalg.eigvalsh(head(torch.randn(20, 10)).covariance_matrix)
        assert variances.log().abs().max() < 3


@pytest.mark.parametrize("head, numbers", [(lambda net: FullRankNormalHead(net, 2), 5),
                                           (lambda net: LowRankNormalHead(net, 2, 1), 6)])
def test_correlated_normals_guide_and_explain(head: object, numbers: int) -> None:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(head(MLP(2, [8], numbers)), "z"))
    guide = pv.Guide(z=pv.Node(head(MLP(2, [8], numbers)), "x"))
    pv.check(model, guide, {"x": torch.randn(6, 2)})
    with pytest.raises(ValueError, match=f"the net returns 7 numbers a datum, wanted 2 \\+ 2 \\+ . = {numbers}"):
        head(MLP(2, [8], 7))(torch.zeros(1, 2))


class Flat(nn.Module):
    def forward(self) -> dist.Distribution:
        return dist.ImproperUniform(dist.constraints.real_vector, (), (2,))


def test_delta_makes_an_autoencoder() -> None:
    x, encoder, decoder = torch.randn(6, 4), MLP(4, [8], 2), MLP(2, [8], 4)
    likelihood, guide = pv.Node(FixedScaleNormalHead(decoder, scale=0.5), "z"), pv.Guide(z=pv.Node(DeltaHead(encoder), "x"))
    error = ((x - decoder(encoder(x))) ** 2).sum(-1).mean() / (2 * 0.25) + 4 * math.log(0.5 * math.sqrt(2 * math.pi))
    penalty = (encoder(x) ** 2).sum(-1).mean() / 2 + math.log(2 * math.pi)
    for prior, wanted in ((Flat(), error), (StandardNormal(2), error + penalty)):
        model = pv.Model(z=prior, x=likelihood)
        pv.check(model, guide, {"x": x})
        for elbo in (Trace_ELBO(), TraceMeanField_ELBO()):
            loss = pv.ElboLoss(model, guide, elbo=elbo)
            torch.testing.assert_close(loss(x=x), wanted)
            parameters = list(loss.parameters())
            for got, exact in zip(torch.autograd.grad(loss(x=x), parameters), torch.autograd.grad(wanted, parameters,
                                                                                                retain_graph=True)):
                torch.testing.assert_close(got, exact)
    with pytest.raises(pv.PairError, match="'z' is a Delta, which has no density"):
        pv.log_evidence(model, guide, {"x": x}, num_particles=2)
