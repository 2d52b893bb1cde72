"""Random-walk Metropolis on the weights of many small nets at once."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pyrovae.bnn.samplers.replayed import Replayed, elsewhere
from pyrovae.bnn.samplers.stacked_chains import (
    Chains,
    Move,
    Read,
    StepSize,
    acceptance,
    check_numbers,
    point_of,
    run_chains,
)
from pyrovae.bnn.samplers.stacked_energy import StackedEnergy
from pyrovae.capture.auto import Compile
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
    compile: Compile = "auto",
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
    proposal = _Proposal(StackedEnergy(loss, batch, num_data), compile)
    adapt = StepSize(proposal.q.new_full((loss.count,), step_size), target)
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

    def __init__(self, energy: StackedEnergy, compile: Compile) -> None:
        self.energy = energy
        self.q = energy.position()
        self.here: Tensor | None = None
        self.value = Replayed(
            lambda batch: [energy.value(batch["q"])],
            [energy.loss],
            compile=compile,
            probe=elsewhere,
        )

    @torch.no_grad()
    def __call__(self, step: Tensor) -> Move:
        potential = self._at(self.q) if self.here is None else self.here
        q = self.q + step[:, None] * torch.randn_like(self.q)
        new = self._at(q)
        accept = acceptance(potential - new)
        taken = torch.rand_like(accept) < accept
        self.q, self.here = (
            torch.where(taken[:, None], q, self.q),
            torch.where(taken, new, potential),
        )
        self.energy.put(self.q)
        return Move(accept, potential, torch.zeros_like(taken))

    def _at(self, q: Tensor) -> Tensor:
        (energy,) = self.value({"q": q})
        return energy
