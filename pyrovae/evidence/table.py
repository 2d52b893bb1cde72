"""All estimates of log p(x) on the same data, in one table."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from pyrovae.core.batching import Data, batches, exemplar_of
from pyrovae.core.errors import PairError
from pyrovae.core.shapes import DATA
from pyrovae.evidence.ais import annealed_importance
from pyrovae.evidence.ais_path import AnnealedDensity, Schedule, check_path, sigmoidal
from pyrovae.evidence.importance import log_evidence
from pyrovae.evidence.quadrature import quadrature
from pyrovae.evidence.result import UNTRUSTED_KHAT, standard_error
from pyrovae.evidence.runtime import evaluation, first_batch


@dataclass(frozen=True)
class Row:
    """One estimate of the average log p(x) over the data, in nats."""

    method: str
    num_particles: int | None
    """K, the chains of AIS; None for quadrature."""
    mean: float
    se: float
    """Standard error over data; NaN for one datum."""
    monte_carlo_se: float
    """The part of finite K alone, for these very data, or the average error of a grid; NaN for K =
    1."""
    untrusted: int | None
    """Data with k-hat above 0.7; None where K is too small for a k-hat."""
    seconds: float

    @classmethod
    def of(
        cls,
        method: str,
        num_particles: int | None,
        values: Tensor,
        monte_carlo_se: float,
        khat: Tensor | None,
        seconds: float,
    ) -> "Row":
        untrusted = (
            None if khat is None or khat.isnan().all() else int((khat > UNTRUSTED_KHAT).sum())
        )
        return cls(
            method,
            num_particles,
            values.mean().item(),
            standard_error(values),
            monte_carlo_se,
            untrusted,
            seconds,
        )


@dataclass(frozen=True)
class EvidenceTable:
    """Estimates of the same data, so that the difference of two rows is more certain than either."""

    rows: list[Row]
    num_data: int

    def __str__(self) -> str:
        """A table in Markdown."""

        def number(value: float | None, form: str) -> str:
            return "" if value is None or math.isnan(value) else format(value, form)

        lines = [
            f"| method | K | log p(x), nats, mean over N = {self.num_data} | s.e. over data | Monte Carlo s.e. | "
            "k-hat > 0.7 | seconds |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            cells = (
                row.method,
                number(row.num_particles, "d"),
                number(row.mean, ".3f"),
                number(row.se, ".3f"),
                number(row.monte_carlo_se, ".2g"),
                number(row.untrusted, "d"),
                number(row.seconds, ".1f"),
            )
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)


def evidence_table(
    model: Callable,
    guide: Callable,
    data: Data,
    *,
    num_particles: Sequence[int] = (1, 10, 100, 1000, 5000),
    num_chains: int = 16,
    num_steps: int | None = 1000,
    num_leapfrog: int = 10,
    schedule: Schedule = sigmoidal,
    chunk: int = 500,
    progress: Callable[[Iterable], Iterable] | None = None,
    names: Sequence[str] | None = None,
    plate: str = DATA,
) -> EvidenceTable:
    """Estimate the average log p(x) of the same data by every method there is, in nats per datum.

    Rows: the ELBO (from as many draws as the largest K), importance sampling at each K of
    `num_particles`, annealed importance sampling from the prior, and quadrature where there are
    one or two latent dimensions. All but the last are lower bounds in expectation, so where they
    agree with a larger one they have arrived. `bidirectional` says how far annealing itself may be
    off.

    num_chains, num_steps, num_leapfrog, schedule, progress: of `annealed_importance`;
    num_steps=None leaves it out.

    Raises: PairError as the methods do.

    Example:
        >>> import torch
        >>> table = evidence_table(model, guide, {"x": torch.ones(3, 4)}, num_particles=(1, 50), num_steps=10)
        >>> [row.method for row in table.rows]
        ['ELBO', 'IS', 'IS', 'AIS', 'quadrature']
    """
    if not num_particles:
        raise ValueError("num_particles is empty, expected at least one K.")
    kept = list(
        batches(data, names, exemplar_of(model, guide))
    )  # every method has to see the same data
    first: list[Row] = []
    rows: list[Row] = []
    for num in sorted(num_particles):
        evidence, seconds = _timed(
            lambda num=num: log_evidence(
                model, guide, kept, num_particles=num, chunk=chunk, plate=plate
            )
        )
        rows.append(
            Row.of("IS", num, evidence.log_px, evidence.monte_carlo_se, evidence.khat, seconds)
        )
        first = [Row.of("ELBO", num, evidence.elbo, _of_mean(evidence.elbo_se), None, seconds)]
    if num_steps is not None:
        evidence, seconds = _timed(
            lambda: annealed_importance(
                model,
                kept,
                num_chains=num_chains,
                num_steps=num_steps,
                num_leapfrog=num_leapfrog,
                schedule=schedule,
                progress=progress,
                plate=plate,
            )
        )
        rows.append(
            Row.of(
                "AIS", num_chains, evidence.log_px, evidence.monte_carlo_se, evidence.khat, seconds
            )
        )
    if _few_dimensions(model, kept, plate):
        result, seconds = _timed(lambda: quadrature(model, kept, plate=plate))
        rows.append(
            Row.of("quadrature", None, result.log_px, result.error.mean().item(), None, seconds)
        )
    return EvidenceTable([*first, *rows], len(evidence.log_px))


def _timed(estimate: Callable) -> tuple:
    start = time.perf_counter()
    return estimate(), time.perf_counter() - start


def _of_mean(se: Tensor) -> float:
    return (se.square().sum().sqrt() / len(se)).item()


def _few_dimensions(model: Callable, data: Data, plate: str) -> bool:
    """Whether `quadrature` takes this model."""
    with evaluation(model):
        first, _ = first_batch(data, None, model)
        try:
            check_path(model, None, first, plate)
            return AnnealedDensity(model, None, first, plate).layout.size <= 2
        except PairError:
            return False
