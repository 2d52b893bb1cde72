"""Run a (model, guide) pair once and read its log-probabilities; nothing here knows what the pair
is made of."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeGuard, cast

import pyro
import torch
from pyro import poutine
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
from pyrovae.core.types import Batch, LocalGuide, PlateFrame, Site, nodes_of


def run_pair(
    model: Callable, guide: Callable, batch: Batch, num_particles: int | None = None
) -> tuple[Trace, Trace]:
    """Traces of the model (replaying the guide's draws) and of the guide; `num_particles` opens
    the particle plate."""
    guide_trace = run_guide(guide, batch, num_particles)
    return run_model(model, guide_trace, batch, num_particles), guide_trace


def run_guide(guide: Callable, batch: Batch, num_particles: int | None = None) -> Trace:
    """Trace of the guide; one that refines itself does so before the particle plate opens, which
    it needs for itself."""
    guide = for_batch(guide, batch)
    set_up(guide, batch)
    _localize(guide)
    with local_param_scope(), _particles(num_particles):
        return prune_subsample_sites(poutine.trace(guide).get_trace(**batch))


def replay_guide(
    guide: Callable, draws: Trace, batch: Batch, num_particles: int | None = None
) -> Trace:
    """Trace of the guide scoring draws that were made before."""
    with local_param_scope(), _particles(num_particles):
        return prune_subsample_sites(
            poutine.trace(poutine.replay(guide, trace=draws)).get_trace(**batch)
        )


def run_model(
    model: Callable, guide_trace: Trace, batch: Batch, num_particles: int | None = None
) -> Trace:
    """`guide_trace` must hold no plate indices (`run_guide` drops them): replayed, they would
    resize the model."""
    _localize(model)
    with local_param_scope(), _particles(num_particles):
        return prune_subsample_sites(
            poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(**batch)
        )


def for_batch(guide: Callable, batch: Batch) -> Callable:
    """The guide itself, or what a guide with a method `for_batch` returns: one that was refined on
    these data."""
    return guide.for_batch(batch) if is_local(guide) else guide


def is_local(guide: Callable | None) -> TypeGuard[LocalGuide]:
    """Whether a guide makes another one of itself for each batch."""
    return hasattr(guide, "for_batch")


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
    """Whether a guide that was set up holds parameters for each row of a batch, as autoguides of
    local latents do."""
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
    them. The model's `pyro.param` statements run inside that call too: what they leave in the
    guide's own store is dropped again, since the model by itself reads its parameters elsewhere.
    """
    if any(autoguide.prototype_trace is None for autoguide in _autoguides(guide)):
        _localize(guide)
        states = [autoguide._pyro_context.param_state for autoguide in _autoguides(guide)]
        known = [set(state["params"]) for state in states]
        with (
            local_param_scope(),
            poutine.block(),
            pyro.validation_enabled(False),
        ):  # which refuses such statements
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
    """The observed, or the latent, sample sites of a trace by name; `pyro.deterministic` notes are
    neither."""
    return {
        name: site
        for name, site in nodes_of(trace).items()
        if site["type"] == "sample"
        and site["is_observed"] == observed
        and not site["infer"].get("_deterministic")
    }


def log_prob(site: Site) -> Tensor:
    """The site's log-density in nats as the author wrote it: masked, but without any scaling for
    training."""
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
    """The family under `.to_event`, `.mask` and plates."""
    while hasattr(fn, "base_dist") and not isinstance(fn, TransformedDistribution):
        fn = fn.base_dist
    return fn


def plate_frame(site: Site, plate: str) -> PlateFrame | None:
    """The plate's frame if the site lies inside it, else None."""
    return next(
        (plate_frame for plate_frame in site["cond_indep_stack"] if plate_frame.name == plate),
        None,
    )


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
        >>> from pyrovae import Guide, Model, Node
        >>> from pyrovae.heads import BernoulliHead, NormalHead
        >>> from pyrovae.nets import MLP
        >>> from pyrovae.priors import StandardNormal
        >>> model = Model(z=StandardNormal(2), x=Node(BernoulliHead(MLP(2, [8], 4)), "z"))
        >>> guide = Guide(z=Node(NormalHead(MLP(4, [8], 2 * 2)), "x"))
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
    """Raise PairError where a latent site has no partner, so that its log-probability would stand
    unweighed.

    Auxiliary sites of the guide (those an autoguide draws before it transforms them) need none.
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


def is_subsample(site: Site) -> bool:
    """Whether a site is the statement of a plate's row indices."""
    return site_is_subsample(cast("Message", site))


def is_auxiliary(site: Site) -> bool:
    return bool(site["infer"].get("is_auxiliary"))


def log_joint(
    trace: Trace, num_particles: int, *, plate: str | None = DATA, observed: bool | None = None
) -> Tensor:
    """Sum of the log-probabilities of all sites of a trace, `(K, B)`, or `(K,)` for `plate=None`.

    Of the observed ones alone for `observed=True`, of the latent ones alone for False.
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
