"""Guards: the Python state of programs, which captures hold fixed, and whether user code runs."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import numpy as np
import torch
import torch.nn as nn
from pyro.poutine import runtime
from torch.nn.modules import module as torch_module

from pyrovae.capture.reachable import holders, hooks_of
from pyrovae.capture.user_code import is_user_code

WATCHED = 1000
"""Containers up to this length are compared by their entries, longer ones by their length."""


def guard_state(roots: Iterable[object]) -> tuple[list[object], list[object]]:
    """The Python state, of everything that `roots` reach, that a capture holds fixed; its first
    part is to be compared with that of a later call.

    It consists of numbers, flags and words; the identities of tensors, functions and hooks; the
    values of Boolean buffers. The second part keeps the objects alive that the first names by
    identity, so that no identity is reused.
    """
    roots, kept = list(roots), []
    roots += [
        *runtime._PYRO_STACK,
        torch_module._global_forward_hooks,
        torch_module._global_forward_pre_hooks,
        torch_module._global_backward_hooks,
        torch_module._global_backward_pre_hooks,
    ]

    def tell(value: object, owner: object = None) -> object:
        if isinstance(value, np.ndarray) and isinstance(owner, np.ndarray):
            return value.shape, str(value.dtype), hash(value.tobytes())
        if isinstance(value, (bool, int, float, complex, str, bytes, np.generic, type(None))):
            return repr(value)
        kept.append(value)
        return id(value)

    state: list[object] = []
    for holder in holders(roots):
        if not holder.guarded:
            continue
        content = holder.read()
        state.append(
            (tell(holder.owner), len(content))
            if len(content) > WATCHED
            else (
                tell(holder.owner),
                [(key, tell(value, holder.owner)) for key, value in content.items()],
            )
        )
    for root in roots:
        if isinstance(root, nn.Module):
            state += [_module_state(part, tell) for part in root.modules()]
    return state, kept


def _module_state(part: nn.Module, tell: Callable[[object], object]) -> tuple:
    """The state of a module in torch's own attributes: mode, parameters, Boolean buffers,
    hooks."""
    return (
        part.training,
        [
            (
                name,
                tell(value),
                value.stride(),
                value.requires_grad,
                [
                    tell(hook)
                    for hooks in (
                        value._backward_hooks,
                        value._post_accumulate_grad_hooks,
                    )
                    for hook in (hooks or {}).values()
                ],
            )
            for name, value in part._parameters.items()
            if value is not None
        ],
        [
            (name, value.tolist())
            for name, value in part._buffers.items()
            if value is not None and value.dtype == torch.bool
        ],
        list(map(tell, hooks_of(part))),
    )


@contextmanager
def watch_user_code() -> Iterator[list[str]]:
    """Yield a list that gets the name of the first user function that runs inside: it may read
    numbers from anywhere.

    An active profiler is left alone; all code that runs then counts as user code.
    """
    found: list[str] = []
    if sys.getprofile() is not None:
        yield ["a profiler"]
        return

    def look(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and is_user_code(frame.f_globals.get("__name__")):
            found.append(frame.f_code.co_name)
            sys.setprofile(None)

    sys.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(None)


def has_backward_hooks(module: nn.Module) -> bool:
    """Whether a parameter has hooks, which may run on threads that `watch_user_code` does not
    see."""
    return any(parameter._backward_hooks for parameter in module.parameters(recurse=False))
