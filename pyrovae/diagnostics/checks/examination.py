"""What the checks of a diagnosis share: data, draws of the posterior and of the prior, and their
log-probabilities."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pyro import poutine
from pyro.distributions import Delta
from pyro.poutine import Trace
from torch import Tensor, nn

from pyrovae.core.broadcasting import Particles
from pyrovae.core.handlers import Uncondition
from pyrovae.core.log_weights import log_joint
from pyrovae.core.modules import find_modules
from pyrovae.core.traces import (
    base_distribution,
    is_auxiliary,
    kept_elements,
    plate_frame,
    sample_sites,
    tied_to_rows,
)
from pyrovae.core.types import Batch, Site, nodes_of
from pyrovae.diagnostics.checks.polishing import Gain, polish
from pyrovae.losses.elbo import ElboLoss

USUAL_RATE = 2.5e-3
"""Learning rate of the steps that show whether training has converged."""


class NotApplicable(Exception):
    """A check has nothing to say about this pair; the message is the reason."""


@dataclass
class Examination:
    """One pair on some of its training data. Draws are made when first asked for."""

    model: Callable
    guide: Callable
    batch: dict[str, Tensor]
    num_data: int
    plate: str
    num_draws: int
    num_steps: int
    history: Sequence[Mapping[str, float]] | None = None
    start: Mapping[str, Tensor] | None = None
    stated: int | None = None
    """N as the loss has it; None where the loss has none or is unknown."""
    loss: nn.Module | None = None
    """The objective of training; None where it is unknown, and taken for the ELBO."""
    held_out: dict[str, Tensor] | None = None
    particles: Particles = field(default_factory=Particles)

    @cached_property
    def tied(self) -> bool:
        """Whether the guide has parameters for each row of the batch."""
        return tied_to_rows(self.guide, self.plate)

    def need_trained(self) -> None:
        """Raise NotApplicable for a guide of fixed numbers, such as a Laplace posterior or draws of a
        chain: what holds at an optimum of the ELBO need not hold for it."""
        parts = find_modules(self.guide).values()
        numbers = [p for part in parts for p in part.parameters()]
        if parts and not any(p.requires_grad for p in numbers):
            raise NotApplicable("the guide has no parameters that train")

    @cached_property
    def gain(self) -> Gain:
        """What more steps of a usual size gain; parameters stay."""
        return self.polished(USUAL_RATE)

    def polished(self, lr: float) -> Gain:
        """What steps at the rate `lr` gain; parameters stay."""
        if not self.num_steps:
            raise NotApplicable("num_steps=0")
        loss = self.loss
        if loss is None:
            num_data = self.num_data if self.shared else None
            loss = ElboLoss(self.model, self.guide, num_data=num_data, plate=self.plate)
        return polish(loss, self.batch, lr=lr, num_steps=self.num_steps)

    @property
    def size(self) -> int:
        return len(next(iter(self.batch.values())))

    @cached_property
    def posterior(self) -> Trace:
        """K draws of the guide, `(K, B, *event)`."""
        return self.particles.run_guide(self.guide, self.batch, self.num_draws)

    @cached_property
    def scored(self) -> Trace:
        """The model at those draws, its data observed."""
        return self.particles.run_model(self.model, self.posterior, self.batch, self.num_draws)

    @cached_property
    def replicated(self) -> Trace:
        """The model at those draws, its data drawn afresh."""
        free = Uncondition(self.batch)(self.model)
        return self.particles.run_model(free, self.posterior, self.batch, self.num_draws)

    @cached_property
    def prior(self) -> Trace:
        """K draws of the model: latent values of the prior, and data that it makes of them."""
        free = Uncondition(self.batch)(self.model)
        return self.particles.run_model(free, poutine.Trace(), self.batch, self.num_draws)

    def predicted(self, batch: Batch) -> Trace:
        """The model at the K posterior draws for other data, its own replicates unobserved. For
        programs without latents in the plate, whose guide need not see these data."""
        free = Uncondition(batch)(self.model)
        return self.particles.run_model(free, self.global_draws, batch, self.num_draws)

    @cached_property
    def global_draws(self) -> Trace:
        draws = self.posterior.copy()
        for name in self.local:
            del nodes_of(draws)[name]
        return draws

    @cached_property
    def latent(self) -> dict[str, Site]:
        """Latent sites of the model, with the posterior draws as values."""
        return {
            name: site
            for name, site in sample_sites(self.scored, observed=False).items()
            if not is_auxiliary(site)
        }

    @cached_property
    def local(self) -> dict[str, Site]:
        """Those in the plate: one value a datum."""
        return {n: s for n, s in self.latent.items() if plate_frame(s, self.plate) is not None}

    @cached_property
    def shared(self) -> dict[str, Site]:
        """Those outside it: weights, noise scales."""
        return {n: s for n, s in self.latent.items() if n not in self.local}

    @cached_property
    def is_point(self) -> bool:
        """Whether the guide is a point mass at all latent sites, without draws behind them."""
        sites = sample_sites(self.posterior, observed=False)
        return all(isinstance(base_distribution(site["fn"]), Delta) for site in sites.values())

    @cached_property
    def observed(self) -> dict[str, Site]:
        """Sites of the data."""
        sites = sample_sites(self.scored, observed=True)
        return {n: s for n, s in sites.items() if plate_frame(s, self.plate) is not None}

    @cached_property
    def log_likelihood(self) -> Tensor:
        """log p(x_i | draw k), `(K, B)`, of the sites in the plate."""
        inside = self.scored.copy()
        for name in set(sample_sites(inside, observed=True)) - set(self.observed):
            del nodes_of(inside)[name]
        value = log_joint(inside, self.num_draws, plate=self.plate, observed=True)
        return value.expand(self.num_draws, self.size).double()

    def need_local(self) -> None:
        if not self.local:
            raise NotApplicable("no latent variables of single data")

    def need_shared(self) -> None:
        if not self.shared:
            raise NotApplicable("no weights or other latent variables that data share")

    def need_unmasked(self) -> None:
        """Raise NotApplicable where a mask leaves data out, whose values mean nothing."""
        if not all(kept_elements(site).all() for site in self.observed.values()):
            raise NotApplicable("a mask leaves data out")

    def need_history(self, *columns: str) -> None:
        if self.history is None:
            raise NotApplicable("needs history=, what fit returns")
        missing = [c for c in columns if not all(c in row for row in self.history)]
        if missing:
            raise NotApplicable(f"the history has no column {', '.join(missing)}")


def on_draws(value: Tensor, fn: object, num_draws: int, event_dim: int) -> Tensor:
    """A distribution's parameter as `(K, B or 1, *event)`."""
    lead = value.dim() - event_dim
    for _ in range(2 - lead):
        value = value.unsqueeze(0)
    return value.expand(num_draws, *value.shape[1:])
