"""Total correlations: against quadrature of a known aggregate, and where the gradients go."""

import itertools
import math

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.data import Batches, DictDataset
from pyrovae.heads import BernoulliHead, FullRankNormalHead, NormalHead
from pyrovae.losses import (
    DensityRatio,
    Penalized,
    TotalCorrelation,
    minibatch_weighted,
    stratified,
)
from pyrovae.losses.density_ratio import permuted
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

DATA = 5


class Codes(nn.Module):
    """q(z | x_n) of two dims by the index of the datum."""

    def __init__(self) -> None:
        super().__init__()
        loc = torch.tensor([[-1.0, -1.2], [1.1, 0.9], [0.2, -0.1], [1.5, 1.6], [-0.4, 0.1]])
        scale = torch.tensor([[0.5, 0.4], [0.3, 0.6], [0.7, 0.5], [0.4, 0.4], [0.5, 0.8]])
        self.loc, self.scale = nn.Parameter(loc), nn.Parameter(scale)

    def forward(self, x: Tensor) -> dist.Independent:
        return dist.Normal(self.loc[x], self.scale[x]).to_event(1)


def exact(codes: Codes) -> Tensor:
    """The total correlation of the mixture of all data, by the trapezoidal rule."""
    grid = torch.linspace(-5.0, 6.0, 600)
    step = grid[1] - grid[0]
    each = (-0.5 * ((grid[:, None, None] - codes.loc) / codes.scale) ** 2).exp() / (
        codes.scale * math.sqrt(2 * math.pi)
    )  # (points, data, dims)
    joint = torch.einsum("an,bn->ab", each[..., 0], each[..., 1]) / DATA
    one, two = each.mean(1).unbind(-1)
    assert (joint.sum() * step**2).item() == pytest.approx(1.0, abs=1e-6)
    return (joint * (joint / (one[:, None] * two)).log()).sum() * step**2


def mean_and_error(penalty: nn.Module, batch: Tensor, repeats: int = 3000) -> tuple[float, float]:
    with torch.no_grad():
        found = torch.stack([penalty(x=batch) for _ in range(repeats)])
    return found.mean().item(), (found.std() / repeats**0.5).item()


def test_with_all_data_in_the_batch_it_is_the_total_correlation_of_the_mixture() -> None:
    codes, every = Codes(), torch.arange(DATA)
    truth = exact(codes).item()
    assert truth > 0.2
    mean, se = mean_and_error(TotalCorrelation(codes, DATA, weighting=stratified), every)
    assert abs(mean - truth) < 5 * se
    mean, se = mean_and_error(TotalCorrelation(codes, DATA), every)
    assert abs(mean - math.log(DATA) - truth) < 5 * se  # (D - 1) log M


def test_its_gradient_is_that_of_the_total_correlation() -> None:
    codes, every = Codes(), torch.arange(DATA)
    truth = torch.autograd.grad(exact(codes), codes.loc)[0]
    for weighting in (minibatch_weighted, stratified):
        penalty = TotalCorrelation(codes, DATA, weighting=weighting)
        found = torch.stack(
            [torch.autograd.grad(penalty(x=every), codes.loc)[0] for _ in range(1000)]
        )
        assert ((found.mean(0) - truth).abs() < 5 * found.std(0) / 1000**0.5).all()


def test_small_batches_weigh_densities_as_they_say() -> None:
    """Over all batches of three of five, the stratified estimate of q(z_i) is q(z_i)."""
    codes = Codes()
    z = torch.tensor([0.3, -0.2])
    density = codes(torch.arange(DATA)).log_prob(z).exp()
    own, other = (math.exp(weight) for weight in stratified(3, DATA))
    rest = [set(pair) for pair in itertools.combinations(range(1, DATA), 2)]
    found = [own * density[0] + other * sum(density[j] for j in pair) for pair in rest]
    torch.testing.assert_close(sum(found) / len(found), density.mean())
    assert minibatch_weighted(3, DATA) == (-math.log(15), -math.log(15))


def test_a_single_datum_and_a_single_dim_are_no_special_cases() -> None:
    codes = Codes()
    assert TotalCorrelation(codes, DATA, weighting=stratified)(x=torch.arange(1)).isfinite()
    encoder = NormalHead(MLP(3, [], 2))
    found = TotalCorrelation(encoder, 10)(x=torch.randn(10, 3))
    assert found.item() == pytest.approx(0.0, abs=1e-12)


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="num_data=0"):
        TotalCorrelation(Codes(), 0)
    with pytest.raises(ValueError, match="a batch of 5 data, but num_data=3"):
        TotalCorrelation(Codes(), 3)(x=torch.arange(DATA))
    dependent = FullRankNormalHead(MLP(3, [], 5), 2)
    with pytest.raises(TypeError, match="expected a vector of independent dims"):
        TotalCorrelation(dependent, 10)(x=torch.randn(4, 3))
    with pytest.raises(TypeError, match="expected a vector of independent dims"):
        DensityRatio(dependent, MLP(2, [], 1))(x=torch.randn(4, 3))


