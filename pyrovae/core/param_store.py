"""How parameters of plain modules meet Pyro's global parameter store.

Pyro's SVI trains the tensors of `param` statements alone, so a program made of plain `nn.Module`s
would silently train nothing. `register_params` makes those statements. The engine has no need of
them (it owns an ordinary optimiser) and runs every pair inside `local_param_scope`, where nothing
enters the store.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pyro
import torch.nn as nn
from pyro.params.param_store import ParamStoreDict
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor

_local_scope: ContextVar[bool] = ContextVar("pyrovae_local_param_scope", default=False)


@contextmanager
def local_param_scope() -> Iterator[None]:
    """Run programs without touching the global store: `PyroModule`s keep their parameters to
    themselves."""
    if in_local_scope():
        yield
        return
    token = _local_scope.set(True)
    try:
        with pyro.settings.context(module_local_params=True):
            yield
    finally:
        _local_scope.reset(token)


def in_local_scope() -> bool:
    """Whether the engine runs this program, and not the user."""
    return _local_scope.get()


def localize(module: nn.Module) -> None:
    """Let `PyroModule`s that were built outside `local_param_scope` run inside it.

    Pyro gives a module's context its local store only at construction; this adds it later, which
    has no effect outside that scope.
    """
    for context in _contexts(module):
        if "param_state" not in context:
            context["param_state"] = {"params": {}, "constraints": {}}


def local_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Unconstrained tensors of the `pyro.param` statements that `PyroModule`s ran inside
    `local_param_scope`."""
    states = (context["param_state"] for context in _contexts(module) if "param_state" in context)
    return {name: tensor for state in states for name, tensor in state["params"].items()}


def _contexts(module: nn.Module) -> Iterator[dict[str, Any]]:
    """The attributes of the context that Pyro keeps for each `PyroModule`."""
    for part in module.modules():
        context = part.__dict__.get("_pyro_context")
        if context is not None:
            yield vars(context)


def register_params(module: nn.Module, prefix: str) -> None:
    """Make one `pyro.param` statement for each trainable tensor of `module`, each tensor once in
    the process.

    A tensor that the store knows keeps its name, so one shared by model and guide is one
    parameter; a new tensor whose name is taken (a second pair, a deep copy) gets a name of its own
    instead of the other's values.
    """
    if in_local_scope() or not am_i_wrapped():
        return
    store = pyro.get_param_store()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            if not parameter.is_contiguous():  # the store would keep, and train, a contiguous copy
                parameter.data = parameter.data.contiguous()
            known = store.param_name(parameter)
            pyro.param(known or _unused(store, f"{prefix}.{name}"), parameter)


def _unused(store: ParamStoreDict, name: str) -> str:
    candidate, count = name, 1
    while candidate in store:
        count += 1
        candidate = f"{name}#{count}"
    return candidate
