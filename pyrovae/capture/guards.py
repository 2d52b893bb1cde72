"""What programs keep in Python beside their tensors, which a recording would hold fixed."""

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
"""Entries of one container that are looked at for changes; of longer ones, their number."""


def guard_state(roots: Iterable[object]) -> tuple[list[object], list[object]]:
    """What a capture holds fixed of all that `roots` reach, to be compared with the first part of
    a later one.

    Numbers, flags and words; which tensors, functions and hooks there are; the values of Boolean
    buffers. The second part keeps what the first names by identity, which would otherwise be lent
    again.
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
    """What torch keeps in attributes of its own."""
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
    """The name of the first function of the user's that runs inside, if any: it may read numbers
    from anywhere.

    Raises nothing; a profiler that is at work is left alone, and what runs then counts as the
    user's.
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
    """Whether a parameter has hooks, which may run on threads that nobody watches."""
    return any(parameter._backward_hooks for parameter in module.parameters(recurse=False))