class Correlated(nn.Module):
    """z = a point of a correlated normal, given as x, almost without noise."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> dist.Independent:
        return dist.Normal(x + self.shift, 1e-3).to_event(1)


RHO = 0.8
TRUTH = -0.5 * math.log(1 - RHO**2)


def correlated(num: int) -> Tensor:
    noise = torch.randn(num, 2)
    return torch.stack([noise[:, 0], RHO * noise[:, 0] + (1 - RHO**2) ** 0.5 * noise[:, 1]], -1)


class LogRatio(nn.Module):
    """log N(z; 0, C) - log N(z; 0, I)."""

    def forward(self, z: Tensor) -> Tensor:
        a, b = z.unbind(-1)
        quadratic = (a**2 + b**2 - 2 * RHO * a * b) / (1 - RHO**2) - a**2 - b**2
        return TRUTH - 0.5 * quadratic


def test_the_right_critic_gives_the_total_correlation() -> None:
    x = correlated(40_000)
    values = LogRatio()(x)
    found = DensityRatio(Correlated(), LogRatio())(x=x)
    assert abs(found - TRUTH) < 5 * values.std() / len(values) ** 0.5


def test_a_critic_learns_in_the_same_step() -> None:
    torch.manual_seed(0)
    x = correlated(2000)
    loss = DensityRatio(Correlated(), MLP(2, [32, 32], 1))
    loss.encoder.shift.requires_grad_(False)
    pv.fit(loss, Batches(DictDataset(x=x), 200, shuffle=True), epochs=60, lr=5e-3)
    assert loss(x=correlated(20_000)).item() == pytest.approx(TRUTH, abs=0.1)


def test_gradients_reach_encoder_and_critic_each_by_its_own_term() -> None:
    encoder, critic = NormalHead(MLP(3, [8], 4)), MLP(2, [8], 1)
    x, loss = torch.randn(6, 3), DensityRatio(encoder, critic)
    torch.manual_seed(3)
    value = loss(x=x)
    value.backward()
    torch.manual_seed(3)
    q = encoder(x)
    z, fake = q.rsample(), permuted(q.rsample().detach())
    ratio = critic(z).mean()
    torch.testing.assert_close(value, ratio)  # the critic's term has the value 0
    theirs = torch.autograd.grad(ratio, list(encoder.parameters()))
    for weight, gradient in zip(encoder.parameters(), theirs, strict=True):
        torch.testing.assert_close(weight.grad, gradient)
    labels = torch.cat([torch.ones(6, 1), torch.zeros(6, 1)])
    logits = critic(torch.cat([z.detach(), fake]))
    own = nn.functional.binary_cross_entropy_with_logits(logits, labels)
    theirs = torch.autograd.grad(own, list(critic.parameters()))
    for weight, gradient in zip(critic.parameters(), theirs, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


def pair() -> tuple[pv.Model, pv.Guide, NormalHead]:
    encoder = NormalHead(MLP(4, [8], 2 * 2))
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    return model, pv.Guide(z=pv.Node(encoder, "x")), encoder


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", ["tc", "ratio"])
def test_penalties_train_beside_the_elbo_and_are_captured(name: str) -> None:
    x = (torch.rand(40, 4) < 0.5).double()
    histories = []
    for compile in ("off", "on"):
        torch.manual_seed(1)
        model, guide, encoder = pair()
        penalty = (
            TotalCorrelation(encoder, len(x))
            if name == "tc"
            else DensityRatio(encoder, MLP(2, [8], 1))
        )
        loss = Penalized(pv.ElboLoss(model, guide), penalty, weight=3.0)
        histories.append(
            pv.fit(loss, Batches(DictDataset(x=x), 10), epochs=3, compile=compile)["loss"]
        )
        loss.eval()
        torch.manual_seed(2)
        bound = loss(x=x)
        torch.manual_seed(2)
        assert bound == pv.ElboLoss(model, guide)(x=x)  # what is reported is the ELBO
    assert histories[0] == pytest.approx(histories[1], rel=1e-6)
