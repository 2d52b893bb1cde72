"""Whether a batch is one of finite tensors of one leading size."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pyrovae.core.errors import PairError


def check_batch(batch: Mapping[str, Tensor]) -> int:
    """The leading size B of a batch; raises PairError unless it holds finite tensors of one
    leading size."""
    if not isinstance(batch, Mapping):
        raise PairError(
            f"a batch is {type(batch).__name__}, expected a mapping from site names to tensors, "
            "e.g. {'x': images}; for tuples pass names=('x', 'y')."
        )
    sizes = {}
    for name, value in batch.items():
        if not isinstance(value, Tensor):
            raise PairError(
                f"batch[{name!r}] is {type(value).__name__}, expected a tensor (B, *event)."
            )
        if not value.dim():
            raise PairError(
                f"batch[{name!r}] is a scalar, expected a leading data dimension (B, *event)."
            )
        sizes[name] = len(value)
        bad = ~torch.isfinite(value)
        if bad.any():
            row = (
                int(bad.flatten(1).any(1).nonzero()[0])
                if value.dim() > 1
                else int(bad.nonzero()[0])
            )
            raise PairError(
                f"batch[{name!r}] holds {int(bad.sum())} NaN or infinite values, the first in row {row}. "
                "Remove or impute them before training, or put numbers in their place and mask these (poutine.mask)."
            )
    if not sizes or 0 in sizes.values():
        raise PairError(f"the batch is empty ({sizes}); expected at least one datum.")
    if len(set(sizes.values())) > 1:
        raise PairError(
            f"tensors of one batch differ in leading size, {sizes}; each row is one datum."
        )
    return next(iter(sizes.values()))
