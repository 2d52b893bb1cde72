"""What lets a recording follow a program past its looks at the values of tensors."""
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pyro.util
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from pyrovae.errors import CaptureError


class Following(TorchFunctionMode):
    """Within it `.item()` gives the detached tensor, which is enough where it is only added to others, as in Pyro's
    estimators; and what a program makes of `masks` alone is computed, so that it may look at their values.
    """

    def __init__(self, masks: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.known = {id(mask): mask for mask in masks}
        self.versions = [(mask, mask._version) for mask in self.known.values()]

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if tensors and all(id(tensor) in self.known for tensor in tensors):
            with _for_real():
                result = func(*args, **(kwargs or {}))
            self.known |= {id(leaf): leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)}
            if any(mask._version != version for mask, version in self.versions):
                raise CaptureError("the program changes a Boolean buffer, whose values a recording holds fixed; make it one "
                                   "of numbers.")
            return result
        return args[0].detach() if func is Tensor.item else func(*args, **(kwargs or {}))


@contextmanager
def _for_real() -> Iterator[None]:
    """Outside the recording and its tensors without values."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily
    from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

    with unset_fake_temporarily(), disable_proxy_modes_tracing():
        yield


@contextmanager
def without_nan_warnings() -> Iterator[None]:
    """Without Pyro's look at the values of losses and gradients, which no setting turns off."""
    looks = {name: getattr(pyro.util, name) for name in ("torch_isnan", "torch_isinf")}
    try:
        for name in looks:
            setattr(pyro.util, name, lambda value: False)
        yield
    finally:
        for name, look in looks.items():
            setattr(pyro.util, name, look)
