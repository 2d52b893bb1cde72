"""Run a (model, guide) pair once and read its sites, whatever programs it consists of."""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeGuard, cast

import pyro
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.infer.autoguide import AutoGuide
from pyro.poutine import Trace
from pyro.poutine.runtime import Message
from pyro.poutine.util import prune_subsample_sites, site_is_subsample
from torch import Tensor
from torch.distributions import Distribution, TransformedDistribution

from pyrovae.core.errors import PairError
from pyrovae.core.modules import find_modules
from pyrovae.core.param_store import local_param_scope, localize
from pyrovae.core.shapes import DATA, PARTICLES, PARTICLES_DIM
from pyrovae.core.types import Batch, LocalGuide, PlateFrame, Site, base_of, nodes_of


def run_pair(
    model: Callable, guide: Callable, batch: Batch, num_particles: int | None = None
) -> tuple[Trace, Trace]:
    """Traces of the model (replaying the guide's draws) and of the guide; `num_particles` opens
    the particle plate."""
    guide_trace = run_guide(guide, batch, num_particles)
    return run_model(model, guide_trace, batch, num_particles), guide_trace


def run_guide(guide: Callable, batch: Batch, num_particles: int | None = None) -> Trace:
    """Trace of the guide. A guide with `for_batch` is refined before the particle plate opens,
    since it opens one of its own."""
    guide = for_batch(guide, batch)
    set_up(guide, batch)
    _localize(guide)
    with local_param_scope(), _particles(num_particles):
        return prune_subsample_sites(poutine.trace(guide).get_trace(**batch))


def replay_guide(
    guide: Callable, draws: Trace, batch: Batch, num_particles: int | None = None
) -> Trace:
    """Trace of the guide that replays earlier draws, to score them."""
    with local_param_scope(), _particles(num_particles):
        return prune_subsample_sites(
            poutine.trace(poutine.replay(guide, trace=draws)).get_trace(**batch)
        )


def run_model(
    model: Callable, guide_trace: Trace, batch: Batch, num_particles: int | None = None
) -> Trace:
    """Trace of the model that replays the guide's draws.

    `guide_trace` must not hold the index sites of plates (`run_guide` removes them): replayed,
    they would change the sizes of the model's plates.
    """
    _localize(model)
    with local_param_scope(), _particles(num_particles):
        return prune_subsample_sites(
            poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(**batch)
        )


def no_latents(**batch: Tensor) -> dict[str, Tensor]:
    """The guide of a model without latents, or whose latents are all summed out."""
    return {}


def for_batch(guide: Callable, batch: Batch) -> Callable:
    """The guide for these data: `guide.for_batch(batch)` where it has that method, else the guide
    itself."""
    return guide.for_batch(batch) if is_local(guide) else guide


def is_local(guide: Callable | None) -> TypeGuard[LocalGuide]:
    """Whether a guide has a method `for_batch`, which returns a guide refined for one batch."""
    return isinstance(guide, LocalGuide)


@contextmanager
def _particles(num_particles: int | None) -> Iterator[None]:
    with ExitStack() as stack:
        if num_particles is not None:
            stack.enter_context(pyro.plate(PARTICLES, num_particles, dim=PARTICLES_DIM))
        try:
            yield
        except ValueError as error:
            first = str(error).partition("\n")[
                0
            ]  # at plates "theirs" and "particles", collide at dim=-2
            if "collide" not in first or f'"{PARTICLES}"' not in first:
                raise
            name = first.split('"')[1]
            raise PairError(
                f"plate {name!r} lies at dim {PARTICLES_DIM}, where the K particles go: shapes are "
                f"(K, B, *event). The pair trains as it is; here, move the dim of {name!r} into the event, "
                "with .to_event(1) in place of the plate."
            ) from error


def _localize(program: Callable) -> None:
    for module in find_modules(program).values():
        localize(module)


