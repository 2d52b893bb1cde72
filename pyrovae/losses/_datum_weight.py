"""The weight that programs give each datum by `poutine.scale`."""

import math

import torch
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.core.errors import PairError
from pyrovae.core.recording import is_recording
from pyrovae.core.traces import sample_sites


def datum_weight(*traces: Trace) -> float | Tensor:
    """The `poutine.scale` of the sites of traces, a number or `(B,)`; the scale of subsampling is
    left out.

    Raises: PairError where sites of a datum have different scales: the logarithm of a sum of
    importance weights does not split into their terms.
    """
    scales = {
        name: _own_scale(site)
        for trace in traces
        for kind in (True, False)
        for name, site in sample_sites(trace, observed=kind).items()
    }
    numbers = {scale for scale in scales.values() if not isinstance(scale, Tensor)}
    if len(numbers) == len(set(map(type, scales.values()))) == 1:
        return numbers.pop()
    (first, scale), *others = scales.items()
    for name, other in others:
        if not is_recording() and not _are_equal(scale, other):
            raise PairError(
                f"sites {first!r} and {name!r} of one datum are scaled differently, but an importance weight "
                "belongs to all sites of a datum together. Put one poutine.scale around the whole model and the "
                "whole guide, or use ElboLoss(beta=...) to weigh the KL."
            )
    if isinstance(scale, Tensor) and scale.numel() not in (1, scale.shape[-1]):
        raise PairError(
            f"site {first!r} is scaled by a tensor of shape {tuple(scale.shape)}, expected one weight a datum, "
            "(B,)."
        )
    return scale.reshape(-1) if isinstance(scale, Tensor) and scale.dim() else scale


def _own_scale(site: dict) -> float | Tensor:
    subsampled = math.prod(
        plate_frame.full_size / plate_frame.size
        for plate_frame in site["cond_indep_stack"]
        if plate_frame.full_size not in (None, plate_frame.size)
    )
    return site["scale"] if subsampled == 1 else site["scale"] / subsampled


def _are_equal(one: float | Tensor, other: float | Tensor) -> bool:
    try:
        return bool(torch.isclose(torch.as_tensor(one), torch.as_tensor(other)).all())
    except RuntimeError:  # under vmap, where values cannot be read
        return True
