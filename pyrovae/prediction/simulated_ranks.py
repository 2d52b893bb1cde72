"""Ranks of simulated values among draws of their posteriors: histograms, tests, a summary in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyrovae.export import to_inference_data
from pyrovae.metrics import (
    randomized_pit,
    rank_bins,
    rank_counts,
    rank_statistics,
    uniformity_p_value,
)

if TYPE_CHECKING:
    import arviz
    import xarray

CORRELATED = 0.2
"""Lag-1 autocorrelation of draws from which the summary asks for thinning."""
ERRORS = 4.0
"""Standard errors from which the summary names a deviation."""


@dataclass(frozen=True)
class SimulatedRanks:
    """Where R simulated values lie among L draws of their posteriors; uniform if these are right."""

    ranks: dict[str, Tensor]
    """By site and test quantity, `(R, *shape)`, int64, from 0 to L."""
    num_draws: int
    """L."""
    autocorrelation: dict[str, Tensor]
    """Lag-1 autocorrelation of the draws, averaged over simulations, `(*shape)`: 0 for independent
    draws, which ranks want."""

    @classmethod
    def of(cls, draws: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> SimulatedRanks:
        """From draws `(L, R, *shape)` and true values `(R, *shape)`."""
        return cls(
            {name: rank_statistics(value, truth[name]) for name, value in draws.items()},
            len(next(iter(draws.values()))),
            {name: _autocorrelation(value) for name, value in draws.items()},
        )

    @property
    def num_simulations(self) -> int:
        return len(next(iter(self.ranks.values())))

    @property
    def bins(self) -> int:
        """The default number of bins."""
        return rank_bins(self.num_simulations, self.num_draws)

    def counts(self, bins: int | None = None) -> dict[str, Tensor]:
        """Ranks in each bin of equal width, `(bins, *shape)`."""
        return {
            name: rank_counts(value, self.num_draws, bins or self.bins)[0]
            for name, value in self.ranks.items()
        }

    def p_values(self, bins: int | None = None) -> dict[str, Tensor]:
        """Of the chi-square test of uniform ranks, one for each number, `(*shape)`."""
        return {
            name: uniformity_p_value(value, self.num_draws, bins)
            for name, value in self.ranks.items()
        }

    def p_value(self, bins: int | None = None) -> float:
        """The smallest of all p-values times their number (Bonferroni), at most 1."""
        values = torch.cat([value.flatten() for value in self.p_values(bins).values()])
        return min(1.0, float(values.min()) * len(values))

    def pit(self) -> dict[str, Tensor]:
        """Randomised probability integral transforms, `(R, *shape)`, uniform on (0, 1) if the
        posteriors are right."""
        return {name: randomized_pit(value, self.num_draws) for name, value in self.ranks.items()}

    def spread(self) -> dict[str, Tensor]:
        """12 Var(rank / L), `(*shape)`: 1 if uniform, above it where posteriors are too narrow,
        below it where they are too wide. Its standard error is (0.8 / R)^0.5."""
        return {
            name: 12.0 * _centred(value, self.num_draws).var(0, correction=0)
            + 1.0 / (self.num_draws + 1) ** 2
            for name, value in self.ranks.items()
        }

    def shift(self) -> dict[str, Tensor]:
        """Mean of rank / L minus 1/2, `(*shape)`: above 0 where posteriors are too low. Its
        standard error is (12 R)^-0.5."""
        return {
            name: _centred(value, self.num_draws).mean(0) for name, value in self.ranks.items()
        }

    def numbers(self) -> dict[str, Tensor]:
        """The ranks of each number, `(R,)`, by site and index: "w[0,3]"."""
        return _by_number(self.ranks)

    def transforms(self) -> dict[str, Tensor]:
        """`pit()` of each number, `(R,)`, for `pyrovae.plots.rank_ecdf`."""
        return _by_number(self.pit())

    def histograms(self, bins: int | None = None) -> dict[str, tuple[Tensor, Tensor]]:
        """Counts and expected counts of each number, `(bins,)`, for `pyrovae.plots.rank_histograms`."""
        return {
            label: rank_counts(value, self.num_draws, bins or self.bins)
            for label, value in self.numbers().items()
        }

    def __str__(self) -> str:
        head = (
            f"ranks of R = {self.num_simulations} simulated values among L = {self.num_draws} draws, "
            f"{self.bins} bins; smallest p-value of uniformity, corrected: {self.p_value():.2g}"
        )
        lines = [
            f"{name}: {_smallest(name, value)}{self._words(name)}"
            for name, value in self.p_values().items()
        ]
        return "\n".join([head, *lines])

    def _words(self, name: str) -> str:
        size = self.num_simulations
        spread = (self.spread()[name] - 1.0) / (0.8 / size) ** 0.5
        shift = self.shift()[name] * (12.0 * size) ** 0.5
        found = [
            f"{word} in {count} of {spread.numel()}"
            for word, count in (
                ("too narrow", int((spread > ERRORS).sum())),
                ("too wide", int((spread < -ERRORS).sum())),
                ("too low", int((shift > ERRORS).sum())),
                ("too high", int((shift < -ERRORS).sum())),
            )
            if count
        ]
        if (most := float(self.autocorrelation[name].max())) > CORRELATED:
            found.append(
                f"draws depend on each other (lag-1 autocorrelation {most:.2f}): thin them"
            )
        return "".join(f"; {words}" for words in found)


def ranks_to_arviz(ranks: SimulatedRanks) -> arviz.InferenceData | xarray.DataTree:
    """Probability integral transforms in the group `prior_sbc`, `(chain, draw, *shape)`, one draw
    for each simulation.

    ArviZ 1.x draws all of them by `plot_ecdf_pit(data)`, ArviZ 0.2x the values of one by
    `plot_ecdf(values, eval_points=numpy.linspace(0, 1, 100), cdf=scipy.stats.uniform.cdf,
    difference=True, confidence_bands=True)`.

    Example:
        >>> ranks = SimulatedRanks({"w": torch.tensor([[0, 3], [1, 2]])}, 3, {"w": torch.zeros(2)})
        >>> dict(ranks_to_arviz(ranks)["prior_sbc"]["w"].sizes)
        {'chain': 1, 'draw': 2, 'w_dim_0': 2}
    """
    pit = ranks.pit()
    dims = {
        name: [f"{name}_dim_{index}" for index in range(value.dim() - 1)]
        for name, value in pit.items()
    }
    return to_inference_data(
        {"prior_sbc": pit}, dims={name: names for name, names in dims.items() if names}
    )


def _by_number(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        label: value.flatten(1)[:, column] if value.dim() > 1 else value
        for name, value in values.items()
        for column, label in enumerate(_labels(name, value.shape[1:]))
    }


def _smallest(name: str, p_values: Tensor) -> str:
    if p_values.numel() == 1:
        return f"p-value {p_values.item():.2g}"
    return (
        f"smallest p-value {float(p_values.min()):.2g} of {p_values.numel()} at "
        f"{_labels(name, p_values.shape)[int(p_values.argmin())]}"
    )


def _autocorrelation(draws: Tensor) -> Tensor:
    """0 where draws do not vary, and for a single draw."""
    centred = draws.double() - draws.double().mean(0)
    power = centred.square().sum((0, 1))
    return (centred[1:] * centred[:-1]).sum((0, 1)) / power.clamp_min(
        torch.finfo(power.dtype).tiny
    )


def _centred(ranks: Tensor, num_draws: int) -> Tensor:
    return (ranks + 0.5) / (num_draws + 1) - 0.5


def _labels(name: str, shape: torch.Size) -> list[str]:
    if not shape:
        return [name]
    indices = torch.cartesian_prod(*map(torch.arange, shape)).reshape(-1, len(shape)).tolist()
    return [f"{name}[{','.join(map(str, index))}]" for index in indices]
