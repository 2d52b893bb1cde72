"""The energy of many small nets at once, as a function of one row of numbers for each."""

from collections.abc import Collection, Mapping
from math import prod

import torch
import torch.nn as nn
from pyro import poutine
from torch import Tensor

from pyrovae.bnn.samplers.stacked_chains import check_energy
from pyrovae.core.batching import as_batch
from pyrovae.core.param_store import local_param_scope
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.target_shapes import check_one_score_each
from pyrovae.core.traces import sample_sites
from pyrovae.losses.base import guide_of, programs_of
from pyrovae.losses.stacked import Stacked


class StackedEnergy:
    r"""U(q) = N * loss, `(R,)` in nats, of R stacked losses on all N data.

    A row of q, `(R, D)`, holds the parameters of the guide of one member, side by side; those of
    the model have no prior, and keep their present values.
    held: names of parameters of the guide that do so too.
    Raises: ValueError as `check_energy` does, where nothing is left to move, and for an energy that
    is random or changes buffers.
    """

    def __init__(
        self,
        loss: Stacked,
        batch: Mapping[str, Tensor],
        num_data: int,
        held: Collection[str] = (),
    ) -> None:
        batch = on_device_of(loss, batch)
        check_energy(loss, batch, num_data)
        own = _names_of(loss.template[0], guide_of(loss.template[0]))
        self.loss, self.batch, self.num_data = loss, batch, num_data
        self.moved = {
            name: parameter
            for name, parameter in zip(loss.names, loss.stacked)
            if parameter.requires_grad and name in own and name not in held
        }
        if not self.moved:
            raise ValueError(
                f"the chains have nothing to move: of the parameters {loss.names}, {sorted(held)} are drawn "
                "otherwise, and the others take no gradient or are the model's."
            )
        self._check_targets()
        self._refuse_unsteady()

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

    @torch.no_grad()
    def _check_targets(self) -> None:
        programs = programs_of(self.loss.template[0])
        if programs is None:
            return
        with (
            preserve_state([self.loss]),
            self.loss.as_member(0),
            local_param_scope(),
            poutine.block(),
        ):
            trace = poutine.trace(programs[0]).get_trace(**self.loss.rows(self.batch, 0))
        for site in sample_sites(trace, observed=True).values():
            check_one_score_each(site)

    @torch.no_grad()
    def _refuse_unsteady(self) -> None:
        before = [buffer.clone() for buffer in self.loss.buffers()]
        first, again = (self.value(self.position()) for _ in range(2))
        changed = []
        for name, buffer, old in zip(self.loss.buffer_names, self.loss.buffers(), before):
            if not torch.equal(buffer.nan_to_num(), old.nan_to_num()):
                changed.append(name)
                buffer.copy_(old)
        if changed:
            raise ValueError(
                f"evaluating the loss changes its buffers {changed}, as under BatchNorm, so that predictions are of "
                "another function than the draws. Call loss.eval(), or use LayerNorm or GroupNorm."
            )
        if not torch.allclose(first, again, rtol=1e-4, atol=1e-3, equal_nan=True):
            raise ValueError(
                f"the energy is random ({float(first[0]):.6g}, then {float(again[0]):.6g} nats at the same point), as "
                "under dropout or a guide that is no PointEstimate, so no chain follows it. Call loss.eval(), or remove "
                "what draws numbers besides the sample sites."
            )

    def _parts(self, q: Tensor) -> list[Tensor]:
        parts = q.split([prod(parameter.shape[1:]) for parameter in self.moved.values()], 1)
        return [part.reshape(like.shape) for part, like in zip(parts, self.moved.values())]


def _names_of(loss: nn.Module, part: object) -> set[str]:
    """The names in a loss of the parameters of a part of it."""
    own = {id(value) for value in part.parameters()} if isinstance(part, nn.Module) else set()
    return {name for name, value in loss.named_parameters() if id(value) in own}


def on_device_of(loss: Stacked, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The data as tensors of the device and precision of the networks. Raises TypeError for another
    loss."""
    if not isinstance(loss, Stacked):
        raise TypeError(
            f"the chains are of {type(loss).__name__}, expected Stacked([loss, ...]), one loss for each chain, with "
            "shared=True if they share their data."
        )
    return as_batch(batch, None, next(iter(loss.parameters())))
