"""What every loss on a (model, guide) pair does with the pair."""

from collections.abc import Callable

import torch.nn as nn

from pyrovae.core.modules import find_modules
from pyrovae.core.param_store import localize


def hold(loss: nn.Module, *programs: Callable) -> nn.ModuleDict:
    """Make a loss that has taken in its programs ready to run, and return the modules that they
    close over."""
    localize(loss)
    found = nn.ModuleDict(
        {
            f"{name}_" if hasattr(nn.ModuleDict, name) else name: module
            for name, module in find_modules(*programs).items()
            if all(module is not program for program in programs)
        }
    )
    localize(found)
    return found


def unwrap(loss: nn.Module) -> nn.Module:
    """The loss on a pair inside losses that wrap another, which they keep as `inner`."""
    while isinstance(getattr(loss, "inner", None), nn.Module):
        loss = loss.inner
    return loss
