"""Whether gradients are finite, computed on their device without synchronising with the host."""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def are_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether all are finite, `()`, in one pass by the kernel of torch's gradient scaler (scale
    1).

    Example:
        >>> are_finite([torch.ones(2), torch.tensor([0.0, torch.nan])])
        tensor(False)
    """
    tensors = [_plain(tensor) for tensor in tensors]
    if not tensors:
        return torch.ones((), dtype=torch.bool)
    device = tensors[0].device
    if device.type not in ("cpu", "cuda"):
        return each_finite(tensors).all()
    found = torch.zeros((), dtype=torch.float32, device=device)
    torch._amp_foreach_non_finite_check_and_unscale_(tensors, found, _one(device))
    return found == 0


@torch.no_grad()
def each_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether each tensor is finite, `(len(tensors),)`.

    Example:
        >>> each_finite([torch.ones(2), torch.tensor([0.0, torch.nan])])
        tensor([ True, False])
    """
    return torch.stack(
        [
            norm.float()
            for norm in torch._foreach_norm([_plain(tensor) for tensor in tensors], math.inf)
        ]
    ).isfinite()


@functools.cache
def _one(device: torch.device) -> Tensor:
    return torch.ones((), dtype=torch.float32, device=device)


def _plain(tensor: Tensor) -> Tensor:
    """The values of a gradient as a dense real tensor."""
    tensor = tensor._values() if tensor.is_sparse else tensor
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return (
        tensor if tensor.numel() else tensor.new_zeros(1)
    )  # an empty tensor has no largest number
