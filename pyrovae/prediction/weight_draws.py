"""The draws of the weights that a prediction averages over."""

from collections.abc import Callable

import torch
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.core.batching import Data
from pyrovae.core.shapes import DATA
from pyrovae.core.traces import plate_frame
from pyrovae.core.types import nodes_of
from pyrovae.prediction.chunked_draws import run_draws
from pyrovae.prediction.draws import evaluating


def weight_draws(
    model: Callable, guide: Callable, data: Data, *, num_samples: int, plate: str = DATA
) -> dict[str, Tensor]:
    """The values of all sites outside the plate, `(S, *shape)` each, S = `num_samples`: what
    `predict_moments` and `predict_mixtures` draw in the same state of the random streams, for data
    whose first batch is the same.

    Example:
        >>> from pyrovae import Bayesian, Model, Node
        >>> from pyrovae.bnn.guides import MeanField
        >>> from pyrovae.heads import CategoricalHead
        >>> model = Model(y=Node(CategoricalHead(Bayesian(torch.nn.Linear(4, 3))), "x"))
        >>> draws = weight_draws(model, MeanField(model), {"x": torch.zeros(1, 4)}, num_samples=7)
        >>> draws["w.weight"].shape
        torch.Size([7, 3, 4])
    """

    def read(trace: Trace, count: int) -> dict[str, Tensor]:
        return {
            name: site["value"].reshape(count, *site["fn"].event_shape)
            for name, site in nodes_of(trace).items()
            if site["type"] == "sample" and plate_frame(site, plate) is None
        }

    with evaluating(model, guide):
        (parts,) = (
            list(each)
            for each in run_draws(
                model, guide, data, num_samples, None, plate, read, "off", redraw=True
            )
        )
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
