"""Scales of the guide that training did not move."""

import math
from collections.abc import Iterator, Mapping

import torch
from pyro.distributions import MultivariateNormal
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal, Normal

from pyrovae.core.traces import base_distribution, plate_frame, run_guide, sample_sites
from pyrovae.core.types import base_of
from pyrovae.diagnostics.checks.examination import Examination, NotApplicable
from pyrovae.diagnostics.diagnosis import Finding, Severity

LEAST_SPREAD = 0.1
"""Standard deviation of log sigma within sites; trained scales have 0.3 to 2."""
LEAST_SCALES = 10
"""Fewer scales say nothing by their spread."""
AT_PRIOR = 0.1
"""A scale whose logarithm is this near to the prior's may have been trained there."""


def scales_at_start(seen: Examination) -> Iterator[Finding]:
    """Scales that all have one value still, or that are where they started."""
    seen.need_shared()
    seen.need_trained()
    scales = guide_scales(seen)
    if not scales:
        raise NotApplicable("the guide has no scales of normals")
    if seen.start is not None:
        yield from _compared(seen.start, scales)
        return
    inside, centres = [], []
    for scale in scales.values():
        logs = scale.double().flatten().log()
        if len(logs) > 1:
            inside.append(logs - logs.mean())
            centres.append(scale.double().median().item())
    together = torch.cat(inside) if inside else torch.zeros(0)
    if len(together) < LEAST_SCALES:
        raise NotApplicable("too few scales to compare; pass start=")
    spread = together.square().mean().sqrt().item()
    if spread < LEAST_SPREAD and not _at_prior(seen, scales):
        yield _finding(
            f"the {len(together)} scales of the guide differ by a factor of {math.exp(spread):.3f} (one standard "
            f"deviation) within their sites, about {min(centres):.3g} to {max(centres):.3g}; trained ones differ "
            "severalfold, as the data determine some weights and not others"
        )


def guide_scales(seen: Examination) -> dict[str, Tensor]:
    """Standard deviations of the normals of the guide outside the plate, by site."""
    result = {}
    for name, site in sample_sites(run_guide(seen.guide, seen.batch), observed=False).items():
        if plate_frame(site, seen.plate) is not None:
            continue
        fn = base_distribution(site["fn"])
        while not isinstance(fn, NORMALS) and (base := base_of(fn)) is not None:
            fn = base
        if isinstance(fn, NORMALS):
            result[name] = fn.stddev.detach()
        elif isinstance(scale := _scale_of(fn), Tensor):
            result[name] = scale.detach()
    return result


NORMALS = (Normal, MultivariateNormal, LowRankMultivariateNormal)


def _scale_of(fn: object) -> object:
    """What a radial or another distribution has as its scale; None for others."""
    return getattr(fn, "scale", None)


def _at_prior(seen: Examination, scales: Mapping[str, Tensor]) -> bool:
    """Whether the scales are those of the prior: another finding says so."""
    ratios = []
    for name, scale in scales.items():
        if name in seen.shared:
            try:
                prior = seen.shared[name]["fn"].stddev.double()
            except (AttributeError, NotImplementedError):
                continue
            prior = prior.reshape(-1, *prior.shape[prior.dim() - scale.dim() :]).mean(0)
            ratios.append((scale.double() / prior).log().flatten())
    return bool(ratios) and torch.cat(ratios).abs().median().item() < AT_PRIOR


def _compared(start: Mapping[str, Tensor], scales: Mapping[str, Tensor]) -> Iterator[Finding]:
    known = {name: scale for name, scale in scales.items() if name in start}
    if not known:
        raise NotApplicable(f"start= names none of the scales {sorted(scales)}")
    moves = torch.cat(
        [
            (scale.double().flatten() / start[name].double().flatten().to(scale.device))
            .log()
            .abs()
            for name, scale in known.items()
        ]
    )
    if moves.median().item() < LEAST_SPREAD / 2:
        yield _finding(
            f"half of the {len(moves)} scales of the guide are within {moves.median().exp() - 1:.1%} of their start"
        )


def _finding(evidence: str) -> Finding:
    return Finding(
        "scales at their start",
        Severity.WARNING,
        evidence,
        "train longer, or with a larger learning rate for the scales; check that the optimiser has them and that "
        "they require gradients; start them nearer to the posterior's (init_scale)",
    )
