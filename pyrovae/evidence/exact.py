"""log p(x) of models without latents, or with all of them summed out."""

from collections.abc import Callable, Iterator

import torch
from pyro.poutine import Trace

from pyrovae.core.batching import rebatch, size_of
from pyrovae.core.handlers import ValidateSupport
from pyrovae.core.log_weights import log_joint
from pyrovae.core.traces import Batch, run_model
from pyrovae.evidence.result import Evidence
from pyrovae.evidence.runtime import tile_size

STATES = 250
"""Combinations of discrete values that a tile of data allows for."""


def exact_evidence(
    model: Callable,
    stream: Iterator[Batch],
    plate: str | None,
    progress: Callable[[int], object] | None = None,
) -> Evidence:
    """log p(x) of each datum, or of all data jointly for `plate=None`.

    Raises: PairError for data outside the support of their likelihood, and for sites outside
    `plate`.
    """
    tiles = stream if plate is None else rebatch(stream, tile_size(STATES))
    values = []
    for tile in tiles:
        with ValidateSupport():
            trace = run_model(model, Trace(), tile)
        values.append(log_joint(trace, 1, plate=plate).reshape(-1))
        if progress is not None:
            progress(size_of(tile))
    return Evidence.exactly(torch.cat(values))
