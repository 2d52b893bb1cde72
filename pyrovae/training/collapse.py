"""Warn where training ended with latent variables that the model does not use."""

import warnings
from collections.abc import Mapping

import torch
import torch.nn as nn
from pyro.distributions import Delta
from torch import Tensor

from pyrovae.core.errors import CollapseWarning
from pyrovae.core.modules import find_modules
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.traces import (
    base_distribution,
    is_auxiliary,
    plate_frame,
    run_guide,
    sample_sites,
)
from pyrovae.losses.base import plate_of, programs_of, unwrap
from pyrovae.losses.schedules import LinearWarmup
from pyrovae.training.evaluate import evaluate

LEAST_KL = 0.01
"""Nats per datum; below this KL a latent variable says practically nothing about the data."""
SUSPECT_KL = 0.1
"""The same for the average over an epoch, which is noisy because the weights moved."""
LEAST_STEPS, LEAST_DATA = 100, 10
"""Shorter runs, or runs on fewer data, are trials and give no warning."""


def warn_if_collapsed(
    loss: nn.Module,
    row: Mapping[str, float],
    batch: dict[str, Tensor],
    *,
    num_steps: int,
    num_data: int,
) -> None:
    """Warn where z carries nothing about x: in the last epoch's `row`, and on `batch` with the
    weights as they are now.

    Nothing is said where that may be meant or is not yet decided: no latent sites in the data
    plate but point masses, a model that is not trained, a `LinearWarmup` that still runs, fewer
    than 100 steps or 10 data.
    """
    pair = unwrap(loss)
    programs = programs_of(pair)
    if num_steps < LEAST_STEPS or num_data < LEAST_DATA or programs is None:
        return
    model, guide = programs
    if any(
        isinstance(part, LinearWarmup) and part.step < part.num_steps for part in loss.modules()
    ):
        return
    if not any(
        p.requires_grad for module in find_modules(model).values() for p in module.parameters()
    ):
        return
    with torch.no_grad(), preserve_state([loss]):
        guide_trace = run_guide(guide, batch)
    sites = [
        name
        for name, site in sample_sites(guide_trace, observed=False).items()
        if plate_frame(site, plate_of(pair)) is not None
        and not is_auxiliary(site)
        and not isinstance(base_distribution(site["fn"]), Delta)
    ]
    if (
        sites
        and _ignored(row, sites, SUSPECT_KL)
        and _ignored(now := evaluate(loss, batch), sites, LEAST_KL)
    ):
        kl, units = _kl(now, sites), now.get("active_units")
        warnings.warn(
            f"the model ignores its latent variables ({', '.join(sites)}): their KL is {kl:.2g} nats per datum"
            + (
                " and no posterior mean varies over the data (0 active units)"
                if units == 0
                else ""
            )
            + ". Try a KL warm-up "
            "(beta=LinearWarmup(num_steps)), free bits (free_bits=0.5), a weaker decoder (a smaller one, or one that is not "
            "autoregressive), or several steps of the guide for each of the model (losses.Lagging). elbo_surgery says more. "
            "If z is not meant to be used, filter this CollapseWarning.",
            CollapseWarning,
            stacklevel=4,
        )


def _ignored(row: Mapping[str, float], sites: list[str], least: float) -> bool:
    kl = _kl(row, sites)
    return kl is not None and (kl < least or row.get("active_units") == 0)


def _kl(row: Mapping[str, float], sites: list[str]) -> float | None:
    """The KL of these sites, on validation data where there are any; a row with one column a
    site may have columns of other sites too."""
    prefix = "valid_" if "valid_kl" in row else ""
    if len(sites) == 1 and f"{prefix}kl_{sites[0]}" not in row:
        return row.get(f"{prefix}kl")
    parts = [row.get(f"{prefix}kl_{site}") for site in sites]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
