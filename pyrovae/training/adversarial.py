"""Generators trained against a critic: GAN and WGAN-GP."""

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyrovae.core.batching import Data, batches
from pyrovae.core.errors import NonFiniteLossError
from pyrovae.core.subnormals import flush_subnormals


class Game(Protocol):
    """The losses of two players."""

    def critic(self, critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """The critic's loss; `fake` has no gradient."""

    def generator(self, critic: nn.Module, fake: Tensor) -> Tensor:
        """The generator's loss."""


class NonSaturating:
    r"""GAN: the critic's loss is -E log s(f(x)) - E log(1 - s(f(G))), the generator's -E log s(f(G)), s the
    sigmoid.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. 1 and section 3.
    """

    def critic(self, critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-critic(real)).mean() + softplus(critic(fake)).mean()

    def generator(self, critic: nn.Module, fake: Tensor) -> Tensor:
        return softplus(-critic(fake)).mean()


class Wasserstein:
    r"""WGAN-GP: the critic's loss is E f(G) - E f(x) + weight E(|grad f(y)| - 1)^2 at points y between real
    and fake, the generator's -E f(G).

    Source: Gulrajani et al. 2017, arXiv:1704.00028, eq. 3.
    """

    def __init__(self, weight: float = 10.0) -> None:
        self.weight = weight

    def critic(self, critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        share = torch.rand(len(real), *(1,) * (real.dim() - 1), device=real.device).to(real)
        between = (share * real + (1 - share) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        return critic(fake).mean() - critic(real).mean() + self.weight * penalty

    def generator(self, critic: nn.Module, fake: Tensor) -> Tensor:
        return -critic(fake).mean()


@flush_subnormals()
def fit_adversarial(
    generate: Callable[[int], Tensor],
    generator: nn.Module,
    critic: nn.Module,
    data: Data,
    *,
    game: Game,
    epochs: int,
    critic_steps: int = 1,
    lr: float = 2e-4,
    name: str = "x",
    progress: Callable[[Iterable], Iterable] | None = None,
) -> list[tuple[float, float]]:
    """Train two players in turn; return the mean losses of critic and generator of each epoch.

    generate: from a number of data to that many fakes, with gradients of the parameters of
        `generator`. critic: from data `(B, ...)` to one number each, `(B,)` or `(B, 1)`. data: batches
        with the real data under `name`. critic_steps: of the critic, each on a batch of its own,
        for each step of the generator. Both use Adam with betas (0.5, 0.9).

    The losses say who is ahead, not how good the generator is: see the landscape, which estimates
    log p(x) by annealed importance sampling.

    Raises: NonFiniteLossError where a loss is not finite, before the step that would spoil the
    weights.
    Source: Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1; Adam: Gulrajani et al. 2017,
    arXiv:1704.00028, algorithm 1 (with beta_1 = 0.5 as Radford et al. 2016).

    Example:
        >>> net, critic = nn.Linear(1, 2), nn.Linear(2, 1)
        >>> real = [{"x": torch.randn(8, 2)} for _ in range(4)]
        >>> fake = lambda num: net(torch.randn(num, 1))
        >>> len(fit_adversarial(fake, net, critic, real, game=NonSaturating(), epochs=2))
        2
    """
    if epochs < 1 or critic_steps < 1:
        raise ValueError(
            f"epochs={epochs} and critic_steps={critic_steps}, expected at least 1 of each."
        )
    players = {
        net: torch.optim.Adam(net.parameters(), lr=lr, betas=(0.5, 0.9))
        for net in (generator, critic)
    }
    steps, history = 0, []
    for epoch in progress(range(epochs)) if progress is not None else range(epochs):
        losses: dict[nn.Module, list[float]] = {generator: [], critic: []}
        for batch in batches(data, None, next(generator.parameters())):
            real, steps = batch[name], steps + 1
            fake = generate(len(real)).detach()
            losses[critic].append(_step(players, critic, game.critic(critic, real, fake), epoch))
            if steps % critic_steps == 0:
                loss = game.generator(critic, generate(len(real)))
                losses[generator].append(_step(players, generator, loss, epoch))
        means = (sum(losses[net]) / max(len(losses[net]), 1) for net in (critic, generator))
        history.append((next(means), next(means)))
    return history


def _step(
    players: dict[nn.Module, torch.optim.Adam], net: nn.Module, loss: Tensor, epoch: int
) -> float:
    value = loss.item()
    if value - value != 0:
        raise NonFiniteLossError(
            f"the loss of {type(net).__name__} is {value} in epoch {epoch + 1}; use a smaller lr."
        )
    players[net].zero_grad()
    loss.backward(inputs=list(net.parameters()))
    players[net].step()
    return value
