"""Find every tensor that training a loss has to update, in modules and in Pyro's stores."""

import warnings
from collections.abc import Iterator

import pyro
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.core.errors import PairError
from pyrovae.core.param_store import local_param_scope, local_parameters
from pyrovae.core.preserve_state import preserve_state


def find_parameters(loss: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The trainable leaf tensors that a loss depends on, by name, found by a run in train mode and
    one in eval mode; the runs leave nothing behind except parameters that are made lazily.

    These are the loss's own parameters (an autoguide's exist only after that run) and those that
    hand-written programs keep in Pyro's store by `pyro.param`, named `param_store.NAME`.

    Raises: PairError where the loss depends on a leaf that neither holds (it would be neither
    trained nor saved), and where there is nothing to train.
    """
    leaves: set[Tensor] = set()
    for training in (
        True,
        False,
    ):  # a step in train mode may hold some of them fixed, as `Lagging` does
        with (
            local_param_scope(),
            pyro.validation_enabled(False),
            preserve_state([loss], training=training),
        ):
            leaves |= set(_leaves(loss(**batch)))
    named: dict[str, Tensor] = {
        name: parameter for name, parameter in loss.named_parameters() if parameter.requires_grad
    }
    known, store = set(named.values()), pyro.get_param_store()
    stored = dict(sorted(store.named_parameters())) | local_parameters(loss)
    named |= {
        f"param_store.{name}": tensor
        for name, tensor in stored.items()
        if tensor in leaves - known
    }
    lost = leaves - set(named.values()) - set(batch.values())
    if lost:
        raise PairError(
            f"the loss depends on trainable tensors of shapes {sorted(tuple(leaf.shape) for leaf in lost)} that "
            "belong to no module of the pair and to no pyro.param, so they would not be trained. Make them "
            "parameters of an nn.Module that the program holds."
        )
    if not leaves & set(named.values()):
        raise PairError(
            "the loss depends on no trainable tensor; is every parameter frozen (requires_grad=False)?"
        )
    idle = sorted(name for name, parameter in named.items() if parameter not in leaves)
    if idle:
        warnings.warn(
            f"{len(idle)} parameters have no influence on the loss and will not train: {', '.join(idle[:5])}"
            f"{', ...' if len(idle) > 5 else ''}. A net called under no_grad, or left unused? Freeze them with "
            "requires_grad_(False) if that is meant.",
            stacklevel=5,
        )
    return named


def _leaves(loss: Tensor) -> Iterator[Tensor]:
    """Leaf tensors behind a scalar, found on its autograd graph."""
    seen, stack = set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch._C._functions.AccumulateGrad):
            yield node.variable
        stack.extend(parent for parent, _ in node.next_functions)
