"""Class probabilities of each draw of the weights."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

from pyrovae.core.batching import Data
from pyrovae.core.errors import PairError
from pyrovae.core.shapes import DATA
from pyrovae.core.traces import base_distribution
from pyrovae.prediction.site_draws import read_site
from pyrovae.prediction.weight_average import of_draws


def predict_probs(
    model: Callable,
    guide: Callable,
    data: Data,
    *,
    num_samples: int,
    site: str | None = None,
    plate: str = DATA,
) -> Tensor:
    """p(y = c | x_i, w_s) of S = `num_samples` draws of the weights, `(S, N, C)`, on the CPU.

    Means over the first k draws are predictions with k draws. The same draws serve all data.
    data, site: as in `predict_moments`. Raises: PairError for a site that is not categorical.

    Example:
        >>> from torch import nn
        >>> from pyrovae import Bayesian, Model, Node
        >>> from pyrovae.bnn.guides import MeanField
        >>> from pyrovae.heads import CategoricalHead
        >>> model = Model(y=Node(CategoricalHead(Bayesian(nn.Linear(2, 3))), "x"))
        >>> predict_probs(model, MeanField(model), {"x": torch.zeros(5, 2)}, num_samples=4).shape
        torch.Size([4, 5, 3])
    """

    def probs(fn: Distribution, count: int) -> Tensor:
        base = base_distribution(fn)
        if not isinstance(base, Categorical):
            raise PairError(
                f"the site is a {type(base).__name__}, expected a Categorical; use predict or predict_moments."
            )
        return of_draws(base.probs, fn, count)

    batches = read_site(model, guide, data, probs, num_samples=num_samples, site=site, plate=plate)
    return torch.cat([torch.cat([chunk.cpu() for chunk in chunks]) for chunks in batches], 1)
