"""The terms of a loss, reconstruction and KL per site, unweighted, on the scale of the
evidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from pyro.distributions import Delta
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.core.traces import base_distribution, log_prob, plate_frame, sample_sites
from pyrovae.core.types import Site, nodes_of, sum_of

DRAWS = 50
"""Draws of z in each of the two averages that estimate a posterior mean without a formula."""

Traces = Sequence[tuple[Trace, Trace]]
"""(model, guide) traces of one evaluation, one pair a particle or a single vectorised one."""


@dataclass(frozen=True)
class Terms:
    """The parts of one ELBO at beta = 1, in nats per datum: `elbo = reconstruction -
    sum(kl.values())`."""

    log_px: dict[str, Tensor]
    """E_q log p(x | z) of each observed site."""
    kl: dict[str, Tensor]
    """E_q [log q(z) - log p(z)] of each latent site, by Monte Carlo on the loss's own draws; one
    entry "a+b" for all sites of a guide whose density does not split over them (autoguides)."""
    means: dict[str, tuple[Tensor, Tensor]]
    """Two estimates of E_q[z | x], `(B, *event)`, of each latent site in the data plate that has
    one."""

    @property
    def reconstruction(self) -> Tensor:
        return sum_of(self.log_px.values())

    @property
    def elbo(self) -> Tensor:
        return self.reconstruction - sum_of(self.kl.values())

    def detach(self) -> "Terms":
        return Terms(
            {name: value.detach() for name, value in self.log_px.items()},
            {name: value.detach() for name, value in self.kl.items()},
            {
                name: (first.detach(), second.detach())
                for name, (first, second) in self.means.items()
            },
        )


def read_terms(
    traces: Traces, plate: str, num_data: int | None, num_particles: int
) -> Terms | None:
    """The terms of traces run with `num_particles` particles each; None where sites are enumerated
    in parallel."""
    model, guide = traces[0]
    latent = sample_sites(guide, observed=False)
    if any(
        site["infer"].get("_enumerate_dim") is not None
        for trace in (model, guide)
        for site in sample_sites(trace, observed=False).values()
    ):
        return None

    def size_of(site: Site) -> int:
        inside = plate_frame(site, plate)
        # sites outside the plate were refused where N is unknown
        return cast(int, num_data) if inside is None else inside.size

    def mean(*sides: tuple[int, str, float]) -> Tensor:
        """Signed sum of sites (0 model or 1 guide, name, sign), averaged over draws, in nats per
        datum."""
        sites = (
            (nodes_of(pair[side])[name], sign) for pair in traces for side, name, sign in sides
        )
        total = sum_of(sign * log_prob(site).sum() / size_of(site) for site, sign in sites)
        return total / (len(traces) * num_particles)

    matched = [name for name in latent if name in model.nodes]
    if len(matched) == len(latent):
        kl = {name: mean((1, name, 1.0), (0, name, -1.0)) for name in latent}
    else:  # an autoguide's auxiliary draws belong to all sites together
        kl = {
            "+".join(matched): mean(
                *((1, name, 1.0) for name in latent), *((0, name, -1.0) for name in matched)
            )
        }
    return Terms(
        log_px={name: mean((0, name, 1.0)) for name in sample_sites(model, observed=True)},
        kl=kl,
        means={
            name: means
            for name in matched
            if plate_frame(latent[name], plate) is not None
            and (means := posterior_means(latent[name])) is not None
        },
    )


def posterior_means(site: Site) -> tuple[Tensor, Tensor] | None:
    """E_q[z | x] twice, `(B, *event)`: exact where the distribution knows its mean, else two
    averages of fresh draws.

    Draws are made only where gradients are off; None where they are on, and for a `Delta`, whose
    value an autoguide computed from an auxiliary draw and which is not the mean.
    """
    fn = site["fn"]
    if isinstance(base_distribution(fn), Delta):
        return None
    try:
        first = second = fn.mean
    except (AttributeError, NotImplementedError):
        if torch.is_grad_enabled():
            return None
        first, second = (torch.stack([fn() for _ in range(DRAWS)]).mean(0) for _ in range(2))
    extra = first.dim() - len(fn.event_shape) - 1

    def over_draws(mean: Tensor) -> Tensor:
        return mean.mean(tuple(range(extra))) if extra > 0 else mean

    return over_draws(first), over_draws(second)
