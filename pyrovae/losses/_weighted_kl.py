"""The KL with the weights of the objective, for losses that differentiate it separately: free bits
and the capacity."""

from typing import cast

import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from pyrovae.core.traces import log_prob, plate_frame, sample_sites
from pyrovae.core.types import Site, nodes_of, sum_of
from pyrovae.losses.elbo_terms import Traces
from pyrovae.losses.pathwise import closed_form_kl

WeightedKl = dict[str, tuple[Tensor, float | Tensor]]
"""By site the KL in nats per datum and the average weight of a datum in it."""


def weighted_kl(
    traces: Traces, plate: str, num_data: int | None, num_particles: int, *, closed_form: bool
) -> WeightedKl:
    """The KL of each latent site under the scales that the programs give it, at beta = 1.

    By formula for `closed_form` where there is one, else by Monte Carlo on the traces' own draws.
    Draws of an autoguide that do not split over its sites are one entry, "a+b".
    """
    model, guide = traces[0]
    latent = list(sample_sites(guide, observed=False))
    matched = [name for name in latent if name in model.nodes]
    groups = (
        {name: [name] for name in latent}
        if len(matched) == len(latent)
        else {"+".join(matched): latent}
    )
    count = len(traces) * num_particles

    def size_of(site: Site) -> int:
        inside = plate_frame(site, plate)
        # sites outside the plate were refused where N is unknown
        return cast(int, num_data) if inside is None else inside.full_size or inside.size

    def scaled(site: Site, value: Tensor) -> Tensor:
        value = torch.as_tensor(scale_and_mask(value, scale=site["own_scale"], mask=site["mask"]))
        return value.sum() / (count * size_of(site))

    result: WeightedKl = {}
    for name, members in groups.items():
        kl: Tensor | float = 0.0
        for p, q in ((nodes_of(model), nodes_of(guide)) for model, guide in traces):
            formula = (
                closed_form_kl(p[name], q[name]) if closed_form and members == [name] else None
            )
            if formula is not None:
                kl = kl + scaled(q[name], formula.expand(log_prob(q[name]).shape))
                continue
            kl = kl + sum_of(scaled(q[member], log_prob(q[member])) for member in members)
            kl = kl - sum_of(
                scaled(p[member], log_prob(p[member])) for member in members if member in p
            )
        sites = [nodes_of(model)[member] for member in members if member in matched]
        weights = [_weight(site, size_of(site), plate) for site in sites]
        result[name] = cast(Tensor, kl), sum(weights) / len(weights)
    return result


def _weight(site: Site, size: int, plate: str) -> float | Tensor:
    inside, scale = plate_frame(site, plate), site["own_scale"]
    mean = scale.expand(log_prob(site).shape).mean() if isinstance(scale, Tensor) else scale
    return mean if inside is None else mean * (inside.size / size)
