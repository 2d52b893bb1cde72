"""Export chains to ArviZ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyrovae.bnn.samplers.stacked_chains import Chains
from pyrovae.export import to_inference_data

if TYPE_CHECKING:
    import arviz
    import xarray


def chains_to_arviz(
    chains: Chains, *, coords: Mapping[str, Sequence[Any]] | None = None
) -> arviz.InferenceData | xarray.DataTree:
    """Posterior and sample_stats as ArviZ reads them, `(chain, draw, *shape)`: for `az.rhat`,
    `az.ess`, `az.plot_trace`.

    Chains must share their data: R-hat compares what should be draws of one posterior. Dimensions
    are {site}_dim_0, ...

    Example:
        >>> import torch
        >>> zeros = torch.zeros(10, 2)
        >>> chains = Chains({"w": torch.zeros(10, 2, 3)}, zeros, zeros, zeros.bool(), torch.ones(2))
        >>> dict(chains_to_arviz(chains)["posterior"]["w"].sizes)
        {'chain': 2, 'draw': 10, 'w_dim_0': 3}
    """

    def in_a_row(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.transpose(0, 1).flatten(0, 1) for name, value in values.items()}

    dims = {
        name: [f"{name}_dim_{index}" for index in range(value.dim() - 2)]
        for name, value in chains.draws.items()
    }
    return to_inference_data(
        {"posterior": in_a_row(chains.draws), "sample_stats": in_a_row(chains.sample_stats())},
        coords=coords,
        dims={name: names for name, names in dims.items() if names},
        num_chains=chains.accept.shape[1],
    )
