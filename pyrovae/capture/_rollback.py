"""Run programs and undo what they changed, in Python objects and in tensors."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from pyrovae.capture._contents import value_key
from pyrovae.capture.reachable import Search
from pyrovae.core.errors import CaptureError


@contextmanager
def rolled_back(roots: Iterable[object]) -> Iterator[None]:
    """Restore on leaving the attributes, containers, closures and globals that `roots` reach.

    Raises: CaptureError, after restoring them, where numbers, tensors or containers of user code
    changed: a replay would not change them.
    """
    search = Search(roots)
    for holder in search.found:
        if not holder.saved:
            raise CaptureError(
                f"{holder.path} is an iterator ({type(holder.owner).__name__}), which a trial run of the program "
                "would advance for good; count in a buffer."
            )
    saved = [(holder, holder.read()) for holder in search.found]
    tensors = [
        (tensor, tensor.data, path, reported)
        for tensor, path, reported in search.tensors
        if not is_lazy(tensor)
    ]
    changed: list[str] = []
    try:
        yield
    finally:
        for tensor, data, path, reported in tensors:
            if not _shares(tensor, data):
                tensor.data = data
                changed += [path] if reported else []
        for holder, before in saved:
            now = holder.read()
            keys = [
                key
                for key in before.keys() | now.keys()
                if not _same(before.get(key, _ABSENT), now.get(key, _ABSENT))
            ]
            if keys or list(before) != list(now):
                holder.write(before)
            if holder.reported:
                changed += [
                    holder.name_of(key)
                    for key in keys
                    if key != "training"
                    and (
                        holder.is_container
                        and before.keys() != now.keys()
                        or value_key(before.get(key)) != value_key(now.get(key))
                    )
                ]
    if changed:
        raise CaptureError(
            f"{min(changed)} changes from call to call, but a replay would not change it; keep it in a buffer."
        )


_ABSENT = object()


def _shares(tensor: Tensor, data: Tensor) -> bool:
    """Whether a tensor has the same layout in the same memory as `data`, its `.data` before."""
    if (tensor.device, tensor.dtype, tensor.layout, tensor.shape) != (
        data.device,
        data.dtype,
        data.layout,
        data.shape,
    ):
        return False
    return tensor.layout != torch.strided or (
        (_storage(tensor), tensor.storage_offset(), tensor.stride())
        == (_storage(data), data.storage_offset(), data.stride())
    )


def _same(before: object, now: object) -> bool:
    if before is now:
        return True
    if type(before) is not type(now):
        return False
    if isinstance(before, np.ndarray) and isinstance(now, np.ndarray):
        return before.shape == now.shape and bool(
            ((before == now) | ((before != before) & (now != now))).all()
        )
    return isinstance(before, (bool, int, float, complex, str, bytes, np.generic)) and repr(
        before
    ) == repr(now)


class UndoWrites(TorchDispatchMode):
    """Copy each tensor before the first operation that writes to it, and restore it on leaving.

    Not restored are tensors that are made inside, and writes that the schema of an operator does
    not declare, as those of batch norm to its running averages: `preserve_state` restores buffers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made: set[int] = set()
        self.copies: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(
        self, func: OpOverload, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            for argument, value in zip(func._schema.arguments, args):
                self._keep(argument, value)
            for argument in func._schema.arguments:
                if argument.name in kwargs:
                    self._keep(argument, kwargs[argument.name])
        result = func(*args, **kwargs)
        if not func._schema.is_mutable:
            given = {
                _storage(leaf)
                for leaf in pytree.tree_leaves((args, kwargs))
                if isinstance(leaf, Tensor)
            }
            self.made |= {
                _storage(leaf) for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)
            } - given
        return result

    def _keep(self, argument: torch.Argument, value: object) -> None:
        if argument.alias_info is None or not argument.alias_info.is_write:
            return
        for tensor in pytree.tree_leaves(value):
            if (
                _has_values(tensor)
                and (key := _storage(tensor)) not in self.made | self.copies.keys()
            ):
                with _disable_current_modes():  # copies are not to be traced
                    whole = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(
                        tensor.untyped_storage()
                    )
                    self.copies[key] = whole, whole.clone()

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        with torch.no_grad():
            for whole, copy in self.copies.values():
                whole.copy_(copy)


def _has_values(value: object) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, FakeTensor)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
