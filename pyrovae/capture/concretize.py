"""Record programs that read the values of tensors where that is harmless: `.item()`, and Boolean
buffers."""

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pyro.util
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from pyrovae.capture.user_code import is_user_code
from pyrovae.core.errors import CaptureError
from pyrovae.core.modules import name_of

_READ_GRADIENT = vars(torch._C.TensorBase)["grad"].__get__


class ConcretizeMode(TorchFunctionMode):
    """Within it `.item()` returns the detached tensor, which is enough where it is only added to
    others, as in Pyro's estimators. Operations on `masks` alone are computed, so that a program
    may read their values.
    """

    def __init__(self, masks: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.known = {id(mask): mask for mask in masks}
        self.versions = [(mask, mask._version) for mask in self.known.values()]

    def __torch_function__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func == _READ_GRADIENT and _is_users(args[0], sys._getframe(1)):
            raise CaptureError(
                "the program reads the gradient of a parameter, which a captured step does not set."
            )
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        known = [id(tensor) in self.known for tensor in tensors]
        if tensors and all(known):
            before = _random(tensors)
            with _for_real():
                result = func(*args, **(kwargs or {}))
            if not all(map(torch.equal, before, _random(tensors))):
                raise CaptureError(
                    "the program draws random numbers from a Boolean buffer alone, which a recording would "
                    "hold fixed; let them depend on the data."
                )
            self.known |= {
                id(leaf): leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)
            }
            if any(mask._version != version for mask, version in self.versions):
                raise CaptureError(
                    "the program changes a Boolean buffer, whose values a recording holds fixed; make it one "
                    "of numbers."
                )
            return result
        name = name_of(func)
        changed = (kwargs or {}).get("out")
        if (
            name.endswith("_")
            and not name.endswith("__")
            or name.startswith("__i")
            or name == "__setitem__"
        ):
            changed = args[0] if args else None
        if id(changed) in self.known:
            raise CaptureError(
                "the program changes in place a tensor computed from a Boolean buffer; make a new one."
            )
        return args[0].detach() if func is Tensor.item else func(*args, **(kwargs or {}))


def _is_users(tensor: Tensor, reader: FrameType) -> bool:
    """Whether user code reads this tensor, and it is a parameter that existed before the
    recording."""
    while reader.f_code.co_name == "__torch_function__" and reader.f_back is not None:
        reader = reader.f_back  # skip the frames of other modes
    return (
        isinstance(tensor, nn.Parameter)
        and not isinstance(tensor, FakeTensor)
        and is_user_code(reader.f_globals.get("__name__"))
    )


def _random(tensors: list[Tensor]) -> list[Tensor]:
    """The state of the generators that operations on these tensors may use."""
    devices = {tensor.device for tensor in tensors if tensor.is_cuda}
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]


def place_of(error: Exception) -> str:
    """The last line of a traceback that is the user's own: not torch's, Pyro's or this
    folder's."""
    others = tuple(package.__path__[0] for package in (torch, pyro)) + (
        str(Path(__file__).parent),
        "<",
    )
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(others):
            return f" at {Path(frame.filename).name}:{frame.lineno}, `{frame.line}`"
    return ""


@contextmanager
def _for_real() -> Iterator[None]:
    """Suspend the recording: operations inside run on real tensors."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily
    from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

    with unset_fake_temporarily(), disable_proxy_modes_tracing():
        yield


@contextmanager
def without_nan_warnings() -> Iterator[None]:
    """Without Pyro's NaN checks of losses and gradients, which read values and which no setting
    turns off."""
    checks = {"torch_isnan": pyro.util.torch_isnan, "torch_isinf": pyro.util.torch_isinf}
    try:
        for name in checks:
            setattr(pyro.util, name, lambda value: False)
        yield
    finally:
        for name, check in checks.items():
            setattr(pyro.util, name, check)
