"""Annealed chains from a simple density to the posterior, and their importance weights."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from pyrovae.capture.auto import AutoCapture, Compile, shapes_of
from pyrovae.core.errors import PairError
from pyrovae.core.handlers import ValidateSupport
from pyrovae.core.modules import find_modules
from pyrovae.core.traces import Batch, is_local, run_guide, run_model
from pyrovae.evidence.ais_hmc import Points, Weights, move, tuned_steps
from pyrovae.evidence.densities import (
    FromPrior,
    Layout,
    SiteRequirement,
    check_latents,
    not_real,
    outside,
    score_guide,
    score_model,
    values_of,
    without_density,
)

Schedule = Callable[[int], Tensor]
"""From the number of steps T to inverse temperatures 0 = b_0 < ... < b_T = 1."""
SETTLING = 30
"""Trajectories at the first temperature before the step size is reduced."""


def linear(num_steps: int) -> Tensor:
    """Inverse temperatures at equal distances."""
    return torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)


def sigmoidal(num_steps: int, steepness: float = 4.0) -> Tensor:
    """Inverse temperatures that are dense at both ends, where the density changes most.

    Source: Wu et al. 2017, arXiv:1611.04273, whose code takes a steepness of 4 too.

    Example:
        >>> sigmoidal(4).round(decimals=3)
        tensor([0.0000, 0.1050, 0.5000, 0.8950, 1.0000], dtype=torch.float64)
    """
    ends = torch.linspace(-steepness, steepness, num_steps + 1, dtype=torch.float64).sigmoid()
    return (ends - ends[0]) / (ends[-1] - ends[0])


class AnnealedDensity:
    """log f_b, from q0 at b = 0 to log p(x, z) at b = 1, as a weighted sum of two terms.

    From the prior these are log p(z) and log p(x | z), weighted 1 and b; from a guide log q(z | x)
    and log p(x, z), weighted 1 - b and b.
    """

    def __init__(
        self,
        model: Callable,
        guide: Callable | None,
        batch: Batch,
        plate: str,
        slopes: "GradientCache | None" = None,
    ) -> None:
        self.model, self.guide, self.batch, self.plate, self.slopes = (
            model,
            guide,
            batch,
            plate,
            slopes,
        )
        with ValidateSupport():
            trace = run_model(model, run_guide(FromPrior(model), batch, 1), batch, 1)
        self.layout = Layout.of(trace)
        if not self.layout.size:
            raise PairError(
                "the model has no latent sites given these data, so log p(x) is its log-likelihood: "
                "log_evidence with an empty guide gives it."
            )

    def __call__(self, place: Tensor) -> tuple[Tensor, Tensor]:
        return self.terms(place, self.batch)

    def terms(self, place: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The same density for other data of the same shapes."""
        values = self.layout.unpack(place)
        prior, likelihood = score_model(self.model, values, batch, self.plate)
        if self.guide is None:
            return prior, likelihood
        return score_guide(self.guide, values, batch, self.plate), prior + likelihood

    def at(self, place: Tensor) -> Points:
        """Both terms and their gradients."""
        return Points.at(place, self) if self.slopes is None else self.slopes(self, place)

    def weights(self, b: float) -> Weights:
        return (1.0, b) if self.guide is None else (1.0 - b, b)

    def draw(self, num: int) -> Tensor:
        """`(num, B, D)` from q0."""
        return self.layout.pack(
            values_of(run_guide(self.guide or FromPrior(self.model), self.batch, num))
        )


