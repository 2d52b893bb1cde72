"""Random-walk Metropolis on the weights of many small nets at once."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pyrovae.bnn.samplers.stacked_chains import (
    Chains,
    Move,
    Read,
    StepSize,
    accept_or_stay,
    acceptance,
    check_energy,
    check_numbers,
    like,
    point_of,
    run_chains,
)
from pyrovae.losses.stacked import Stacked


def random_walk(
    loss: Stacked,
    batch: Mapping[str, Tensor],
    *,
    num_data: int,
    num_samples: int,
    warmup: int,
    step_size: float = 1e-2,
    target: float = 0.234,
    thin: int = 1,
    read: Read = point_of,
    progress: Callable[[int], object] = lambda iteration: None,
) -> Chains:
    r"""Random-walk Metropolis of stacked chains with the energy U(w) = N * loss: w' ~ N(w, step^2 I),
    accepted with probability min(1, exp(U(w) - U(w'))).

    It takes no gradients, and its steps shrink with the number of weights: of D of them, a draw
    that forgets the last takes about D iterations. Arguments, adaptation and errors are those of
    `hmc`; `energy` of the chains is U in nats.
    Exact up to Monte Carlo error if it mixes: look at R-hat over members that share their data.

    Source: Metropolis et al. 1953, J. Chem. Phys. 21; target: Roberts, Gelman & Gilks 1997, Ann.
    Appl. Probab. 7(1).

    Example:
        >>> from pyrovae import Bayesian, ElboLoss, Model, Node, Stacked
        >>> from pyrovae.bnn.guides import PointEstimate
        >>> from pyrovae.heads import FixedScaleNormalHead
        >>> def make() -> ElboLoss:
        ...     model = Model(y=Node(FixedScaleNormalHead(Bayesian(torch.nn.Linear(1, 1)), scale=0.5), "x"))
        ...     return ElboLoss(model, PointEstimate(model), num_data=8)
        >>> chains = Stacked([make() for _ in range(4)], shared=True)
        >>> batch = {"x": torch.ones(8, 1), "y": torch.ones(8, 1)}
        >>> found = random_walk(chains, batch, num_data=8, num_samples=5, warmup=10)
        >>> found.draws["w.weight"].shape
        torch.Size([5, 4, 1, 1])
    """
    check_numbers(num_data=num_data, num_samples=num_samples, thin=thin, warmup=warmup)
    check_energy(loss, batch, num_data)
    proposal = _Proposal(loss, dict(batch), num_data)
    adapt = StepSize(proposal.parameters[0].new_full((loss.count,), step_size), target)
    return run_chains(
        loss,
        proposal,
        adapt,
        num_samples=num_samples,
        warmup=warmup,
        thin=thin,
        read=read,
        progress=progress,
    )


class _Proposal:
    """One step of each chain, accepted or not."""

    def __init__(self, loss: Stacked, batch: dict[str, Tensor], num_data: int) -> None:
        self.loss, self.batch, self.num_data = loss, batch, num_data
        self.parameters = [parameter for parameter in loss.stacked if parameter.requires_grad]
        self.here: Tensor | None = None

    @torch.no_grad()
    def __call__(self, step: Tensor) -> Move:
        potential = self.energy() if self.here is None else self.here
        start = [parameter.clone() for parameter in self.parameters]
        for parameter in self.parameters:
            parameter.add_(like(step, parameter) * torch.randn_like(parameter))
        new = self.energy()
        accept = acceptance(potential - new)
        taken = torch.rand_like(accept) < accept
        accept_or_stay(taken, self.parameters, start)
        self.here = torch.where(taken, new, potential)
        return Move(accept, potential, torch.zeros_like(taken))

    def energy(self) -> Tensor:
        return self.num_data * self.loss.losses(self.batch)
