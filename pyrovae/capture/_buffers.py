"""Buffers of modules as inputs and outputs of a captured graph."""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.capture._flat_graph import layout_of
from pyrovae.core.errors import CaptureError


class Buffers:
    """The buffers of `modules` and their submodules: numbers are inputs of the graph, and a replay
    writes to them; Boolean ones (`masks`) are held fixed, since programs read their values."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self.parts = list(
            {id(part): part for module in modules for part in module.modules()}.values()
        )
        named = [
            (part, name, buffer)
            for part in self.parts
            for name, buffer in part._buffers.items()
            if buffer is not None
        ]
        self.slots = [(part, name) for part, name, buffer in named if buffer.dtype != torch.bool]
        self.masks = [entry for entry in named if entry[2].dtype == torch.bool]
        self.captured = self.read()

    def read(self) -> list[Tensor]:
        """The present tensors of the buffers that are numbers."""
        return cast("list[Tensor]", [part._buffers[name] for part, name in self.slots])

    def assign(self, tensors: list[Tensor]) -> None:
        """Make these tensors the buffers, in the order of `read`."""
        for (part, name), tensor in zip(self.slots, tensors):
            part._buffers[name] = tensor

    def copy_assigned_to(self, tensors: list[Tensor]) -> None:
        """Copy buffers to which the program assigned another tensor into `tensors`, so that the
        graph writes in place.

        Raises: CaptureError for a buffer of another shape or dtype.
        """
        for (part, name), buffer in zip(self.slots, tensors):
            new = part._buffers[name]
            if new is not buffer:
                if new is None or (new.shape, new.dtype) != (buffer.shape, buffer.dtype):
                    kind = None if new is None else f"{tuple(new.shape)} {new.dtype}"
                    raise CaptureError(
                        f"buffer {name!r} of {type(part).__name__} was {tuple(buffer.shape)} "
                        f"{buffer.dtype} and becomes {kind}."
                    )
                buffer.copy_(new)

    def restore_masks(self) -> None:
        for part, name, mask in self.masks:
            part._buffers[name] = mask

    def guards_hold(self) -> bool:
        """Whether a replay may use the buffers: numbers have the layout that was captured, and
        Boolean buffers are the same tensors.

        A buffer that is another tensor than before is replaced by a copy that this object owns,
        since a replay writes to it.
        """
        for index, (part, name) in enumerate(self.slots):
            buffer = part._buffers[name]
            if buffer is not self.captured[index]:
                if buffer is None or layout_of(buffer) != layout_of(self.captured[index]):
                    return False
                self.captured[index] = part._buffers[name] = buffer.clone()
        return all(part._buffers[name] is mask for part, name, mask in self.masks)
