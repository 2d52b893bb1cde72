"""The distribution that a tensor was drawn from, for handlers that draw at another place than the
site: the output of a layer, say, in place of its weights."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

CHANNEL_DIM = {F.linear: -1, F.conv1d: -2, F.conv2d: -3, F.conv3d: -4}
"""Layers whose weight noise can be drawn for each datum, and the dim of their features.
"""


@dataclass(frozen=True)
class Provenance:
    """How to draw the output of an operation on a tensor instead of the tensor itself:
    `rule(operation, x, parts, ...)`, each part as large as the tensor."""

    rule: Callable[..., Tensor]
    parts: tuple[Tensor, ...]
    is_drawn: bool = True
    """False for a placeholder (NaN) of a weight that was not sampled."""


class Origins(dict[int, tuple[Tensor, Provenance | None]]):
    """The provenance of tensors by identity, as a handler records it.

    renew: makes a new handler of the same kind, for programs that run under `poutine.block`.
    draws: whether weights are sampled; see `skip_weight_sampling`.
    """

    def __init__(self, renew: Callable[[], AbstractContextManager]) -> None:
        super().__init__()
        self.renew, self.draws = renew, True


origins: ContextVar[Origins | None] = ContextVar("pyrovae_origins", default=None)


def origin_of(tensor: Tensor) -> Provenance | None:
    """The provenance recorded for this tensor; None where no handler is active, and for a draw
    that has no rule for redrawing."""
    known = origins.get()
    entry = None if known is None else known.get(id(tensor))
    return None if entry is None else entry[1]


def are_noted() -> bool:
    """Whether a handler is active that tracks tensors by identity, so that copies of them would
    lose their provenance."""
    return origins.get() is not None


def note(tensor: Tensor, origin: Provenance | None) -> None:
    """Record the provenance of a tensor that has none yet: a model that replays a draw of the
    guide did not make it."""
    known = origins.get()
    if known is not None:
        known.setdefault(
            id(tensor), (tensor, origin)
        )  # keeps the tensor alive, so that its id is not reused


@contextmanager
def skip_weight_sampling() -> Iterator[None]:
    """Within it, under a handler that redraws outputs, normal weights are not sampled: NaN takes
    their place."""
    known = origins.get()
    if known is None:
        raise LookupError("no handler is active that redraws outputs")
    known.draws = False
    try:
        yield
    finally:
        known.draws = True


def narrow(tensor: Tensor, start: int, stop: int) -> Tensor:
    """Rows `start:stop` of a drawn tensor, with its provenance."""
    part, origin = tensor[start:stop], origin_of(tensor)
    if origin is not None:
        note(part, replace(origin, parts=tuple(value[start:stop] for value in origin.parts)))
    return part


def renewed() -> AbstractContextManager:
    """A new handler of the kind that is active, or none."""
    known = origins.get()
    return nullcontext() if known is None else known.renew()


def redrawing() -> AbstractContextManager:
    """Within it, a layer with a weight of known provenance applies the rule of that provenance."""
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
