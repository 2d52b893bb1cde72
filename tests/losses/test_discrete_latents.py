"""Gradients of discrete latents against the sum over all their values."""

import itertools

import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.heads import (
    BernoulliHead,
    FixedScaleNormalHead,
    NormalHead,
    StraightThroughBernoulliHead,
    StraightThroughCategoricalHead,
)
from pyrovae.losses import LeaveOneOutLoss
from pyrovae.nets import MLP, Constant

Z = 3
DRAWS = 400
"""Particles of one evaluation; gradients of `REPEATS` evaluations give the standard error."""
REPEATS = 60


def nets(decoder: nn.Module) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Prior, decoder and encoder nets of a model with Z bits."""
    prior = Constant(Z)
    nn.init.normal_(prior.value)
    return prior.double(), decoder.double(), MLP(4, [5], Z).double()


def exact_elbo(prior: nn.Module, decoder: nn.Module, encoder: nn.Module, x: Tensor) -> Tensor:
    """The mean ELBO over data, by the sum over the 2^Z codes."""
    codes = torch.tensor(list(itertools.product([0.0, 1.0], repeat=Z))).double()
    codes = codes.unsqueeze(1)
    log_q = BernoulliHead(encoder)(x).log_prob(codes)
    log_p = BernoulliHead(prior)().log_prob(codes) + likelihood(decoder)(codes).log_prob(x)
    return (log_q.exp() * (log_p - log_q)).sum(0).mean()


def likelihood(decoder: nn.Module) -> nn.Module:
    return FixedScaleNormalHead(decoder, scale=1.0)


def gradients(loss: Tensor, parts: tuple[nn.Module, ...]) -> Tensor:
    weights = [weight for part in parts for weight in part.parameters()]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])


def test_leave_one_out_agrees_with_enumeration() -> None:
    """Within 5 standard errors of the mean of the repeats, for each weight."""
    prior, decoder, encoder = nets(MLP(Z, [6], 4))
    model = pv.Model(z=BernoulliHead(prior), x=pv.Node(likelihood(decoder), "z"))
    guide = pv.Guide(z=pv.Node(BernoulliHead(encoder), "x"))
    x = torch.randn(3, 4).double()
    parts = (prior, decoder, encoder)
    exact = gradients(-exact_elbo(*parts, x), parts)
    loss = LeaveOneOutLoss(model, guide, num_particles=DRAWS)
    torch.manual_seed(0)
    found = torch.stack([gradients(loss(x=x), parts) for _ in range(REPEATS)])
    error = found.std(0) / REPEATS**0.5
    assert ((found.mean(0) - exact).abs() <= 5 * error + 1e-9).all()
    assert loss(x=x).item() == pytest.approx(-exact_elbo(*parts, x).item(), abs=0.1)


def test_leave_one_out_has_far_less_noise_than_the_plain_score_function() -> None:
    prior, decoder, encoder = nets(MLP(Z, [6], 4))
    model = pv.Model(z=BernoulliHead(prior), x=pv.Node(likelihood(decoder), "z"))
    guide = pv.Guide(z=pv.Node(BernoulliHead(encoder), "x"))
    x = torch.randn(3, 4).double() + 3
    torch.manual_seed(0)

    def noise(loss: nn.Module, draws: int) -> float:
        found = [gradients(loss(x=x), (encoder,)) for _ in range(200)]
        return (torch.stack(found).var(0).sum() * draws).item()

    plain = noise(pv.ElboLoss(model, guide), 1)
    assert noise(LeaveOneOutLoss(model, guide, num_particles=4), 4) < 0.2 * plain


@pytest.mark.parametrize("closed_form", [False, True])
def test_straight_through_agrees_with_enumeration_where_it_is_unbiased(closed_form: bool) -> None:
    """A log-likelihood that is linear in the bits, at a low temperature: within 5 standard errors
    and 3 % of the largest gradient, the bias of order temperature^2."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, Z).double())

        def forward(self, z: Tensor) -> Tensor:
            return z @ self.weight.T

    class Tilt(nn.Module):
        """log p(x | z) = x' W z: no density, but what is averaged is linear."""

        def __init__(self) -> None:
            super().__init__()
            self.net = Linear()

    tilt = Tilt().net
    prior, _, encoder = nets(nn.Identity())
    x = torch.randn(3, 4).double()
    fn = StraightThroughBernoulliHead(encoder, temperature=0.1)(x)
    torch.manual_seed(0)
    found = []
    for _ in range(REPEATS):
        z = fn.rsample((DRAWS,))
        found.append(gradients((tilt(z) * x).sum(-1).mean(), (encoder,)))
        fn = StraightThroughBernoulliHead(encoder, temperature=0.1)(x)
    exact = gradients((tilt(encoder(x).sigmoid()) * x).sum(-1).mean(), (encoder,))
    mean, error = torch.stack(found).mean(0), torch.stack(found).std(0) / REPEATS**0.5
    assert ((mean - exact).abs() <= 5 * error + 0.03 * exact.abs().max()).all()
    if closed_form:
        model = pv.Model(
            z=BernoulliHead(prior), x=pv.Node(likelihood(MLP(Z, [], 4).double()), "z")
        )
        guide = pv.Guide(z=pv.Node(StraightThroughBernoulliHead(encoder), "x"))
        loss = pv.ElboLoss(model, guide, elbo=TraceMeanField_ELBO())
        assert loss(x=x).requires_grad and loss.terms is not None


