"""Whether data look like replicates that a fitted pair draws: posterior-predictive checks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyrovae.core.batching import Values, as_batch, exemplar_of
from pyrovae.core.errors import PairError
from pyrovae.core.traces import is_missing, kept_elements
from pyrovae.core.types import Site
from pyrovae.metrics import randomized_pit, rank_statistics
from pyrovae.prediction.draws import drawn_sites

Statistic = Callable[[Tensor], Tensor]
"""From the values of a site, `(N, *event)`, to a number."""


@dataclass(frozen=True)
class PredictiveCheck:
    """Test statistics of the data and of K replicated data sets."""

    observed: dict[str, Tensor]
    """T(y) by name, `()`."""
    replicated: dict[str, Tensor]
    """T(y_rep), `(K,)`."""
    pit: Tensor
    """The place of each observed number among its K replicates, `(N, *event)`, randomised to be
    uniform on (0, 1) if it is one of them; NaN for data that a mask leaves out. The pair has seen
    the data: on its training data these lie too close to 1/2."""

    @property
    def p_values(self) -> dict[str, float]:
        """P(T(y_rep) > T(y)), ties by half: near 0 or 1 where the model does not make such data."""
        return {
            name: float((values > self.observed[name]).double().mean())
            + 0.5 * float((values == self.observed[name]).double().mean())
            for name, values in self.replicated.items()
        }

    def panels(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Name -> replicated and observed, for `plots.predictive_checks`."""
        return {name: (self.replicated[name], value) for name, value in self.observed.items()}

    def __str__(self) -> str:
        return "\n".join(
            f"{name}: {float(self.observed[name]):.4g} in the data, {float(values.mean()):.4g} +- "
            f"{float(values.std()):.2g} in {len(values)} replicates, p = {self.p_values[name]:.3g}"
            for name, values in self.replicated.items()
        )


def posterior_predictive_check(
    model: Callable,
    guide: Callable,
    batch: Mapping[str, Values] | Values,
    statistics: Mapping[str, Statistic],
    *,
    num_samples: int,
    site: str = "y",
    names: Sequence[str] | None = None,
) -> PredictiveCheck:
    r"""Compare statistics of the data with those of replicates, T(y) with T(y_rep), y_rep ~ p(y |
    z), z ~ q(z | y): of any pair, whether its latents are local (a VAE) or shared (weights).

    `predict` makes the replicates. P-values are not uniform for a right model but nearer to 1/2,
    since the data are used twice; a statistic that the model fits directly (the mean, say)
    finds little. For ArviZ's plots (`plot_ppc`, `plot_bpv`, `loo_pit`) pass `posterior_draws` to
    `to_inference_data`.

    statistics: by name, such as `{"largest": torch.max, "zeros": lambda y: (y == 0).double().mean()}`.
    site: whose values they read, in batch and replicates, without the data that a mask (`poutine.mask`,
        `fn.mask`, `obs_mask`) leaves out: of n of N data they get `(n, *event)`.

    Raises: PairError where the batch lacks `site`, for statistics that are no single number, and
    for masks of all data or of parts of one; KeyError for an unknown site.
    Source: Rubin 1984; Gelman, Meng & Stern 1996, Statistica Sinica 6:733.

    Example:
        >>> batch = {"x": torch.ones(3, 4)}
        >>> check = posterior_predictive_check(model, guide, batch, {"mean": torch.mean}, num_samples=50, site="x")
        >>> float(check.observed["mean"]), check.replicated["mean"].shape, check.pit.shape
        (1.0, torch.Size([50]), torch.Size([3, 4]))
    """
    batch = as_batch(batch, names, exemplar_of(model, guide))
    if site not in batch:
        raise PairError(
            f"site={site!r}, but the data name {sorted(batch)}. Name the site whose values are checked."
        )
    sites = drawn_sites(model, guide, batch, num_samples)
    if site not in sites:
        raise KeyError(f"{site!r} is no site of the model, which has {sorted(sites)}.")
    values, target = sites[site]["value"], batch[site]
    if (kept := _kept(sites, site)) is not None:
        values, target = values[:, kept], target[kept]
    observed = {name: torch.as_tensor(read(target)) for name, read in statistics.items()}
    if wrong := {name: tuple(value.shape) for name, value in observed.items() if value.dim()}:
        raise PairError(
            f"the statistics have shapes {wrong}, expected one number each of all data, such as y.std()."
        )
    replicated = {
        name: torch.stack([torch.as_tensor(read(each)) for each in values])
        for name, read in statistics.items()
    }
    pit = randomized_pit(rank_statistics(values, target), num_samples)
    if kept is not None:
        pit = pit.new_full((len(kept), *pit.shape[1:]), torch.nan).masked_scatter(
            kept.reshape(-1, *(1 for _ in pit.shape[1:])), pit
        )
    return PredictiveCheck(observed, replicated, pit)


def _kept(sites: Mapping[str, Site], name: str) -> Tensor | None:
    """Which data no mask leaves out, `(N,)`; None for all."""
    with_missing = f"{name}_unobserved" in sites and is_missing(f"{name}_unobserved", sites)
    elements = kept_elements(sites[f"{name}_observed" if with_missing else name])
    if elements.all():
        return None
    rows = elements[0].reshape(elements.shape[1], -1)
    kept = rows.all(1)
    if not torch.equal(kept, rows.any(1)) or not kept.any():
        raise PairError(
            f"a mask leaves out {'all data' if not kept.any() else 'parts of data'} of site {name!r}, expected one "
            "that keeps some data, each in whole. Mask whole data, or check a site of those that are kept."
        )
    return kept