class GradientCache:
    """Terms and gradients for all tiles of one estimate, replayed from a captured graph where
    that saves time."""

    PLACE = "latent values"

    def __init__(self, model: Callable, guide: Callable | None, compile: Compile) -> None:
        self.modules = list(
            find_modules(*(program for program in (model, guide) if program is not None)).values()
        )
        self.compile = (
            "off" if is_local(guide) else compile
        )  # `for_batch` makes another guide for each tile
        self.replays: dict[tuple, AutoCapture[tuple[Tensor, Tensor]]] = {}

    def __call__(self, path: AnnealedDensity, place: Tensor) -> Points:
        if self.compile == "off":
            return Points.at(place, path)
        key = shapes_of(path.batch)
        if key not in self.replays:
            self.replays[key] = AutoCapture(
                lambda inputs: self._program(path, inputs), self.modules, compile=self.compile
            )
        return Points(place, *self.replays[key]({**path.batch, self.PLACE: place.contiguous()}))

    def _program(self, path: AnnealedDensity, inputs: Batch) -> tuple[Tensor, Tensor]:
        batch = {name: value for name, value in inputs.items() if name != self.PLACE}
        points = Points.at(inputs[self.PLACE], lambda place: path.terms(place, batch))
        return points.terms, points.gradients


def check_path(
    model: Callable,
    guide: Callable | None,
    batch: Batch,
    plate: str,
    purpose: str = "annealed importance sampling moves",
) -> None:
    """Raise PairError where the annealed density has no gradient with respect to the latent
    values."""
    demand = SiteRequirement(
        f"{purpose} real-valued latents of each datum", outside(plate), without_density, not_real
    )
    for start in (FromPrior(model), guide):
        if start is not None:
            check_latents(model, start, batch, plate, demand)


@dataclass(frozen=True)
class Annealing:
    """The settings of the chains; see `annealed_importance`."""

    num_chains: int
    num_steps: int
    num_leapfrog: int
    pilot_chains: int
    schedule: Schedule
    progress: Callable[[Iterable], Iterable] | None = None

    def __post_init__(self) -> None:
        counts = {
            "num_chains": self.num_chains,
            "num_steps": self.num_steps,
            "num_leapfrog": self.num_leapfrog,
            "pilot_chains": self.pilot_chains,
        }
        if min(counts.values()) < 1:
            raise ValueError(f"{counts}, expected at least 1 of each.")
        ladder = self.ladder
        if (
            len(ladder) != self.num_steps + 1
            or ladder[0] != 0
            or ladder[-1] != 1
            or (ladder.diff() <= 0).any()
        ):
            raise ValueError(
                f"the schedule gives {len(ladder)} inverse temperatures from {ladder[0]:g} to {ladder[-1]:g}, "
                f"expected num_steps + 1 = {self.num_steps + 1} that rise from 0 to 1."
            )

    @property
    def ladder(self) -> Tensor:
        return torch.as_tensor(self.schedule(self.num_steps), dtype=torch.float64)

    def steps(self, path: AnnealedDensity) -> Tensor:
        """Step sizes for the T - 1 temperatures between the ends, `(T - 1, B)`, from pilot
        chains that are then discarded."""
        between = [path.weights(b) for b in self.ladder[1:-1].tolist()]
        points = path.at(path.draw(self.pilot_chains))
        if not between:
            return points.terms[0, :0]
        return tuned_steps(
            points, path, self._shown(between[:1] * SETTLING + between), self.num_leapfrog
        )[SETTLING:]

    def log_weights(
        self, path: AnnealedDensity, start: Tensor, steps: Tensor, *, backward: bool = False
    ) -> Tensor:
        """Logs of unbiased estimates of p(x), `(C, B)` float64, if `start` `(C, B, D)` holds draws
        from q0.

        Backward, `start` holds draws from the posterior and the estimates are those of 1 / p(x).
        """
        ladder = self.ladder.tolist()
        if backward:
            ladder, steps = ladder[::-1], steps.flip(0)
        points = path.at(start)
        total: Tensor | float = 0.0
        for index in self._shown(range(self.num_steps)):
            old, new = path.weights(ladder[index]), path.weights(ladder[index + 1])
            total = total + sum(
                (b - a) * term.double() for a, b, term in zip(old, new, points.terms)
            )
            if index < self.num_steps - 1:
                points, _ = move(points, path, new, steps[index], self.num_leapfrog)
        return cast(Tensor, total)

    def _shown(self, temperatures: Iterable) -> Iterable:
        return temperatures if self.progress is None else self.progress(temperatures)
