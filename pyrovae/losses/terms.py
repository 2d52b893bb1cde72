"""What a loss was made of: reconstruction and KL per site, on the unweighted scale of the evidence."""
from collections.abc import Sequence
from dataclasses import dataclass

from pyro.poutine import Trace
from torch import Tensor

from pyrovae.plates import PARTICLES_DIM
from pyrovae.traces import frame, log_prob, sample_sites

Traces = Sequence[tuple[Trace, Trace]]
"""(model, guide) traces of one evaluation, one pair a particle or a single vectorised one."""


@dataclass(frozen=True)
class Terms:
    """The parts of one ELBO at beta = 1, in nats per datum: `elbo = reconstruction - sum(kl.values())`."""

    log_px: dict[str, Tensor]
    """E_q log p(x | z) of each observed site."""
    kl: dict[str, Tensor]
    """E_q [log q(z) - log p(z)] of each latent site, by Monte Carlo on the loss's own draws."""
    means: dict[str, Tensor]
    """E_q[z | x] of each latent site in the data plate, `(B, *event)`."""

    @property
    def reconstruction(self) -> Tensor:
        return sum(self.log_px.values())

    @property
    def elbo(self) -> Tensor:
        return self.reconstruction - sum(self.kl.values())

    def detach(self) -> "Terms":
        return Terms(*({name: value.detach() for name, value in part.items()}
                       for part in (self.log_px, self.kl, self.means)))


def read_terms(traces: Traces, plate: str, num_data: int | None, num_particles: int) -> Terms | None:
    """The terms of traces run with `num_particles` particles each; None where sites are enumerated in parallel."""
    model, guide = traces[0]
    latent = sample_sites(guide, observed=False)
    if any(site["infer"].get("_enumerate_dim") is not None
           for trace in (model, guide) for site in sample_sites(trace, observed=False).values()):
        return None

    def mean(name: str, of_guide: bool) -> Tensor:
        total = 0.0
        for model_trace, guide_trace in traces:
            site = model_trace.nodes[name]
            value = log_prob(guide_trace.nodes[name]) - log_prob(site) if of_guide else log_prob(site)
            inside = frame(site, plate)
            total = total + value.sum() / (inside.size if inside is not None else num_data)
        return total / (len(traces) * num_particles)

    return Terms(log_px={name: mean(name, False) for name in sample_sites(model, observed=True)},
                 kl={name: mean(name, True) for name in latent if name in model.nodes},
                 means={name: posterior_mean(site) for name, site in latent.items() if frame(site, plate) is not None})


def posterior_mean(site: dict) -> Tensor:
    """E_q[z | x], `(B, *event)`: the distribution's own mean where it knows it, else the average of the draws."""
    try:
        mean = site["fn"].mean
    except (AttributeError, NotImplementedError):
        mean = site["value"]
    event_dim = len(site["fn"].event_shape)
    extra = mean.dim() - event_dim + PARTICLES_DIM + 1
    return mean.mean(tuple(range(extra))) if extra > 0 else mean
