"""Rows of the Jacobian of Fisher outputs, one for each datum and output."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pyrovae.bnn.curvature.fisher import FisherOutputs
from pyrovae.bnn.curvature.weights import Weights
from pyrovae.core.batching import size_of
from pyrovae.core.types import Batch

NUMBERS = 2**24
"""Numbers in a chunk of rows."""


def jacobian_rows(
    outputs: FisherOutputs, weights: Weights, data: Iterable[Batch]
) -> Iterator[Tensor]:
    """`(R, P)` chunks of d z / d (w / prior_scale), for any program that `torch.vmap` can run."""

    def one(values: dict[str, Tensor], row: dict[str, Tensor]) -> Tensor:
        return outputs(values, {name: value.unsqueeze(0) for name, value in row.items()})[0]

    rows = torch.func.vmap(torch.func.jacrev(one), in_dims=(None, 0))
    step = None
    for batch in data:
        batch = outputs.with_draws(weights.mode, batch)
        if step is None:
            first = {name: value[:1] for name, value in batch.items()}
            step = max(1, NUMBERS // (weights.size * outputs(weights.mode, first).shape[1]))
        for start in range(0, size_of(batch), step):
            part = {name: value[start : start + step] for name, value in batch.items()}
            found = rows(dict(weights.mode), part)
            yield (
                torch.cat([found[name].flatten(2) for name in weights.mode], 2).flatten(0, 1)
                * weights.scale
            )
