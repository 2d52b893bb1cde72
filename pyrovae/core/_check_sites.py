"""Whether model and guide have the sites that a pair needs, and each site a log-probability for
each datum."""

from collections.abc import Iterable, Mapping

import torch
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.core.errors import PairError
from pyrovae.core.moving_support import ZeroOutside
from pyrovae.core.shapes import DATA_DIM
from pyrovae.core.support_checks import check_parameters, describe, masks_of, refuse_other_plate
from pyrovae.core.traces import is_auxiliary, log_prob, plate_frame, sample_sites
from pyrovae.core.types import Site


def check_sites(model_trace: Trace, guide_trace: Trace, batch: Mapping[str, Tensor]) -> None:
    observed = sample_sites(model_trace, observed=True)
    if not observed:
        raise PairError(
            f"the model observes nothing: its sites are {sorted(sample_sites(model_trace, observed=False))} "
            f"and the batch names {sorted(batch)}. Name the data after the site they observe."
            + _misspelt(sample_sites(model_trace, observed=False), batch)
        )
    if all(
        any(not torch.as_tensor(mask).any() for mask in masks_of(site))
        for site in observed.values()
    ):
        raise PairError(
            f"all values of the observed sites {sorted(observed)} are masked away, so nothing ties the latent "
            "values to the data and the ELBO is -KL. A mask is True where a value counts."
        )
    if sample_sites(guide_trace, observed=True):
        raise PairError(
            f"the guide observes {sorted(sample_sites(guide_trace, observed=True))}; a guide only samples. "
            "Are model and guide in the wrong order?"
        )
    latent = {
        name
        for name, site in sample_sites(model_trace, observed=False).items()
        if site["infer"].get("enumerate") != "parallel"
    }
    guided = {
        name
        for name, site in sample_sites(guide_trace, observed=False).items()
        if not is_auxiliary(site)
    }
    if latent - guided:
        raise PairError(
            f"the guide misses latent sites {sorted(latent - guided)} of the model (it has "
            f"{sorted(guided)}); they would be sampled from the prior and not fitted."
            + _misspelt(latent - guided, batch)
        )
    if guided - set(sample_sites(model_trace, observed=False)):
        extra = sorted(guided - set(sample_sites(model_trace, observed=False)))
        raise PairError(
            f"the guide samples {extra}, which the model does not (its latent sites are {sorted(latent)}). "
            "Rename them, or mark them infer={'is_auxiliary': True}."
        )


def _misspelt(sites: Iterable[str], batch: Mapping[str, Tensor]) -> str:
    return "".join(
        f" The batch key {key!r} differs from site {site!r} in case alone: spell them alike to observe it."
        for key in batch
        for site in sites
        if key != site and key.lower() == site.lower()
    )


def check_site(role: str, site: Site, size: int, num_data: int | None, plate: str) -> None:
    name, inside = site["name"], plate_frame(site, plate)
    if inside is None and site["is_observed"]:
        refuse_other_plate(site, size, plate)
    if inside is None and num_data is None:
        raise PairError(
            f"{role} site {name!r} lies outside plate {plate!r}, so its weight in a minibatch needs the "
            f"number of data N: pass num_data=N (not the batch size, here {size}), or plate='...' if your "
            "plate has another name."
        )
    if inside is not None and (inside.dim != DATA_DIM or inside.size != size):
        raise PairError(
            f"{role} site {name!r} lies in plate {plate!r} of size {inside.size} at dim {inside.dim}, but the "
            f"batch has {size} data, expected at dim {DATA_DIM}. Open pyro.plate({plate!r}, {size}, dim=-1)."
        )
    check_parameters(role, site)
    try:
        value = log_prob(site)
    except (ValueError, RuntimeError, IndexError) as error:
        raise PairError(
            f"{role} site {name!r} cannot score its value of shape {tuple(site['value'].shape)} under "
            f"{describe(site['fn'])}: {error}"
        ) from error
    frames = {f.dim: f.size for f in site["cond_indep_stack"] if f.vectorized}
    expected = tuple(frames.get(dim, 1) for dim in range(min(frames, default=0), 0))
    if tuple(value.shape) != expected:
        raise PairError(
            f"{role} site {name!r} has log-probabilities of shape {tuple(value.shape)}, expected {expected}, one "
            f"for each datum, from {describe(site['fn'])}. Move the other dims into the event with "
            ".to_event()."
        )
    if isinstance(site["fn"], ZeroOutside):
        value = value[value != -torch.inf]
    if not torch.isfinite(value).all():
        raise PairError(
            f"{role} site {name!r} has {int((~torch.isfinite(value)).sum())} non-finite log-probabilities of "
            f"{value.numel()} under {describe(site['fn'])}. Look at the scale of the inputs (nets.Standardized) "
            "and at the initial parameters."
        )
