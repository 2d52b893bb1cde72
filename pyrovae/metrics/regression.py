"""Real-valued predictions: error, likelihood, and the coverage of intervals."""

import math

import torch
from torch import Tensor

from pyrovae.metrics._refuse import draws_and_targets, finite, shaped


def rmse(mean: Tensor, y: Tensor) -> Tensor:
    r"""Root of the mean squared error, sqrt(mean (mean - y)^2) over data and events.

    No mean over data: its standard error comes from several splits or seeds.

    Shapes: mean and y (N, *E) -> (). Units: those of y.
    Errors: ValueError for shapes that differ (they would broadcast), NaN and infinities.

    Example:
        >>> rmse(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 6.0]))
        tensor(3.5355)
    """
    shaped("y", y, mean.shape, "that of mean")
    finite("mean", mean)
    finite("y", y)
    return (mean - y).square().mean().sqrt()


def log_predictive_density(log_likelihood: Tensor) -> Tensor:
    r"""log p(y_n | data) ~ log (1/S) sum_s p(y_n | w_s): the log-density of the mixture of all
    draws, for each datum.

    Not the log-density of a normal with the mixture's mean and variance, which is a different,
    usually lower, number. Biased low at finite S (Jensen). For standardised targets see
    `pyrovae.data.RegressionSplit.log_density_shift`.

    Shapes: log_likelihood (S, N), nats -> (N,), nats, larger is better; -inf where no draw allows
    the datum.
    Errors: ValueError for another shape, NaN and +inf.

    Example:
        >>> log_predictive_density(torch.tensor([[0.25, 1.0], [0.75, 0.0]]).log()).exp()
        tensor([0.5000, 0.5000])
    """
    if log_likelihood.dim() != 2 or log_likelihood.numel() == 0:
        raise ValueError(
            f"log_likelihood has shape {tuple(log_likelihood.shape)}, expected (S, N): draws lead, then data, "
            "at least one of each. Sum over events first."
        )
    if bad := int((log_likelihood.isnan() | (log_likelihood == math.inf)).sum()):
        raise ValueError(
            f"log_likelihood holds {bad} values that are NaN or +inf, expected log-densities. A scale that "
            "reached zero is the usual cause."
        )
    return log_likelihood.logsumexp(0) - math.log(len(log_likelihood))


def coverage(draws: Tensor, y: Tensor, level: float = 0.9) -> Tensor:
    r"""Whether y lies in the central interval of its draws, as 0 or 1; the mean over data should
    be `level`.

    The ends are the (1 - level) / 2 and (1 + level) / 2 quantiles, at the places p (S + 1) of the
    S sorted draws (type 6 of Hyndman & Fan 1996, The American Statistician 50(4)): where those are
    whole numbers and the model is right, coverage is exactly `level` at any S, while numpy's
    default would cover less. Draws are of y, noise included; those of the regression function
    would cover too little.

    Shapes: draws (S, N); y (N,) -> (N,), in the dtype of draws. Errors: ValueError for other
    shapes, NaN, a level outside (0, 1), and fewer than 2 / (1 - level) - 1 draws (19 for 0.9),
    which cannot reach so far out.

    Example:
        >>> draws = torch.arange(1.0, 20.0)[:, None].expand(19, 3)
        >>> coverage(draws, torch.tensor([0.5, 10.0, 19.0]))
        tensor([0., 1., 1.])
    """
    draws_and_targets(draws, y)
    lower, upper = _interval(draws, level)
    return ((lower <= y) & (y <= upper)).to(draws.dtype)


def interval_width(draws: Tensor, level: float = 0.9) -> Tensor:
    """Width of the interval that `coverage` tests: at equal coverage the narrower one is better.

    Shapes: draws (S, N) -> (N,). Units: those of y. Errors: ValueError as for `coverage`.

    Example:
        >>> interval_width(torch.arange(1.0, 20.0)[:, None])
        tensor([18.])
    """
    draws_and_targets(draws, draws[0] if len(draws) else draws)
    lower, upper = _interval(draws, level)
    return upper - lower


def _interval(draws: Tensor, level: float) -> tuple[Tensor, Tensor]:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, expected a probability between 0 and 1, such as 0.9.")
    size, place = len(draws), (1 - level) / 2 * (len(draws) + 1)
    if place < 1 - 1e-9:
        expected = math.ceil(2 / (1 - level) - 1 - 1e-9)
        raise ValueError(
            f"{size} draws cannot show a central {level:g} interval, expected at least {expected}. Draw more "
            "(noise costs nothing), or lower the level."
        )
    whole = max(1, math.floor(place + 1e-9))
    part = min(max(place - whole, 0.0), 1.0)
    ordered = draws.sort(0).values
    inner = min(whole, size - 1)
    lower = torch.lerp(ordered[whole - 1], ordered[inner], part)
    return lower, torch.lerp(ordered[size - whole], ordered[size - 1 - inner], part)