def tied_to_rows(guide: Callable, plate: str = DATA) -> bool:
    """Whether a guide that was set up has parameters for each row of a batch, as autoguides with
    latent sites in the data plate do."""
    return any(
        plate_frame(site, plate) is not None
        for autoguide in _autoguides(guide)
        if autoguide.prototype_trace is not None
        for site in autoguide.prototype_trace.nodes.values()
        if site.get("type") == "sample" and not site["is_observed"]
    )  # AutoStructured leaves nodes without a type


def set_up(guide: Callable, batch: Batch) -> None:
    """Call a guide once if it holds autoguides that were never called.

    They record the plates open at their first call, and the particle plate must not be one of
    them. That call also runs the model's `pyro.param` statements; the parameters that these add to
    the guide's own store are removed again, since the model reads its parameters from another one.
    """
    if any(autoguide.prototype_trace is None for autoguide in _autoguides(guide)):
        _localize(guide)
        states = [autoguide._pyro_context.param_state for autoguide in _autoguides(guide)]
        known = [set(state["params"]) for state in states]
        with (
            local_param_scope(),
            poutine.block(),
            pyro.validation_enabled(False),
        ):  # validation would refuse those statements
            guide(**batch)
        for autoguide, names in zip(_autoguides(guide), known):
            state = autoguide._pyro_context.param_state
            for name in set(state["params"]) - names:
                del state["params"][name], state["constraints"][name]


def _autoguides(guide: Callable) -> list[AutoGuide]:
    return [
        part
        for module in find_modules(guide).values()
        for part in module.modules()
        if isinstance(part, AutoGuide)
    ]


def sample_sites(trace: Trace, *, observed: bool) -> dict[str, Site]:
    """The observed, or the latent, sample sites of a trace by name, without those of
    `pyro.deterministic`."""
    return {
        name: site
        for name, site in nodes_of(trace).items()
        if site["type"] == "sample"
        and site["is_observed"] == observed
        and not site["infer"].get("_deterministic")
    }


def log_prob(site: Site) -> Tensor:
    """The site's log-density in nats, masked, without scales (`poutine.scale`, subsampling)."""
    if "unscaled_log_prob" not in site:
        site["unscaled_log_prob"] = site["fn"].log_prob(
            site["value"], *site["args"], **site["kwargs"]
        )
    value, mask = site["unscaled_log_prob"], site["mask"]
    return (
        value
        if mask is None or mask is True
        else torch.where(torch.as_tensor(mask), value, torch.zeros_like(value))
    )


def base_distribution(fn: Distribution) -> Distribution:
    """The distribution inside `.to_event`, `.mask` and the expansion by plates."""
    while not isinstance(fn, TransformedDistribution) and (base := base_of(fn)) is not None:
        fn = base
    return fn


def is_missing(name: str, sites: Collection[str]) -> bool:
    """Whether a site is the one that Pyro adds for the missing values of `pyro.sample(..., obs_mask=)`."""
    target = name.removesuffix("_unobserved")
    return target != name and f"{target}_observed" in sites


def kept_elements(site: Site) -> Tensor:
    """Which elements of the value no mask leaves out, in its shape."""
    fn, mask = site["fn"], site["mask"]
    kept = torch.ones_like(site["value"], dtype=torch.bool)
    while True:
        if mask is not None:
            mask = torch.as_tensor(mask)
            kept = kept & mask.reshape(mask.shape + (1,) * len(fn.event_shape))
        if (inner := base_of(fn)) is None:
            return kept
        mask = fn._mask if isinstance(fn, MaskedDistribution) else None
        fn = inner


def plate_frame(site: Site, plate: str) -> PlateFrame | None:
    """The plate's frame if the site lies inside it, else None."""
    return next(
        (plate_frame for plate_frame in site["cond_indep_stack"] if plate_frame.name == plate),
        None,
    )


def is_subsample(site: Site) -> bool:
    """Whether a site is the statement of a plate's row indices."""
    return site_is_subsample(cast("Message", site))


def is_auxiliary(site: Site) -> bool:
    return bool(site["infer"].get("is_auxiliary"))
