"""Products of the curvature and vectors, without the matrix."""

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor

from pyrovae.bnn.curvature.fisher import FisherOutputs
from pyrovae.bnn.curvature.weights import Weights
from pyrovae.core.types import Batch


def products(
    outputs: FisherOutputs, weights: Weights, data: Iterable[Batch], vectors: Tensor
) -> Tensor:
    """C V for columns V `(P, r)`: J^T (J V), summed over the data, by forward and backward
    derivatives."""
    scale = weights.scale.unsqueeze(-1)
    columns = _by_site(weights, scale * vectors)
    total = torch.zeros_like(vectors)
    for batch in data:
        batch = outputs.with_draws(weights.mode, batch)

        def z(values: dict[str, Tensor], rows: Batch = batch) -> Tensor:
            return outputs(values, rows)

        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", ".*torch.jit.script"
            )  # torch's own, at the first jvp
            images = torch.vmap(
                lambda column: torch.func.jvp(z, (weights.mode,), (column,))[1]  # noqa: B023
            )(columns)
        pull = torch.func.vjp(z, weights.mode)[1]
        (back,) = torch.vmap(pull)(images)
        total += torch.cat([back[name].flatten(1) for name in weights.mode], 1).T
    return scale * total


def _by_site(weights: Weights, columns: Tensor) -> dict[str, Tensor]:
    """`(r, *shape)` of each site from columns `(P, r)`."""
    parts = columns.T.split([value.numel() for value in weights.mode.values()], 1)
    return {
        name: part.reshape(-1, *value.shape)
        for (name, value), part in zip(weights.mode.items(), parts)
    }
