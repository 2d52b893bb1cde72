"""The densities of a program at latent values from elsewhere."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyrovae.core.check import ANY_NUMBER, check
from pyrovae.core.errors import PairError
from pyrovae.core.log_weights import log_joint
from pyrovae.core.support_checks import describe, masks_of, support_of
from pyrovae.core.traces import (
    Batch,
    base_distribution,
    is_auxiliary,
    is_subsample,
    plate_frame,
    replay_guide,
    run_model,
    sample_sites,
)
from pyrovae.core.types import Site

Values = Mapping[str, Tensor]
"""Latent values by site, `(K, B, *event)` each."""


@dataclass(frozen=True)
class Layout:
    """The slice of each latent site in one vector per datum: `(K, B, D)` against `(K, B,
    *event)` for each site."""

    shapes: dict[str, torch.Size]

    @classmethod
    def of(cls, trace: Trace) -> "Layout":
        """From a trace under particles."""
        return cls(
            {
                name: site["value"].shape[2:]
                for name, site in sample_sites(trace, observed=False).items()
            }
        )

    @property
    def size(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes.values())

    def pack(self, values: Values) -> Tensor:
        return torch.cat(
            [
                values[name].flatten(2) if shape else values[name].unsqueeze(-1)
                for name, shape in self.shapes.items()
            ],
            dim=-1,
        )

    def unpack(self, vector: Tensor) -> Values:
        parts = vector.split([math.prod(shape) for shape in self.shapes.values()], dim=-1)
        return {
            name: part.reshape(*vector.shape[:-1], *shape)
            for part, (name, shape) in zip(parts, self.shapes.items())
        }


def values_of(trace: Trace) -> dict[str, Tensor]:
    return {name: site["value"] for name, site in sample_sites(trace, observed=False).items()}


def score_model(
    model: Callable, values: Values, batch: Batch, plate: str
) -> tuple[Tensor, Tensor]:
    """log p(z) and log p(x | z), `(K, B)` each."""
    num = len(next(iter(values.values())))
    trace = run_model(model, as_trace(values), batch, num)
    prior, likelihood = (
        log_joint(trace, num, plate=plate, observed=observed) for observed in (False, True)
    )
    return prior, likelihood.expand_as(prior)


def score_guide(guide: Callable, values: Values, batch: Batch, plate: str) -> Tensor:
    """log q(z | x), `(K, B)`."""
    num = len(next(iter(values.values())))
    return log_joint(replay_guide(guide, as_trace(values), batch, num), num, plate=plate)


def as_trace(values: Values) -> Trace:
    trace = Trace()
    for name, value in values.items():
        trace.add_node(name, name=name, type="sample", value=value, is_observed=False, infer={})
    return trace


class FromPrior:
    """The model as a guide: it draws the latent sites from p(z), whatever the data."""

    def __init__(self, model: Callable) -> None:
        self.model = model

    def __call__(self, **batch: Tensor) -> object:
        with poutine.block(hide_fn=lambda site: site["type"] == "sample" and site["is_observed"]):
            return self.model(**batch)


Fault = tuple[str, str]
"""What is wrong with a site, in words that continue "latent site 'z' ...", and what to do about
it."""
OTHERWISE = "Use log_evidence with a guide, which asks only for draws and their densities"


class SiteRequirement(Messenger):
    """Raise PairError for a latent site with a fault.

    `purpose` says which computation needs it, e.g. "annealed importance sampling moves real-valued
    latents of each datum".
    """

    def __init__(self, purpose: str, *faults: Callable[[Site], Fault | None]) -> None:
        super().__init__()
        self.purpose, self.faults = purpose, faults

    def _pyro_sample(self, site: Site) -> None:
        hidden = site["infer"].get("_deterministic") or site["infer"].get("_do_not_trace")
        if site["is_observed"] or hidden or is_subsample(site):
            return
        for fault in self.faults:
            if (found := fault(site)) is not None:
                raise PairError(
                    f"latent site {site['name']!r} {found[0]}, but {self.purpose}. {found[1]}."
                )

    def check(self, run: Callable[[Callable], object], program: Callable) -> None:
        """Call `run` on the program under this handler."""
        try:
            run(self(program))
        except PairError as error:  # Pyro appends a table of shapes to what a handler raises
            raise PairError(str(error).partition("\nTrace Shapes")[0]) from error


def outside(plate: str) -> Callable[[Site], Fault | None]:
    return lambda site: (
        None
        if plate_frame(site, plate) is not None
        else (
            f"lies outside plate {plate!r}",
            "Pass plate='...' if your plate has another name; a site that all data share "
            "leaves no log p(x) of one datum",
        )
    )


def without_density(site: Site) -> Fault | None:
    base = base_distribution(site["fn"])
    if isinstance(base, dist.Delta) or is_auxiliary(site):
        return (
            "is a Delta or auxiliary, with no density at other values than those it drew",
            OTHERWISE,
        )
    if isinstance(base, dist.ImproperUniform):
        return "has a flat prior, which has no draws", "Use a proper prior, e.g. StandardNormal"
    return None


def not_real(site: Site) -> Fault | None:
    if any(not torch.as_tensor(mask).all() for mask in masks_of(site)):
        return "is masked", OTHERWISE
    support = support_of(site["fn"])
    if support is None or support is constraints.real:
        return None
    return (
        f"is {'discrete' if support.is_discrete else f'bounded ({support})'}: {describe(site['fn'])}",
        OTHERWISE,
    )


def check_latents(
    model: Callable, guide: Callable, batch: Batch, plate: str, demand: SiteRequirement
) -> None:
    """`check`, and PairError for the first of the guide's latent sites that does not meet
    `demand`."""
    demand.check(lambda guide: check(model, guide, batch, num_data=ANY_NUMBER, plate=plate), guide)
