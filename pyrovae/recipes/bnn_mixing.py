"""Whether Markov chains of one network agree."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import cast

import arviz
import numpy as np
import xarray
from torch import Tensor

import pyrovae as pv

logger = logging.getLogger(__name__)
MET = 1.05
"""R-hat above which chains have not met."""


def mixing(
    model: Callable, guide: Callable, batch: Mapping[str, Tensor], num_draws: int, chains: int
) -> dict[str, float]:
    """R-hat and the effective sample size of log p(y_n | x_n, w), the worst over data n: of what is
    predicted, since weights of a net may be exchanged without a change of the net. Data of which all
    draws say the same, such as log p = 0 of a sure class, are left out.

    guide: the draws, chain after chain. Without a result where ArviZ has none: for fewer than 4 draws
    a chain, and for chains that stand still.
    """
    draws = pv.posterior_draws(model, guide, batch, num_samples=num_draws)
    groups = {"posterior": draws["log_likelihood"]}
    found = pv.to_inference_data(groups, num_chains=chains)["posterior"]
    log_p = cast(xarray.DataArray, found["y"])
    log_p = log_p[..., (log_p != log_p[0, 0]).any(("chain", "draw")).to_numpy()]
    if log_p.size:
        left = log_p.to_dataset(name="y")
        with np.errstate(all="ignore"):  # chains that stand still
            result = {
                "r_hat": float(arviz.rhat(left)["y"].max(skipna=False)),
                "ess": float(arviz.ess(left)["y"].min(skipna=False)),
            }
        if all(map(math.isfinite, result.values())):
            return result
    logger.warning(
        "no R-hat of %d draws of %d chains: it takes at least 4 of each, which differ",
        num_draws,
        chains,
    )
    return {}


def warn_of_chains_apart(rows: Iterable[Mapping[str, float]]) -> None:
    """Log a warning where the R-hat of a network is too large."""
    worst = max((row.get("r_hat", 0.0) for row in rows), default=0.0)
    if worst > MET:
        logger.warning(
            "the chains have not met: R-hat of log p of the test data is up to %.2f, expected below %.2f. Raise "
            "--hmc-warmup and --hmc-samples (--random-walk-steps), or read the row as a mixture of separate chains.",
            worst,
            MET,
        )