def test_a_hard_guide_gives_the_evidence_of_the_discrete_model() -> None:
    prior, decoder, encoder = nets(MLP(Z, [6], 4))
    summed = pv.Model(z=BernoulliHead(prior), x=pv.Node(likelihood(decoder), "z"))
    guide = pv.Guide(z=pv.Node(StraightThroughBernoulliHead(encoder), "x"))
    x = torch.randn(5, 4).double()
    torch.manual_seed(0)
    ours = pv.log_evidence(summed, guide, {"x": x}, num_particles=4000)
    codes = torch.tensor(list(itertools.product([0.0, 1.0], repeat=Z))).double().unsqueeze(1)
    log_p = BernoulliHead(prior)().log_prob(codes) + likelihood(decoder)(codes).log_prob(x)
    assert ((ours.log_px - log_p.logsumexp(0)).abs() < 5 * ours.se).all()


def test_leave_one_out_keeps_pathwise_gradients_of_the_other_latents() -> None:
    """Bits and a normal latent together learn, captured too."""
    torch.manual_seed(0)
    model = pv.Model(
        b=BernoulliHead(Constant(Z)),
        z=pv.Node(NormalHead(MLP(Z, [8], 4)), "b"),
        x=pv.Node(BernoulliHead(MLP(2 + Z, [16], 8)), "z", "b"),
    )
    guide = pv.Guide(
        b=pv.Node(BernoulliHead(MLP(8, [16], Z)), "x"),
        z=pv.Node(NormalHead(MLP(8 + Z, [16], 4)), "x", "b"),
    )
    x = (torch.rand(100, 8) < torch.tensor([0.9, 0.1]).repeat(4)).float()
    loss = LeaveOneOutLoss(model, guide, num_particles=4)
    history = pv.fit(loss, [{"x": x}], epochs=200, lr=0.01, compile="on")
    assert history[-1]["elbo"] > history[0]["elbo"] + 1.0


def test_one_hot_latents_train_by_the_pathwise_losses() -> None:
    torch.manual_seed(0)
    x = torch.eye(4).repeat_interleave(3, 1).repeat(25, 1)
    model = pv.Model(
        z=StraightThroughCategoricalHead(Constant((2, 3)), event_dim=2),
        x=pv.Node(BernoulliHead(MLP((2, 3), [16], 12)), "z"),
    )
    guide = pv.Guide(
        z=pv.Node(StraightThroughCategoricalHead(MLP(12, [16], (2, 3)), event_dim=2), "x")
    )
    iwae = pv.IwaeLoss(model, guide, num_particles=3, gradient="dreg")
    assert iwae(x=x).requires_grad
    loss = pv.ElboLoss(model, guide, elbo=TraceMeanField_ELBO())
    history = pv.fit(loss, [{"x": x}], epochs=400, lr=0.02)
    assert history[-1]["elbo"] > history[0]["elbo"] + 0.5


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least 2: the baseline"):
        LeaveOneOutLoss(lambda: None, lambda: None, num_particles=1)
    with pytest.raises(ValueError, match="temperature=0"):
        StraightThroughBernoulliHead(MLP(2, [2], 2), temperature=0)
