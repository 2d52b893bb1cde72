"""How parameters of plain modules meet Pyro's global parameter store.

Pyro's SVI trains what it sees in `param` statements, so a program made of plain `nn.Module`s would train nothing,
in silence. `announce` makes those statements. The engine has no need of them (it owns an ordinary optimiser) and
runs every pair inside `private`, where nothing enters the store.
"""
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pyro
import torch.nn as nn
from pyro.poutine.runtime import am_i_wrapped

_private: ContextVar[bool] = ContextVar("pyrovae_private", default=False)


@contextmanager
def private() -> Iterator[None]:
    """Run programs without touching the global store: `PyroModule`s keep their parameters to themselves."""
    token = _private.set(True)
    try:
        with pyro.settings.context(module_local_params=True):
            yield
    finally:
        _private.reset(token)


def announce(module: nn.Module, prefix: str) -> None:
    """Make one `pyro.param` statement for each trainable tensor of `module`, each tensor once in the process.

    A tensor that the store knows keeps its name, so one shared by model and guide is one parameter; a new tensor
    whose name is taken (a second pair, a deep copy) gets a name of its own instead of the other's values.
    """
    if _private.get() or not am_i_wrapped():
        return
    store = pyro.get_param_store()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            known = store.param_name(parameter)
            pyro.param(known or _unused(store, f"{prefix}.{name}"), parameter)


def _unused(store, name: str) -> str:
    candidate, count = name, 1
    while candidate in store:
        count += 1
        candidate = f"{name}#{count}"
    return candidate
