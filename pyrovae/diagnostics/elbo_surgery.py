"""The two parts of the KL of an ELBO: mutual information of data and latents, and the KL from the
aggregate posterior to the prior."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyro
import torch
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import kl_divergence

from pyrovae.core.batching import Data, batches, exemplar_of, rebatch, size_of
from pyrovae.core.check import ANY_NUMBER, check
from pyrovae.core.errors import PairError
from pyrovae.core.log_weights import check_matched, log_joint
from pyrovae.core.modules import find_modules
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.shapes import DATA
from pyrovae.core.traces import (
    Batch,
    for_batch,
    replay_guide,
    run_guide,
    run_model,
    sample_sites,
    tied_to_rows,
)
from pyrovae.core.types import nodes_of
from pyrovae.diagnostics.active_units import ActiveUnits, factors
from pyrovae.evidence.checked_pair import refuse_point_masses
from pyrovae.evidence.result import standard_error
from pyrovae.losses.elbo_terms import DRAWS

TILE = 500
"""Number of data that are scored together."""
ROWS = 50_000
"""Draws x data in one pass."""


@dataclass(frozen=True)
class Surgery:
    """KL = mutual information + marginal KL, in nats per datum; each `_se` is the standard error
    of a mean over N data."""

    kl: float
    """Average over data of KL(q(z | x) || p(z))."""
    kl_se: float
    mutual_information: float
    """Between the index of a datum and z, I_q(n; z) <= log N; as an estimate of I_q(x; z) biased
    low where it is near."""
    mutual_information_se: float
    marginal_kl: float
    """KL(q(z) || p(z)) of q(z) = 1/N sum_n q(z | x_n): the mismatch of the prior."""
    marginal_kl_se: float
    kl_per_unit: dict[str, Tensor]
    """KL of each dimension `(D,)`, for latent sites that factorise over dimensions in model and
    guide."""
    active_units: int
    """Dimensions whose posterior mean varies over data
    (`pyrovae.diagnostics.active_units.ActiveUnits`)."""
    num_data: int
    num_draws: int

    def __str__(self) -> str:
        return (
            f"KL {self.kl:.3f} +- {self.kl_se:.3f} nats = mutual information {self.mutual_information:.3f} +- "
            f"{self.mutual_information_se:.3f} (at most log N = {math.log(self.num_data):.3f}) + marginal KL "
            f"{self.marginal_kl:.3f} +- {self.marginal_kl_se:.3f}; {self.active_units} active units; "
            f"N = {self.num_data} data, {self.num_draws} draws each"
        )


def elbo_surgery(
    model: Callable,
    guide: Callable,
    data: Data,
    *,
    num_draws: int = 1,
    names: Sequence[str] | None = None,
    plate: str = DATA,
) -> Surgery:
    r"""Split the average KL into the mutual information of data and z, and the KL from the
    aggregate posterior to the prior.

    1/N \sum_n KL(q(z | x_n) || p(z)) = I_q(n; z) + KL(q(z) || p(z)), with q(z) = 1/N \sum_n q(z |
    x_n) and n the index of a datum. A collapsed guide has all three at zero; a large marginal KL
    suggests another prior. Estimated on `num_draws` draws of each q(z | x_n), scored under the
    guide of every datum, so time grows with N^2.

    z stands for all latent sites together. Flows, mixtures and hierarchies that sample from the
    top down are scored by replaying the draws. Eval mode, no gradients; parameters, flags and
    buffers stay, draws use torch's generator.

    Raises: PairError for less than two data, a prior p(z | c) that differs between data (there is
    no one marginal KL), guides without a density or with parameters for each row, and all that
    `check` refuses.
    Source: Hoffman & Johnson 2016, "ELBO surgery", NIPS workshop on advances in approximate
    Bayesian inference.

    Example:
        >>> parts = elbo_surgery(model, guide, {"x": torch.eye(4)}, num_draws=5)
        >>> abs(parts.kl - parts.mutual_information - parts.marginal_kl) < 1e-5
        True
    """
    if num_draws < 1:
        raise ValueError(f"num_draws={num_draws}, expected at least 1.")
    modules = list(find_modules(model, guide).values())
    with (
        torch.no_grad(),
        preserve_state(modules, training=False, random=False),
        pyro.validation_enabled(False),
    ):
        tiles = list(rebatch(batches(data, names, exemplar_of(model, guide)), TILE))
        num_data = sum(size_of(tile) for tile in tiles)
        if num_data < 2:
            raise PairError(
                f"there are {num_data} data, but information about which datum z came from takes two or more."
            )
        check(model, guide, tiles[0], num_data=ANY_NUMBER, plate=plate)
        if tied_to_rows(guide, plate):
            raise PairError(
                "the guide is an autoguide with parameters for each row of a batch, so q(z | x) of the "
                "draws of other data is not defined. Use an amortised guide."
            )
        guides = [for_batch(guide, tile) for tile in tiles]
        refuse_point_masses(run_guide(guides[0], tiles[0], 2))
        draws = [run_guide(own, tile, num_draws) for own, tile in zip(guides, tiles)]
        units, kl_per_unit, log_ratios, log_marginals = ActiveUnits(), _PerUnit(), [], []
        for own, tile, guide_trace in zip(guides, tiles, draws):
            model_trace = run_model(model, guide_trace, tile, num_draws)
            check_matched(model_trace, guide_trace)
            log_p = log_joint(model_trace, num_draws, plate=plate, observed=False)
            _refuse_conditional_prior(model, guide_trace, tile, num_draws, log_p, plate)
            log_ratios.append(
                log_joint(guide_trace, num_draws, plate=plate).double() - log_p.double()
            )
            log_marginals.append(
                _log_marginal(guide_trace, guides, tiles, num_draws, plate).double()
                - log_p.double()
            )
            units.add(*_means(run_guide(own, tile, 2 * DRAWS)))
            kl_per_unit.add(model_trace, guide_trace, size_of(tile))
    kl, marginal = (torch.cat(parts, dim=1).mean(0) for parts in (log_ratios, log_marginals))
    information = kl - marginal
    return Surgery(
        kl=kl.mean().item(),
        kl_se=standard_error(kl),
        mutual_information=information.mean().item(),
        mutual_information_se=standard_error(information),
        marginal_kl=marginal.mean().item(),
        marginal_kl_se=standard_error(marginal),
        kl_per_unit=kl_per_unit.mean(num_data),
        active_units=units.count(),
        num_data=num_data,
        num_draws=num_draws,
    )


def _means(guide_trace: Trace) -> tuple[Tensor, Tensor]:
    """E_q[z | x] of all latent sites twice, `(B, ...)`, from two independent halves of the draws."""
    values = [
        site["value"].double().flatten(2)
        for site in sample_sites(guide_trace, observed=False).values()
    ]
    first, second = torch.cat(values, dim=-1).chunk(2)
    return first.mean(0), second.mean(0)


def _log_marginal(
    guide_trace: Trace,
    guides: Sequence[Callable],
    tiles: Sequence[Batch],
    num_draws: int,
    plate: str,
) -> Tensor:
    """log 1/N sum_m q(z | x_m) of every draw in a trace, `(K, B)`."""
    sites = sample_sites(guide_trace, observed=False)
    flat = {
        name: site["value"].reshape(-1, 1, *site["value"].shape[2:])
        for name, site in sites.items()
    }
    count, num_data = len(next(iter(flat.values()))), sum(size_of(tile) for tile in tiles)
    step = max(1, ROWS // max(size_of(tile) for tile in tiles))
    total = []
    for start in range(0, count, step):
        scores = []
        for other, tile in zip(guides, tiles):
            foreign = guide_trace.copy()
            for name, site in sites.items():
                part = flat[name][start : start + step]
                nodes_of(foreign)[name] = {
                    **site,
                    "value": part.expand(-1, size_of(tile), *part.shape[2:]),
                }
            size = min(step, count - start)
            scores.append(log_joint(replay_guide(other, foreign, tile, size), size, plate=plate))
        total.append(torch.cat(scores, dim=1).logsumexp(1) - math.log(num_data))
    return torch.cat(total).reshape(num_draws, -1)


def _refuse_conditional_prior(
    model: Callable, guide_trace: Trace, tile: Batch, num_draws: int, log_p: Tensor, plate: str
) -> None:
    other = {name: value.roll(1, 0) for name, value in tile.items()}
    again = log_joint(
        run_model(model, guide_trace, other, num_draws), num_draws, plate=plate, observed=False
    )
    if not torch.allclose(again, log_p, rtol=1e-4, atol=1e-4):
        raise PairError(
            "the prior of the latent sites differs from datum to datum, p(z | c), so there is no one p(z) to "
            "compare the aggregate posterior with. Take data that share one c."
        )


class _PerUnit:
    """KL of each dimension, where it has a closed form."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}

    def add(self, model_trace: Trace, guide_trace: Trace, size: int) -> None:
        for name, site in sample_sites(guide_trace, observed=False).items():
            try:
                kl = kl_divergence(factors(site), factors(nodes_of(model_trace)[name]))
            except (PairError, NotImplementedError):
                continue
            event_dim = len(site["fn"].event_shape)
            kl = kl.double().reshape(-1, *kl.shape[kl.dim() - event_dim :]).mean(0).flatten()
            kl = size * kl.cpu()
            self.totals[name] = self.totals[name] + kl if name in self.totals else kl

    def mean(self, num_data: int) -> dict[str, Tensor]:
        return {name: total / num_data for name, total in self.totals.items()}
