"""The energy of many small nets at once, as a function of one row of numbers for each."""

from collections.abc import Collection, Mapping
from math import prod

import torch
from torch import Tensor

from pyrovae.bnn.samplers.stacked_chains import check_energy
from pyrovae.core.types import Batch
from pyrovae.losses.stacked import Stacked


class StackedEnergy:
    r"""U(q) = N * loss, `(R,)` in nats, of R stacked losses on all N data.

    A row of q, `(R, D)`, holds the parameters of one member, side by side.
    held: names of parameters that keep their present values and are no part of q.
    Raises: ValueError as `check_energy` does, and where nothing is left to move.
    """

    def __init__(
        self,
        loss: Stacked,
        batch: Mapping[str, Tensor],
        num_data: int,
        held: Collection[str] = (),
    ) -> None:
        check_energy(loss, batch, num_data)
        self.loss, self.batch, self.num_data = loss, dict(batch), num_data
        self.moved = {
            name: parameter
            for name, parameter in zip(loss.names, loss.stacked)
            if parameter.requires_grad and name not in held
        }
        if not self.moved:
            raise ValueError(
                f"the chains have nothing to move: of the parameters {loss.names}, {sorted(held)} are drawn "
                "otherwise, and the others take no gradient."
            )

    def position(self) -> Tensor:
        """The present parameters, `(R, D)`."""
        return torch.cat(
            [value.detach().reshape(self.loss.count, -1) for value in self.moved.values()], 1
        )

    @torch.no_grad()
    def put(self, q: Tensor) -> None:
        """Give the stacked losses these parameters."""
        for parameter, value in zip(self.moved.values(), self._parts(q)):
            parameter.copy_(value)

    def value(self, q: Tensor) -> Tensor:
        """U of each row."""
        return self.num_data * self.loss.losses(self.batch, dict(zip(self.moved, self._parts(q))))

    def value_and_gradient(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """U and its gradient `(R, D)`, without history."""
        with torch.enable_grad():
            q = q.detach().requires_grad_()
            energy = self.value(q)
            (gradient,) = torch.autograd.grad(energy.sum(), q)
        return energy.detach(), gradient

    def _parts(self, q: Tensor) -> list[Tensor]:
        parts = q.split([prod(parameter.shape[1:]) for parameter in self.moved.values()], 1)
        return [part.reshape(like.shape) for part, like in zip(parts, self.moved.values())]


def elsewhere(batch: Batch) -> Batch:
    """Another point, at which a graph is compared with its program: signs change, sizes too."""
    return {**batch, "q": 0.3 - 0.7 * batch["q"]}
