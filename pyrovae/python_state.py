"""What programs keep in Python beside their tensors, which a recording would hold fixed."""
import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.errors import CaptureError

KNOWN = ("pyrovae", "torch", "pyro", "zuko", "builtins", "contextlib")
"""Packages whose modules keep in attributes what decides on their way."""
RESERVED = set(vars(nn.Module())) - {"training"}
"""Where modules keep what belongs to torch."""


def fingerprint(module: nn.Module) -> list[tuple]:
    """What a capture holds fixed of a module and its parts: numbers, flags, masks, hooks, and which tensors are theirs."""
    return [(id(part), type(part), _plain(part),
             [(name, id(value), value.requires_grad, list((value._backward_hooks or {}).values()))
              for name, value in part._parameters.items() if value is not None],
             [(name, value.tolist()) for name, value in part._buffers.items()
              if value is not None and value.dtype == torch.bool],
             [hook for kind in ("forward", "forward_pre", "backward", "backward_pre")
              for hook in getattr(part, f"_{kind}_hooks").values()])  # themselves: identities are lent again
            for part in module.modules()]


def has_foreign_code(module: nn.Module) -> bool:
    """Whether classes or functions of the user's take part, which may read numbers from anywhere."""
    return any(is_foreign(type(part)) or is_foreign([value for name, value in vars(part).items() if name not in RESERVED])
               for part in module.modules())


def is_foreign(value: object) -> bool:
    """Whether it is, or holds, a class or function from outside the packages that are known."""
    if isinstance(value, (list, tuple, dict)):
        return any(map(is_foreign, value.values() if isinstance(value, dict) else value))
    return callable(value) and (getattr(value, "__module__", None) or "torch").partition(".")[0] not in KNOWN


def _plain(part: nn.Module) -> dict[str, str]:
    """The attributes that are numbers, words or tensors, or hold some, by what would tell that they changed."""
    return {name: told for name, value in vars(part).items() if name not in RESERVED and (told := _tell(value)) is not None}


def _tell(value: object) -> str | None:
    if isinstance(value, Tensor):
        return f"tensor {id(value)}"
    if isinstance(value, (bool, int, float, str, np.generic)):
        return repr(value)
    if isinstance(value, (list, tuple, dict)):
        parts = [_tell(part) for part in (value.values() if isinstance(value, dict) else value)]
        return repr(parts) if any(part is not None for part in parts) or isinstance(value, (list, dict)) else None
    return None


@contextmanager
def unchanged(parts: Iterable[nn.Module]) -> Iterator[None]:
    """Put back what runs inside leave in attributes, and raise CaptureError where numbers or tensors are among that."""
    before = [(part, _plain(part), {name: copy.copy(value) if isinstance(value, (list, dict)) else value
                                    for name, value in vars(part).items() if name not in RESERVED}) for part in parts]
    changed: list[str] = []
    try:
        yield
    finally:
        for part, told, values in before:
            now = _plain(part)
            changed += [f"{type(part).__name__}.{name}" for name in told.keys() | now.keys()
                        if told.get(name) != now.get(name)]
            for name in set(vars(part)) - RESERVED - set(values):
                delattr(part, name)
            vars(part).update(values)
    if changed:
        raise CaptureError(f"{min(changed)} changes from call to call, which a replay would not do; keep it in a buffer.")
