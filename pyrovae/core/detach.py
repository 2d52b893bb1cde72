"""Run a program with its parameters held fixed, so that gradients flow through its draws alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyrovae.core.modules import find_modules
from pyrovae.core.types import Site


@contextmanager
def frozen(*programs: Callable) -> Iterator[None]:
    """Detach every parameter that the programs reach, and those of `pyro.param` statements, until
    the block ends.

    Unlike `requires_grad_(False)` this does not affect graphs that are built before or after the
    block.
    """
    swapped: list[tuple[dict, str, Tensor]] = [
        (part._parameters, name, parameter)
        for module in find_modules(*programs).values()
        for part in module.modules()
        for name, parameter in part._parameters.items()
        if parameter is not None
    ]
    for parameters, name, parameter in swapped:
        parameters[name] = parameter.detach()
    try:
        with _DetachParams():
            yield
    finally:
        for parameters, name, parameter in swapped:
            parameters[name] = parameter


class _DetachParams(Messenger):
    def _pyro_post_param(self, msg: Site) -> None:
        msg["value"] = msg["value"].detach()
