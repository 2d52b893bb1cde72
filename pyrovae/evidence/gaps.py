"""How many nats a guide loses to its family (approximation gap) and to amortisation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from pyrovae.core.batching import Data, batches, exemplar_of
from pyrovae.core.shapes import DATA
from pyrovae.evidence.importance import log_evidence
from pyrovae.evidence.result import standard_error
from pyrovae.programs.semi_amortized import SemiAmortized


@dataclass(frozen=True)
class Gaps:
    """What lies between a guide's ELBO and log p(x), of each datum in nats, `(N,)` float64 on the
    CPU."""

    log_px: Tensor
    refined_elbo: Tensor
    """L[q*], the ELBO of the guide refined for each datum."""
    elbo: Tensor
    """L[q], the ELBO of the guide as it is."""

    @property
    def approximation(self) -> Tensor:
        """log p(x) - L[q*]: what the family cannot express."""
        return self.log_px - self.refined_elbo

    @property
    def amortization(self) -> Tensor:
        """L[q*] - L[q]: what the net gets wrong on each datum."""
        return self.refined_elbo - self.elbo

    @property
    def means(self) -> dict[str, tuple[float, float]]:
        """The average of both gaps and of their sum, each with its standard error over data (of
        differences, paired)."""
        parts = {
            "approximation": self.approximation,
            "amortization": self.amortization,
            "total": self.log_px - self.elbo,
        }
        return {name: (gap.mean().item(), standard_error(gap)) for name, gap in parts.items()}

    def __str__(self) -> str:
        gaps = ", ".join(
            f"{name} gap {mean:.3f} +- {se:.3f}" for name, (mean, se) in self.means.items()
        )
        return (
            f"log p(x) {self.log_px.mean():.3f}, L[q*] {self.refined_elbo.mean():.3f}, L[q] {self.elbo.mean():.3f}; "
            f"{gaps} nats (mean and standard error over N = {len(self.elbo)} data)"
        )


def inference_gaps(
    model: Callable,
    guide: Callable,
    data: Data,
    *,
    num_particles: int,
    log_px: Tensor | None = None,
    steps: int = 500,
    lr: float = 0.05,
    draws: int = 10,
    chunk: int = 500,
    names: Sequence[str] | None = None,
    plate: str = DATA,
    progress: Callable[[int], object] | None = None,
) -> Gaps:
    r"""Split log p(x) - L[q] into an approximation gap, log p(x) - L[q*], and an amortisation gap,
    L[q*] - L[q].

    q* is the best member of the guide's family for each datum, as found by `SemiAmortized` with
    `steps` steps of rate `lr`, each on `draws` draws. Steps that are too few count as
    approximation gap.

    num_particles: K, by which each ELBO and log p(x) are estimated. log_px: log p(x) of each
    datum, `(N,)`, where something better is known, e.g. `annealed_importance(...).log_px`; by
    default it is `log_evidence` of the guide or of the refined guide, whichever is larger on
    average, since both are lower bounds. What they lack is missing from the approximation gap.
    progress: as in `log_evidence`, for 2 K N log-weights in all.

    Raises: ValueError where `log_px` is not of the data's length, PairError as `log_evidence` and
    `SemiAmortized` do.
    Source: Cremer, Li & Duvenaud 2018, arXiv:1801.03558, section 3.

    Example:
        >>> import torch
        >>> sorted(inference_gaps(model, guide, {"x": torch.ones(3, 4)}, num_particles=10, steps=5).means)
        ['amortization', 'approximation', 'total']
    """
    kept = list(
        batches(data, names, exemplar_of(model, guide))
    )  # all estimates must see the same data
    refined = SemiAmortized(guide, model, steps=steps, lr=lr, num_particles=draws, plate=plate)
    plain, better = (
        log_evidence(
            model,
            q,
            kept,
            num_particles=num_particles,
            chunk=chunk,
            plate=plate,
            progress=progress,
        )
        for q in (guide, refined)
    )
    if log_px is None:
        log_px = max(plain, better, key=lambda evidence: evidence.mean).log_px
    elif log_px.shape != plain.elbo.shape:
        raise ValueError(
            f"log_px has shape {tuple(log_px.shape)}, expected {tuple(plain.elbo.shape)}, one for each datum."
        )
    return Gaps(log_px.detach().cpu().double(), better.elbo, plain.elbo)
