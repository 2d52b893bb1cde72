"""Which distribution a drawn tensor came from, for handlers that draw in another place than the
site does."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

CHANNEL_DIM = {F.linear: -1, F.conv1d: -2, F.conv2d: -3, F.conv3d: -4}
"""Layers whose weight noise can be drawn for each datum, and where their inputs have the features.
"""


@dataclass(frozen=True)
class Provenance:
    """How to redraw what is computed from a tensor: `rule(operation, x, parts, ...)`, each part as
    large as the tensor."""

    rule: Callable[..., Tensor]
    parts: tuple[Tensor, ...]
    is_drawn: bool = True
    """False where the tensor has only the place of a draw, not its numbers."""


class Origins(dict[int, tuple[Tensor, Provenance | None]]):
    """What a handler knows; `renew` makes another of its kind, for a program inside that no
    handler outside sees.

    draws: whether weights get numbers; see `skip_weight_sampling`.
    """

    def __init__(self, renew: Callable[[], AbstractContextManager]) -> None:
        super().__init__()
        self.renew, self.draws = renew, True


origins: ContextVar[Origins | None] = ContextVar("pyrovae_origins", default=None)


def origin_of(tensor: Tensor) -> Provenance | None:
    """What a handler noted of this very tensor; None where no handler runs, or where the draw
    cannot be had otherwise."""
    known = origins.get()
    entry = None if known is None else known.get(id(tensor))
    return None if entry is None else entry[1]


def are_noted() -> bool:
    """Whether a handler runs that follows tensors as such, which values passed on as numbers would
    escape."""
    return origins.get() is not None


def note(tensor: Tensor, origin: Provenance | None) -> None:
    """Remember it, unless the tensor is known: a model that replays a guide's draw did not draw
    it."""
    known = origins.get()
    if known is not None:
        known.setdefault(
            id(tensor), (tensor, origin)
        )  # the tensor is kept, so that its id stays its own


@contextmanager
def skip_weight_sampling() -> Iterator[None]:
    """Within it, under a handler that redraws outputs, normal weights are not drawn: NaN stands
    for them."""
    known = origins.get()
    if known is None:
        raise LookupError("no handler runs that redraws outputs")
    known.draws = False
    try:
        yield
    finally:
        known.draws = True


def narrow(tensor: Tensor, start: int, stop: int) -> Tensor:
    """Part of the rows of a drawn tensor, whose origin they share."""
    part, origin = tensor[start:stop], origin_of(tensor)
    if origin is not None:
        note(part, replace(origin, parts=tuple(value[start:stop] for value in origin.parts)))
    return part


def renewed() -> AbstractContextManager:
    """The handler that runs, anew."""
    known = origins.get()
    return nullcontext() if known is None else known.renew()


def redrawing() -> AbstractContextManager:
    """Within it, a layer that applies a weight of known origin applies the rule of that origin."""
    return nullcontext() if origins.get() is None else _Redraw()


class _Redraw(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> Tensor:
        kwargs = kwargs or {}
        if func in CHANNEL_DIM and len(args) >= 2 and (origin := origin_of(args[1])) is not None:
            bias = args[2] if len(args) > 2 else kwargs.pop("bias", None)

            def operation(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
                return func(x, weight, bias, *args[3:], **kwargs)

            return origin.rule(operation, args[0], origin.parts, bias, CHANNEL_DIM[func])
        return func(*args, **kwargs)
