"""Training of energy-based models by persistent chains."""

from typing import Protocol

import torch
from torch import Tensor, nn


class EnergyBased(Protocol):
    """p(v) proportional to e^{-F(v)}, with a Gibbs sampler."""

    def free_energy(self, v: Tensor) -> Tensor:
        """F(v) of each row."""

    def gibbs(self, v: Tensor, rounds: int) -> Tensor:
        """Rows after some rounds of a sampler that leaves p(v) as it is."""


class ContrastiveDivergence(nn.Module):
    r"""F(x) - F(v) averaged over data x and over rows v of persistent chains, whose gradient is that
    of -log p(x).

    Its value is no likelihood and does not fall as the model learns; compare models by log p(x)
    (`evidence.annealed_log_z`).

    energy: a module with `free_energy` and `gibbs`, such as `priors.RestrictedBoltzmann`.
    num_chains: rows v, kept from step to step in a buffer. rounds: of Gibbs sampling a step; the
    gradient is biased by how far the chains lag behind the weights.

    Shapes: data x `(B, visible)` of bits -> a scalar.
    Source: Tieleman 2008, ICML ("persistent contrastive divergence").

    Example:
        >>> from pyrovae.priors import RestrictedBoltzmann
        >>> loss = ContrastiveDivergence(RestrictedBoltzmann(4, 3), num_chains=10)
        >>> loss(x=torch.ones(5, 4)).shape
        torch.Size([])
    """

    chains: Tensor

    def __init__(self, energy: nn.Module, *, num_chains: int = 100, rounds: int = 1) -> None:
        super().__init__()
        if num_chains < 1 or rounds < 1:
            raise ValueError(
                f"num_chains={num_chains} and rounds={rounds}, expected at least 1 of each."
            )
        self.energy: EnergyBased = energy  # type: ignore[assignment]
        self.rounds = rounds
        like = next(energy.parameters())
        start = torch.rand(num_chains, *energy().event_shape, device=like.device) < 0.5
        self.register_buffer("chains", start.to(like))

    def forward(self, *, x: Tensor, **others: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled():
            with torch.no_grad():
                self.chains.copy_(self.energy.gibbs(self.chains, self.rounds))
        return self.energy.free_energy(x).mean() - self.energy.free_energy(self.chains).mean()
