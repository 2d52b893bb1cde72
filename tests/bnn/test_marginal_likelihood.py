"""Priors fitted by Laplace's evidence during training."""

import pytest
import torch
from oracles import with_one
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.bnn.curvature import Full, Kron
from pyrovae.bnn.guides import MeanField, PointEstimate
from pyrovae.bnn.posthoc import MarginalLikelihood, fit_laplace
from pyrovae.bnn.priors import Scaled, last_layer, normal, scale_mixture
from pyrovae.heads import FixedScaleNormalHead
from pyrovae.nets import MLP


def loss_of(layers: nn.Module, prior=None, *, num_data: int = 12) -> pv.ElboLoss:
    net = pv.Bayesian(layers, prior or Scaled(normal(0.8), layers))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.4), "x"))
    return pv.ElboLoss(model, PointEstimate(net), num_data=num_data)


def net_of(loss: nn.Module) -> pv.Bayesian:
    return next(part for part in loss.modules() if isinstance(part, pv.Bayesian))


def batch_of(size: int = 12, outputs: int = 1) -> dict[str, Tensor]:
    x = torch.randn(size, 2)
    return {"x": x, "y": (x @ torch.tensor([1.0, -2.0])).unsqueeze(-1).repeat(1, outputs)}


def test_training_ends_at_the_mode_under_the_best_prior_of_a_linear_net() -> None:
    batch = batch_of()
    loss = loss_of(nn.Linear(2, 1))
    hook = MarginalLikelihood(lambda index: batch, every=20, start=20)
    pv.fit(loss, [batch], epochs=300, lr=0.1, hooks=[hook], compile="off")
    rows, y = with_one(batch["x"]), batch["y"].squeeze(-1)
    moved = net_of(loss).prior.precision.clone().requires_grad_()
    matrix = 0.8**2 / moved * rows @ rows.T + 0.4**2 * torch.eye(12)
    evidence = torch.distributions.MultivariateNormal(torch.zeros(12), matrix).log_prob(y)
    (slope,) = torch.autograd.grad(evidence, moved)
    assert moved.item() != 1.0 and (slope * moved).abs() < 1e-3  # Adam's last steps
    precision = torch.eye(3) * moved.detach() / 0.8**2 + rows.T @ rows / 0.4**2
    mean = torch.linalg.solve(precision, rows.T @ y) / 0.4**2
    found = torch.cat([value.flatten() for value in loss.guide.values().values()])
    torch.testing.assert_close(found.detach(), mean, atol=1e-3, rtol=0)


@pytest.mark.parametrize("per_layer", [False, True])
def test_stacked_members_have_priors_of_their_own(per_layer: bool) -> None:
    losses = [loss_of(MLP(2, [3], 1, nn.Tanh)) for _ in range(2)]
    batches = [batch_of(), batch_of()]
    expected = []
    for loss, batch in zip(losses, batches):
        found = fit_laplace(loss.model, loss.guide.values(), batch, Kron())
        expected.append(found.fit_prior(per_layer=per_layer, noise=False).prior_precision)
    stacked = pv.Stacked(losses)
    hook = MarginalLikelihood(batches.__getitem__, every=1, start=1, per_layer=per_layer)
    both = {name: torch.stack([each[name] for each in batches]) for name in batches[0]}
    # the last epoch is for training alone, and rates of 0 leave the weights where they were
    pv.fit(stacked, [both], epochs=2, lr=0.0, hooks=[hook], compile="off")
    for index in range(2):
        precision = net_of(stacked.member(index)).prior.precision
        torch.testing.assert_close(precision, expected[index])
        assert (precision[0] == precision[1]) != per_layer
    value = stacked.losses(both)
    alone = torch.stack([stacked.member(index)(**batches[index]) for index in range(2)])
    torch.testing.assert_close(value, alone)


def test_parts_of_a_net_and_what_is_refused() -> None:
    batch, layers = batch_of(), MLP(2, [3], 1, nn.Tanh)
    loss = loss_of(layers, Scaled(last_layer(layers, normal(1.0)), layers))
    hook = MarginalLikelihood(lambda index: batch, every=1, start=1, curvature=Full())
    pv.fit(loss, [batch], epochs=2, lr=0.0, hooks=[hook], compile="off")
    prior = net_of(loss).prior
    assert prior.precision[0] == 1.0 != prior.precision[1] and len(prior.layers) == 2
    state = loss.state_dict()
    other = loss_of(layers, Scaled(last_layer(layers, normal(1.0)), layers))
    other.load_state_dict(state)
    torch.testing.assert_close(other(**batch), loss(**batch))
    with pytest.raises(pv.PairError, match="expected a PointEstimate and a Scaled prior"):
        plain = loss_of(layers, normal(1.0))
        pv.fit(plain, [batch], epochs=2, hooks=[hook], compile="off")
    with pytest.raises(pv.PairError, match="the guide is a MeanField"):
        spread = loss_of(layers)
        spread.guide = MeanField(net_of(spread))
        pv.fit(spread, [batch], epochs=2, hooks=[hook], compile="off")
    with pytest.raises(pv.PairError, match="is a TwoNormals, expected a Normal"):
        loss_of(layers, Scaled(scale_mixture(), layers))
    with pytest.raises(ValueError, match="every=0"):
        MarginalLikelihood(lambda index: batch, every=0)
    with pytest.raises(KeyError, match="none of the net's"):
        prior.index("w.other")
