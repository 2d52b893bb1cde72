"""Pyro's ELBO estimators as `ElboLoss` uses them: which ones it accepts, their value, their
traces."""

import copy
from collections.abc import Callable
from typing import Protocol, cast, runtime_checkable

import torch
from pyro.infer import (
    ELBO,
    RenyiELBO,
    Trace_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
    TraceTMC_ELBO,
)
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.core.shapes import MAX_PLATE_NESTING
from pyrovae.core.support_checks import refuse_score_functions
from pyrovae.losses.pathwise import KNOWN, is_pathwise, negative_elbo


@runtime_checkable
class HasDifferentiableLoss(Protocol):
    """An estimator whose loss is a tensor with a graph."""

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: object, **kwargs: object
    ) -> Tensor:
        """The loss in nats, summed over the batch."""


def usable(elbo: ELBO) -> Trace_ELBO:
    """The estimator with its number of plates set; TypeError for one that cannot be scaled per
    datum and step."""
    if isinstance(elbo, type):
        raise TypeError(f"elbo={elbo.__name__} is a class; pass an instance, {elbo.__name__}().")
    name = type(elbo).__name__
    if isinstance(elbo, (RenyiELBO, TraceTailAdaptive_ELBO, TraceTMC_ELBO)):
        raise TypeError(
            f"{name} weights particles by log-weights summed over the batch, so the minibatch scale ends up "
            "inside a logarithm and the result is no bound. "
            "Reduce pyrovae.log_weights(...) over particles for each datum instead."
        )
    if name.startswith("Jit") or not (isinstance(elbo, (HasDifferentiableLoss, TraceGraph_ELBO))):
        raise TypeError(
            f"{name} has no differentiable loss that can be scaled per datum and step; use Trace_ELBO, "
            "TraceMeanField_ELBO, TraceGraph_ELBO or TraceEnum_ELBO."
        )
    if elbo.max_plate_nesting == float("inf"):
        elbo = copy.copy(elbo)
        elbo.max_plate_nesting = MAX_PLATE_NESTING + (vectorized(elbo) > 1)
    return cast(Trace_ELBO, elbo)


def evaluate(
    elbo: Trace_ELBO, model: Callable, guide: Callable, batch: dict[str, Tensor]
) -> Tensor:
    """The loss, with a surrogate's gradient where gradients are on."""
    if type(elbo) in KNOWN:
        pairs, closed_form = (
            list(elbo._get_traces(model, guide, (), batch)),
            isinstance(elbo, TraceMeanField_ELBO),
        )
        if (
            closed_form
            or not torch.is_grad_enabled()
            or all(is_pathwise(guide_trace) for _, guide_trace in pairs)
        ):
            return (
                sum(negative_elbo(*pair, closed_form=closed_form) for pair in pairs)
                / elbo.num_particles
            )
        values, surrogates = zip(*(elbo._differentiable_loss_particle(*pair) for pair in pairs))
        surrogate = sum(surrogates) / elbo.num_particles
        return sum(values) / elbo.num_particles + surrogate - surrogate.detach()
    if not torch.is_grad_enabled():
        return torch.as_tensor(elbo.loss(model, guide, **batch), dtype=torch.get_default_dtype())
    if isinstance(elbo, TraceGraph_ELBO):
        bound, surrogate = elbo._loss_and_surrogate_loss(model, guide, (), batch)
        return surrogate - surrogate.detach() - bound.detach()
    return elbo.differentiable_loss(model, guide, **batch)


def vectorized(elbo: ELBO) -> int:
    """The number of particles in its particle plate, 1 without one."""
    return elbo.num_particles if elbo.vectorize_particles else 1


def pathwise(elbo: ELBO) -> str | None:
    """The name of an estimator that has no score-function gradient, and does not refuse a guide
    that needs one while validation is off."""
    return type(elbo).__name__ if isinstance(elbo, TraceMeanField_ELBO) else None


def with_traces(
    elbo: Trace_ELBO, traces: list[tuple[Trace, Trace]], purpose: str | None
) -> Trace_ELBO:
    """A shallow copy of the estimator that appends its traces to `traces`; for a `purpose` it
    raises TypeError where a draw is not reparameterised."""
    recorder, make_trace = (
        copy.copy(elbo),
        elbo._get_trace,
    )  # not a method of the copy: the cycle would keep traces alive until garbage is collected

    def get_trace(*args: object) -> tuple[Trace, Trace]:
        traces.append(make_trace(*args))
        if purpose:
            refuse_score_functions(traces[-1][1], purpose)
        return traces[-1]

    vars(recorder)["_get_trace"] = get_trace
    return recorder
