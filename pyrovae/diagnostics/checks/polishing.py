"""A short continuation of training with small steps, and what it gains; the parameters are put
back."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor, nn

from pyrovae.core.param_store import local_param_scope
from pyrovae.core.parameters import find_parameters
from pyrovae.core.preserve_state import preserve_state
from pyrovae.losses.base import terms_of

EVALUATIONS = 32
"""Evaluations of the loss before and after, on the same noise."""


@dataclass(frozen=True)
class Gain:
    """What small steps gained, in nats per datum."""

    objective: float
    error: float
    """Standard error of `objective`."""
    reconstruction: float
    lr: float
    num_steps: int


def polish(loss: nn.Module, batch: dict[str, Tensor], *, lr: float, num_steps: int) -> Gain:
    """Adam on the whole batch with a rate that falls from `lr` to 0; parameters, flags, buffers,
    gradients and random streams are as before when it returns."""
    with preserve_state([loss], training=False, random=False), _restored(loss, batch) as tensors:
        before = _evaluate(loss, batch)
        optimizer = torch.optim.Adam(tensors, lr=lr)
        for step in range(num_steps):
            optimizer.param_groups[0]["lr"] = lr * (1 - step / num_steps)
            with torch.enable_grad(), local_param_scope(), pyro.validation_enabled(False):
                grads = torch.autograd.grad(loss(**batch), tensors, allow_unused=True)
            if not all(grad is None or grad.isfinite().all() for grad in grads):
                break
            for tensor, grad in zip(tensors, grads):
                tensor.grad = grad
            optimizer.step()
        after = _evaluate(loss, batch)
    change = before[0] - after[0]
    return Gain(
        change.mean().item(),
        (change.std() / len(change) ** 0.5).item(),
        (after[1] - before[1]).mean().item(),
        lr,
        num_steps,
    )


@contextmanager
def _restored(loss: nn.Module, batch: dict[str, Tensor]) -> Iterator[list[Tensor]]:
    """The tensors that training updates, with their values and gradients put back at the end."""
    with torch.enable_grad():
        tensors = list(find_parameters(loss, batch).values())
    kept = [(tensor, tensor.detach().clone(), tensor.grad) for tensor in tensors]
    try:
        yield tensors
    finally:
        with torch.no_grad():
            for tensor, value, grad in kept:
                tensor.copy_(value)
                tensor.grad = grad


@torch.enable_grad()
def _evaluate(loss: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Losses and reconstructions on noise that is the same at each call, `(EVALUATIONS,)` each."""
    # with gradients, as losses count active units without them, by many draws of some guides
    losses, reconstructions = [], []
    state = torch.get_rng_state()
    for seed in range(EVALUATIONS):
        torch.manual_seed(seed)
        with local_param_scope(), pyro.validation_enabled(False):
            losses.append(loss(**batch).detach().double().cpu())
        terms = terms_of(loss)
        reconstructions.append(
            losses[-1] * torch.nan
            if terms is None
            else terms.reconstruction.detach().double().cpu()
        )
    torch.set_rng_state(state)
    return torch.stack(losses), torch.stack(reconstructions)
