"""What losses on a (model, guide) pair have in common: their modules, and the attributes that the
engine reads."""

from collections.abc import Callable
from typing import Protocol, TypeVar, cast, runtime_checkable

import torch.nn as nn
from torch import Tensor

from pyrovae.core.modules import find_modules
from pyrovae.core.param_store import localize
from pyrovae.core.shapes import DATA
from pyrovae.losses.elbo_terms import Terms
from pyrovae.losses.schedules import Schedule

Value = TypeVar("Value")
_TAKEN = set(dir(nn.ModuleDict))
"""Names that no module in an `nn.ModuleDict` can have."""


def hold(loss: nn.Module, *programs: Callable) -> nn.ModuleDict:
    """Prepare a loss that holds its programs for runs of the engine, and return the modules that
    the programs close over."""
    localize(loss)
    found = nn.ModuleDict(
        {
            f"{name}_" if name in _TAKEN else name: module
            for name, module in find_modules(*programs).items()
            if all(module is not program for program in programs)
        }
    )
    localize(found)
    return found


def unwrap(loss: nn.Module) -> nn.Module:
    """The innermost loss: losses that wrap another one keep it as `inner`."""
    while isinstance(inner := _attribute(loss, "inner", None), nn.Module):
        loss = inner
    return loss


@runtime_checkable
class HasValue(Protocol):
    """A schedule that returns its present weight without counting a step."""

    def value(self) -> float | Tensor:
        """The weight of the next step."""


class Loss(Protocol):
    """The attributes that a loss on a pair may have, each optional: `Trace_ELBO()(model, guide)`
    has the programs alone. Read them by the functions below."""

    model: Callable
    guide: Callable
    plate: str
    beta: float | Schedule
    terms: Terms | None


def programs_of(loss: nn.Module) -> tuple[Callable, Callable] | None:
    """Model and guide of a loss; None for a loss without them."""
    model: Callable | None = _attribute(loss, "model", None)
    guide = guide_of(loss)
    return None if model is None or guide is None else (model, guide)


def guide_of(loss: nn.Module) -> Callable | None:
    """The guide of a loss; None for a loss without one."""
    return _attribute(loss, "guide", None)


def plate_of(loss: nn.Module) -> str:
    """The name of the plate over data."""
    return _attribute(loss, "plate", DATA)


def terms_of(loss: nn.Module) -> Terms | None:
    """The terms of the last evaluation; None for a loss that keeps none."""
    return _attribute(loss, "terms", None)


def set_terms(loss: nn.Module, terms: Terms | None) -> None:
    """Replace the terms that a loss keeps."""
    cast(Loss, loss).terms = terms


def beta_of(loss: nn.Module) -> float | Tensor | None:
    """The present weight of the KL, if it is a number or a schedule with a `value`."""
    beta: object = _attribute(loss, "beta", None)
    value = beta.value() if isinstance(beta, HasValue) else beta
    return value if isinstance(value, (int, float, Tensor)) else None


def _attribute(loss: nn.Module, name: str, otherwise: Value) -> Value:
    """What a loss has under a name of `Loss`; `otherwise` where it has nothing."""
    # a protocol would not do: `isinstance` does not see submodules (from Python 3.12 on)
    return getattr(loss, name, otherwise)
