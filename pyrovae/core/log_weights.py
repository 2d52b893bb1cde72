"""Importance weights of a (model, guide) pair: the log-probabilities of its traces, summed over
sites."""

from collections.abc import Callable

import torch
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.core.errors import PairError
from pyrovae.core.shapes import DATA
from pyrovae.core.traces import (
    is_auxiliary,
    log_prob,
    plate_frame,
    run_guide,
    run_model,
    sample_sites,
)
from pyrovae.core.types import Batch, Site


def log_weights(
    model: Callable, guide: Callable, batch: Batch, num_particles: int, *, plate: str | None = DATA
) -> Tensor:
    r"""log w_k = log p(x, z_k) - log q(z_k | x) with z_k ~ q(. | x): the one tensor that every
    estimate reduces.

    Shapes: `(K, B)`, one weight for each particle and datum in nats; `(K,)` for `plate=None`, the
    joint weight of the whole batch. The mean over K estimates the ELBO, the log-mean-exp log p(x).

    Gradients flow where the guide reparameterises. Draws use torch's global generator. Training
    scales (`poutine.scale`, subsampling) are left out, masks are kept.

    Raises: PairError for a site outside `plate` (its weight belongs to no single datum), a latent
    site missing on one side, and shapes that break the law `(K, B, *event)`.
    Source: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8.

    Example:
        >>> log_weights(model, guide, {"x": torch.ones(3, 4)}, 10).shape
        torch.Size([10, 3])
    """
    guide_trace = run_guide(guide, batch, num_particles)
    model_trace = run_model(model, guide_trace, batch, num_particles)
    return log_weights_of(model_trace, guide_trace, num_particles, plate=plate)


def log_weights_of(
    model_trace: Trace, guide_trace: Trace, num_particles: int, *, plate: str | None = DATA
) -> Tensor:
    """The log-weights of two traces that were run under `num_particles` particles."""
    check_matched(model_trace, guide_trace)
    return log_joint(model_trace, num_particles, plate=plate) - log_joint(
        guide_trace, num_particles, plate=plate
    )


def check_matched(model_trace: Trace, guide_trace: Trace) -> None:
    """Raise PairError for a latent site that only one of model and guide has: its log-probability
    would have no counterpart in the weight.

    Auxiliary sites of the guide (draws that an autoguide then transforms) need no counterpart.
    """
    guided = {
        name
        for name, site in sample_sites(guide_trace, observed=False).items()
        if not is_auxiliary(site)
    }
    alone = set(sample_sites(model_trace, observed=False)) ^ guided
    if alone:
        raise PairError(
            f"latent sites {sorted(alone)} appear in only one of model and guide (enumerated ones do), so "
            "their draws have no weight. Sample them in both."
        )


def log_joint(
    trace: Trace, num_particles: int, *, plate: str | None = DATA, observed: bool | None = None
) -> Tensor:
    """Sum of the log-probabilities of all sites of a trace, `(K, B)`, or `(K,)` for `plate=None`.

    `observed=True` sums over the observed sites alone, False over the latent ones.
    """
    kinds = (True, False) if observed is None else (observed,)
    sites = {
        name: site for kind in kinds for name, site in sample_sites(trace, observed=kind).items()
    }
    values = [_per_datum(site, num_particles, plate) for site in sites.values()]
    return sum(values[1:], values[0]) if values else torch.zeros(())


def _per_datum(site: Site, num_particles: int, plate: str | None) -> Tensor:
    value, name = log_prob(site), site["name"]
    inside = None if plate is None else plate_frame(site, plate)
    if inside is None and plate is not None:
        raise PairError(
            f"site {name!r} lies outside plate {plate!r}, so log p(x_i) has no per-datum estimate. "
            "Pass plate=None for the joint evidence, or plate='...' if your plate has another name."
        )
    shape = (num_particles, inside.size if inside is not None else value.shape[-1])
    if value.dim() > 2 or torch.broadcast_shapes(value.shape, shape) != shape:
        raise PairError(
            f"site {name!r} has log-probabilities of shape {tuple(value.shape)}, expected (K, B) = {shape}. "
            "Put the data plate at dim=-1 and everything else into the event with .to_event()."
        )
    return value.expand(shape).sum(-1) if plate is None else value.expand(shape)
