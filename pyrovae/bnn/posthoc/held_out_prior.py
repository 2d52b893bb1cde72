"""One factor of the precisions of a Laplace posterior, chosen by its predictions."""

import logging
from collections.abc import Callable
from dataclasses import replace

import torch

from pyrovae.bnn.posthoc.laplace_posterior import LaplacePosterior

logger = logging.getLogger(__name__)


def tune_prior(
    posterior: LaplacePosterior,
    score: Callable[[LaplacePosterior], float],
    *,
    smallest: float = 1e-2,
    largest: float = 1e6,
) -> LaplacePosterior:
    r"""The posterior with its prior precisions times the one factor c of the largest score, among the
    powers of ten from `smallest` to `largest` and then thirds of a decade about the best.

    score: larger is better, the mean log p(y | x) of held-out data say. Every call starts from the
    same state of the random streams, so that scores differ by c alone; the state stays as it was.
    Where the training loss is nearly 0 the curvature knows little, and precisions of the largest
    evidence leave a vague posterior; one number fitted on held-out data corrects that.
    If the best is one of the bounds, the log says so.
    Raises: ValueError for bounds out of order, and for a score that is NaN at every factor.
    Source: Ritter, Botev & Barber 2018, section 4; Daxberger et al. 2021, arXiv:2106.14806, section 2.

    Example:
        >>> from pyrovae import Bayesian, Model, Node, log_predictive
        >>> from pyrovae.bnn.guides import PointEstimate
        >>> from pyrovae.bnn.posthoc import fit_laplace
        >>> from pyrovae.heads import CategoricalHead
        >>> net = Bayesian(torch.nn.Linear(4, 3))
        >>> model, mode = Model(y=Node(CategoricalHead(net), "x")), PointEstimate(net).values()
        >>> batch = {"x": torch.randn(20, 4), "y": torch.zeros(20).long()}
        >>> def score(posterior: LaplacePosterior) -> float:
        ...     pair = posterior.linearize(model), posterior.guide(net)
        ...     return float(log_predictive(*pair, batch, num_samples=20).mean())
        >>> tune_prior(fit_laplace(model, mode, batch), score).prior_precision.shape
        torch.Size([1])
    """
    if not 0.0 < smallest < largest:
        raise ValueError(
            f"smallest={smallest}, largest={largest}, expected 0 < smallest < largest."
        )
    low, high = (torch.tensor(value).double().log10() for value in (smallest, largest))
    coarse = torch.arange(float(low), float(high) + 1e-6).tolist()
    scores: dict[float, float] = {}

    def at(exponent: float) -> LaplacePosterior:
        return replace(posterior, prior_precision=posterior.prior_precision * 10.0**exponent)

    def best_of(exponents: list[float]) -> float:
        for exponent in exponents:
            with torch.random.fork_rng():
                scores[exponent] = float(score(at(exponent)))
        finite = {key: value for key, value in scores.items() if value == value}
        if not finite:
            raise ValueError("the score is NaN at every factor. Look at the held-out data.")
        return max(finite, key=lambda key: finite[key])

    centre = best_of(coarse)
    near = [centre + third / 3 for third in (-2, -1, 1, 2)]
    best = best_of([exponent for exponent in near if low <= exponent <= high])
    if best in (low, high):
        logger.warning(
            "the best factor is the %s of those tried (%g): the held-out data want %s",
            *(
                ("largest", largest, "the mode alone")
                if best == high
                else ("smallest", smallest, "a wider posterior")
            ),
        )
    return at(best)
