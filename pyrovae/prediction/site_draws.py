"""The distribution of a site under draws of the weights, batch by batch."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from torch.distributions import Distribution

from pyrovae.core.batching import Data
from pyrovae.core.shapes import DATA
from pyrovae.prediction.chunked_draws import run_draws, site_of
from pyrovae.prediction.draws import evaluating

Read = TypeVar("Read")


def read_site(
    model: Callable,
    guide: Callable,
    data: Data,
    read: Callable[[Distribution, int], Read],
    *,
    num_samples: int,
    site: str | None,
    plate: str = DATA,
) -> Iterator[list[Read]]:
    """What `read(distribution, count)` finds in each chunk of the same S = `num_samples` draws of the
    weights, a list for each batch. site: as in `predict_moments`."""
    with evaluating(model, guide):
        for chunks in run_draws(
            model,
            guide,
            data,
            num_samples,
            None,
            plate,
            lambda trace, count: read(site_of(trace, site, plate), count),
            "auto",
            redraw=True,
        ):
            yield list(chunks)
