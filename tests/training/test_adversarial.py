"""Two players: their losses by hand, and a generator that learns where the data are."""

import math

import pytest
import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.evidence import annealed_importance
from pyrovae.heads import FlippedBernoulliHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal
from pyrovae.training.adversarial import Game, NonSaturating, Wasserstein, fit_adversarial


def test_losses_are_their_formulas() -> None:
    critic, real, fake = nn.Linear(2, 1), torch.randn(5, 2), torch.randn(5, 2)
    on_real, on_fake = critic(real).sigmoid(), critic(fake).sigmoid()
    game = NonSaturating()
    torch.testing.assert_close(
        game.critic(critic, real, fake), -on_real.log().mean() - (1 - on_fake).log().mean()
    )
    torch.testing.assert_close(game.generator(critic, fake), -on_fake.log().mean())
    other = Wasserstein(weight=10.0)
    steep = (critic.weight.norm() - 1) ** 2  # the slope of a linear critic is its weight
    torch.testing.assert_close(
        other.critic(critic, real, fake),
        critic(fake).mean() - critic(real).mean() + 10 * steep,
    )


@pytest.mark.parametrize("game", [NonSaturating(), Wasserstein()], ids=["gan", "wgan-gp"])
def test_a_generator_finds_the_data(game: Game) -> None:
    torch.manual_seed(0)
    data = [{"x": torch.tensor([2.0, -1.0]) + 0.5 * torch.randn(50, 2)} for _ in range(10)]
    net, critic = nn.Linear(2, 2), MLP(2, [32], 1)

    def fake(num: int) -> Tensor:
        return net(torch.randn(num, 2))

    fit_adversarial(fake, net, critic, data, game=game, epochs=80, lr=2e-2, critic_steps=2)
    drawn = fake(2000)
    assert (drawn.mean(0) - torch.tensor([2.0, -1.0])).abs().max() < 0.4
    assert (drawn.std(0) - 0.5).abs().max() < 0.4


def test_a_generator_without_a_likelihood_gets_one_from_noise() -> None:
    """By annealing; against a grid over its latent."""
    net = MLP(1, [8], 6).double()
    model = pv.Model(
        z=StandardNormal(1).double(), x=pv.Node(FlippedBernoulliHead(net, flip=0.1), "z")
    )
    x = (torch.rand(5, 6) < 0.5).double()
    torch.manual_seed(0)
    ours = annealed_importance(model, {"x": x}, num_chains=50, num_steps=50, num_leapfrog=3)
    z = torch.linspace(-8, 8, 2001).double().view(-1, 1, 1)
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z).squeeze(-1)
    log_p = log_p + model.nodes["x"].conditional(z).log_prob(x)
    exact = log_p.logsumexp(0) + math.log(16 / 2000)
    assert ((ours.log_px - exact).abs() < 5 * ours.se + 1e-6).all()


def test_a_loss_that_is_not_finite_stops_both() -> None:
    net, critic = nn.Linear(1, 2), nn.Linear(2, 1)
    critic.weight.data.fill_(math.inf)
    before = [weight.clone() for weight in net.parameters()]
    with pytest.raises(pv.NonFiniteLossError, match="the loss of Linear is .* in epoch 1"):
        fit_adversarial(
            lambda num: net(torch.randn(num, 1)),
            net,
            critic,
            [{"x": torch.randn(3, 2)}],
            game=NonSaturating(),
            epochs=1,
        )
    assert all(torch.equal(one, other) for one, other in zip(before, net.parameters()))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="flip=0.5, expected a probability"):
        FlippedBernoulliHead(MLP(1, [2], 2), flip=0.5)
