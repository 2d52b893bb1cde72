"""The predictive distribution of a regression net as a mixture of normals, one for each draw of the
weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from pyrovae.core.batching import Data
from pyrovae.core.errors import PairError
from pyrovae.core.shapes import DATA
from pyrovae.core.traces import base_distribution
from pyrovae.prediction.site_draws import read_site
from pyrovae.prediction.weight_average import of_draws

Read = TypeVar("Read")
HALVINGS = 100


@dataclass(frozen=True)
class NormalMixture:
    r"""1/S sum_s N(loc_s, scale_s^2), for each datum and target on its own. Shapes: `(S, N, T)`.

    Raises: ValueError in `cdf` and `log_prob` for a y with other dims than `(N, T)`, such as one of
    shape `(N,)` beside a single target; a number will do.

    Example:
        >>> two = NormalMixture(torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1))
        >>> two.mean.item(), two.aleatoric.item(), two.epistemic.item()
        (0.0, 1.0, 1.0)
        >>> abs(two.quantile(0.5).item()) < 1e-6
        True
    """

    loc: Tensor
    scale: Tensor

    @property
    def mean(self) -> Tensor:
        """E[y], `(N, T)`."""
        return self.loc.mean(0)

    @property
    def aleatoric(self) -> Tensor:
        """E_w Var[y | w], a variance, `(N, T)`."""
        return self.scale.square().mean(0)

    @property
    def epistemic(self) -> Tensor:
        """Var_w E[y | w], `(N, T)`."""
        return self.loc.var(0, correction=0)

    def cdf(self, y: Tensor) -> Tensor:
        """P(y' <= y), `(N, T)`."""
        return torch.special.ndtr((self._targets(y) - self.loc) / self.scale).mean(0)

    def log_prob(self, y: Tensor) -> Tensor:
        """log p(y), `(N, T)`, nats."""
        z = (self._targets(y) - self.loc) / self.scale
        each = -0.5 * (z.square() + math.log(2 * math.pi)) - self.scale.log()
        return each.logsumexp(0) - math.log(len(self.loc))

    def _targets(self, y: Tensor) -> Tensor:
        expected = self.loc.shape[1:]
        if y.dim() not in (0, len(expected)):
            raise ValueError(
                f"y has shape {tuple(y.shape)}, expected {tuple(expected)}: data, then targets; "
                f"y.unsqueeze(-1) adds the dim of a single target."
            )
        return y

    def widened(self, factor: float) -> "NormalMixture":
        """The mixture of mean + factor * (y - mean): all deviations from the mean, those between
        components too, times `factor`."""
        return NormalMixture(self.mean + factor * (self.loc - self.mean), factor * self.scale)

    def quantile(self, p: float) -> Tensor:
        """The y with cdf(y) = p, `(N, T)`, by bisection between the least and the largest quantile of
        the components.

        Raises: ValueError for p outside (0, 1).
        """
        if not 0 < p < 1:
            raise ValueError(f"p={p}, expected a probability between 0 and 1.")
        each = self.loc + self.scale * torch.special.ndtri(self.loc.new_tensor(p))
        low, high = each.amin(0), each.amax(0)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if ((middle == low) | (middle == high)).all():
                break
            below = self.cdf(middle) < p
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


def fit_width(mixture: NormalMixture, y: Tensor) -> float:
    """The factor of `widened` with the largest mean log p of held-out `y`, `(N, T)`, between 1/100 and
    100: what temperature scaling is to classes, for a regression.

    It searches a grid of logarithms, refined about its best point, as the function may have several
    peaks.

    Raises: ValueError for `y` of another shape, and for numbers that are not finite.

    Example:
        >>> narrow = NormalMixture(torch.zeros(1, 2, 1), 0.5 * torch.ones(1, 2, 1))
        >>> round(fit_width(narrow, torch.tensor([[1.0], [-1.0]])), 3)
        2.0
    """
    if y.shape != mixture.loc.shape[1:] or not y.isfinite().all():
        raise ValueError(
            f"y has shape {tuple(y.shape)} and {int((~y.isfinite()).sum())} numbers that are NaN or infinite, "
            f"expected {tuple(mixture.loc.shape[1:])} and none."
        )
    wide, y = NormalMixture(mixture.loc.double(), mixture.scale.double()), y.double()

    def score(log_factor: float) -> float:
        return float(wide.widened(math.exp(log_factor)).log_prob(y).mean())

    center, reach = 0.0, math.log(100.0)
    for _ in range(8):
        grid = [center + reach * step / 16 for step in range(-16, 17)]
        grid = [min(max(value, -math.log(100.0)), math.log(100.0)) for value in grid]
        center, reach = max(grid, key=score), reach / 8
    return math.exp(center)


def predict_mixtures(
    model: Callable,
    guide: Callable,
    data: Data,
    *,
    num_samples: int,
    read: Callable[[NormalMixture], Read],
    site: str | None = None,
    plate: str = DATA,
) -> list[Read]:
    """`read` of the predictive mixture of each batch, float64 on the CPU: its components take S
    times the memory of the data. The same S = `num_samples` draws of the weights serve all data.

    data, site: as in `predict_moments`. Raises: PairError for a site that is not normal.
    """

    def components(fn: Distribution, count: int) -> tuple[Tensor, Tensor]:
        base = base_distribution(fn)
        if not isinstance(base, Normal):
            raise PairError(
                f"the site is a {type(base).__name__}, expected a Normal; use predict, which returns draws."
            )
        return of_draws(base.loc.double(), fn, count), of_draws(base.scale.double(), fn, count)

    results = []
    for parts in read_site(
        model, guide, data, components, num_samples=num_samples, site=site, plate=plate
    ):
        locs, scales = (torch.cat([part.cpu() for part in each]) for each in zip(*parts))
        results.append(read(NormalMixture(locs, scales)))
    return results
