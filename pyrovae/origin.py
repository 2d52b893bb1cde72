"""Which distribution a drawn tensor came from, for handlers that draw in another place than the site does."""
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Origin:
    """How to redraw what is computed from a tensor: `rule(operation, x, parts, ...)`, each part as large as the tensor."""

    rule: Callable[..., Tensor]
    parts: tuple[Tensor, ...]


Origins = dict[int, tuple[Tensor, Origin | None]]

origins: ContextVar[Origins | None] = ContextVar("pyrovae_origins", default=None)


def origin_of(tensor: Tensor) -> Origin | None:
    """What a handler noted of this very tensor; None where no handler runs, or where the draw cannot be had otherwise."""
    known = origins.get()
    entry = None if known is None else known.get(id(tensor))
    return None if entry is None else entry[1]


def note(tensor: Tensor, origin: Origin | None) -> None:
    """Remember it, unless the tensor is known: a model that replays a guide's draw did not draw it."""
    known = origins.get()
    if known is not None:
        known.setdefault(id(tensor), (tensor, origin))  # the tensor is kept, so that its id stays its own
