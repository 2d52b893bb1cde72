"""The KL as the objective weighs it, for what differentiates it by itself: free bits and the
capacity."""

import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from pyrovae.core.traces import log_prob, plate_frame, sample_sites
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

    def size_of(site: dict) -> int:
        inside = plate_frame(site, plate)
        return num_data if inside is None else inside.full_size or inside.size

    def scaled(site: dict, value: Tensor) -> Tensor:
        value = torch.as_tensor(scale_and_mask(value, scale=site["own_scale"], mask=site["mask"]))
        return value.sum() / (count * size_of(site))

    result = {}
    for name, members in groups.items():
        kl = 0.0
        for p, q in traces:
            formula = (
                closed_form_kl(p.nodes[name], q.nodes[name])
                if closed_form and members == [name]
                else None
            )
            if formula is not None:
                kl = kl + scaled(q.nodes[name], formula.expand(log_prob(q.nodes[name]).shape))
                continue
            kl = kl + sum(scaled(q.nodes[member], log_prob(q.nodes[member])) for member in members)
            kl = kl - sum(
                scaled(p.nodes[member], log_prob(p.nodes[member]))
                for member in members
                if member in p.nodes
            )
        sites = [model.nodes[member] for member in members if member in matched]
        weights = [_weight(site, size_of(site), plate) for site in sites]
        result[name] = kl, sum(weights) / len(weights)
    return result


def _weight(site: dict, size: int, plate: str) -> float | Tensor:
    inside, scale = plate_frame(site, plate), site["own_scale"]
    mean = scale.expand(log_prob(site).shape).mean() if isinstance(scale, Tensor) else scale
    return mean if inside is None else mean * (inside.size / size)
