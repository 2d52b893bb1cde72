"""Whether Markov chains of one network agree."""

import logging
import math
from collections.abc import Callable, Mapping

import arviz
import numpy as np
from torch import Tensor

import pyrovae as pv

logger = logging.getLogger(__name__)


def mixing(
    model: Callable, guide: Callable, batch: Mapping[str, Tensor], num_draws: int, chains: int
) -> dict[str, float]:
    """R-hat and the effective sample size of log p(y_n | x_n, w), the worst over data n: of what is
    predicted, since weights of a net may be exchanged without a change of the net.

    guide: the draws, chain after chain. Without a result where ArviZ has none: for fewer than 4 draws
    a chain, and for chains that stand still.
    """
    draws = pv.posterior_draws(model, guide, batch, num_samples=num_draws)
    groups = {"posterior": draws["log_likelihood"]}
    found = pv.to_inference_data(groups, num_chains=chains)["posterior"]
    with np.errstate(all="ignore"):  # chains that stand still
        result = {
            "r_hat": float(arviz.rhat(found)["y"].max(skipna=False)),
            "ess": float(arviz.ess(found)["y"].min(skipna=False)),
        }
    if all(map(math.isfinite, result.values())):
        return result
    logger.warning(
        "no R-hat of %d draws of %d chains: it takes at least 4 of each, which differ",
        num_draws,
        chains,
    )
    return {}
