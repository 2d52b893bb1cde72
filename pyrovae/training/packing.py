"""Nested state as JSON and tensors, and back: the content of a pickle without its code."""

from typing import cast

import numpy as np
import torch
from torch import Tensor

from pyrovae.core.errors import CheckpointError


def pack(value: object, name: str, tensors: dict[str, Tensor]) -> object:
    """What JSON can hold; tensors and arrays move to `tensors` and leave their name behind.

    Raises: CheckpointError for what is no number, string, list, dict or tensor.
    """
    if isinstance(value, np.ndarray):
        return {
            "array": pack(torch.from_numpy(value.astype(np.int64)), name, tensors),
            "dtype": str(value.dtype),
        }
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        return {
            "dict": [[key, pack(part, f"{name}/{key}", tensors)] for key, part in value.items()]
        }
    if isinstance(value, (list, tuple)):
        return {
            type(value).__name__: [
                pack(part, f"{name}/{i}", tensors) for i, part in enumerate(value)
            ]
        }
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CheckpointError(
        f"{name} is {type(value).__name__}, which a checkpoint without pickles cannot hold; keep numbers, "
        "strings, lists, dicts and tensors in the state of optimizers and schedules."
    )


def unpack(value: object, tensors: dict[str, Tensor]) -> object:
    """The inverse of `pack`. Raises KeyError, TypeError or ValueError for anything that `pack`
    did not make."""
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return cast(Tensor, unpack(value["array"], tensors)).numpy().astype(value["dtype"])
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: unpack(part, tensors) for key, part in content}
    return {"list": list, "tuple": tuple}[kind](unpack(part, tensors) for part in content)
