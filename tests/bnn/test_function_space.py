"""Outputs of a linearised net in closed form, against the exact ones and against draws."""

import pyro
import pytest
import torch
from oracles import assert_moments, bayesian_regression
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.curvature import Diagonal, Full, Kron, LowRank
from pyrovae.bnn.guides import PointEstimate
from pyrovae.bnn.posthoc import OutputNormal, fit_laplace, linearize, output_normal
from pyrovae.bnn.priors import fan_in
from pyrovae.heads import CategoricalHead, SharedVarianceHead
from pyrovae.nets import MLP
from pyrovae.priors import InverseGammaPrior

KINDS = [Full(), Kron(), LowRank(4), Diagonal()]


@pytest.mark.parametrize("kind", KINDS[:3])
def test_regression_is_exact(kind) -> None:
    exact = bayesian_regression()
    mode = exact.values(exact.mean)
    guide = fit_laplace(exact.model, mode, exact.batch, kind).guide(exact.net)
    x = torch.randn(5, 2)
    found = output_normal(exact.model, mode, guide, {"x": x})
    expected = exact.predictive(x)
    torch.testing.assert_close(found.mean.squeeze(-1), expected.mean)
    torch.testing.assert_close(found.variance.squeeze(-1) + exact.noise**2, expected.variance)


class Images(nn.Module):
    in_shape = (1, 3, 3)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(1, 2, 2), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.conv(x).tanh().flatten(-3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("images", [False, True])
def test_moments_are_those_of_draws_of_the_weights(kind, images: bool) -> None:
    net = pv.Bayesian(Images() if images else MLP(2, [3], 2, nn.Tanh), fan_in(0.5))
    model = pv.Model(y=pv.Node(CategoricalHead(net), "x"))
    x = torch.randn(7, 1, 3, 3) if images else torch.randn(7, 2)
    mode = PointEstimate(net).values()
    guide = fit_laplace(model, mode, {"x": x, "y": torch.arange(7) % 2}, kind).guide(net)
    parts = [{"x": x[:3]}, {"x": x[3:]}]
    found = output_normal(model, mode, guide, parts)
    whole = output_normal(model, mode, guide, {"x": x})
    torch.testing.assert_close(found.covariance, whole.covariance)
    linear = linearize(model, mode)
    seen = []
    part = next(part for part in linear.modules() if isinstance(part, pv.Bayesian))
    handle = part.register_forward_hook(lambda module, args, output: seen.append(output))
    pv.predict(linear, guide, {"x": x}, num_samples=4000)
    handle.remove()
    draws = torch.cat([value.reshape(-1, 7, 2) for value in seen if value.dim() == 3])[-4000:]
    for index in range(7):
        assert_moments(draws[:, index], found.mean[index], found.covariance[index])


def test_draws_and_probit() -> None:
    root = torch.randn(3, 4, 4)
    normal = OutputNormal(torch.randn(3, 4), root @ root.transpose(1, 2))
    draws = normal.sample(4000)
    for index in range(3):
        assert_moments(draws[:, index], normal.mean[index], normal.covariance[index])
    sure = OutputNormal(normal.mean, torch.zeros(3, 4, 4))
    torch.testing.assert_close(sure.probit(), normal.mean.softmax(-1))
    assert repr(normal) == f"OutputNormal({len(normal.mean)} data, {normal.mean.shape[1]} outputs)"
    # for logits whose noise has one variance the approximation is within 2 % of the integral
    even = OutputNormal(torch.tensor([[1.0, -1.0]]), torch.eye(2).unsqueeze(0))
    assert (even.probit() - even.sample(100_000).softmax(-1).mean(0)).abs().max() < 0.03


def test_noise_sites_are_held_and_other_guides_refused() -> None:
    net = pv.Bayesian(MLP(2, [3], 1))
    model = pv.Model(
        v=pv.Global(InverseGammaPrior(2.0, 1.0)), y=pv.Node(SharedVarianceHead(net), "x", "v")
    )
    batch = {"x": torch.randn(5, 2), "y": torch.randn(5, 1)}
    weights = PointEstimate(net).values()
    mode = {**weights, "v": torch.tensor(0.3)}
    fixed = pyro.condition(model, data={"v": mode["v"]})
    guide = fit_laplace(fixed, weights, batch).guide(net)
    found = output_normal(model, mode, guide, batch)
    torch.testing.assert_close(
        found.covariance, output_normal(fixed, weights, guide, batch).covariance
    )
    with pytest.raises(pv.PairError, match="is a PointEstimate, expected the normal"):
        output_normal(model, mode, PointEstimate(net), batch)
