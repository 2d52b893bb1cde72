"""What `fit` accepts as an optimiser: one of torch's, a function that builds one, or one of
Pyro's."""

from collections.abc import Callable
from typing import cast

import torch
from pyro.infer import ELBO
from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor, nn

from pyrovae.core.errors import PairError

OptimizerSource = Callable[[list[Tensor]], torch.optim.Optimizer] | PyroOptim


def build_optimizer(
    optimizer: OptimizerSource,
    parameters: list[Tensor],
) -> torch.optim.Optimizer:
    """One torch optimiser over all parameters.

    A `pyro.optim` optimiser, which makes a torch one for each parameter, becomes one for all:
    torch's update rules treat each tensor by itself, so both take the same steps.

    Raises: PairError for a Pyro optimiser whose arguments depend on the parameter, that clips,
    schedules or holds state, and for what builds no torch optimiser.

    Example:
        >>> import pyro.optim
        >>> build_optimizer(pyro.optim.SGD({"lr": 0.5}), [nn.Parameter(torch.zeros(2))]).param_groups[0]["lr"]
        0.5
    """
    if isinstance(optimizer, PyroOptim):
        return _unwrap(optimizer)(parameters)
    built = optimizer(parameters) if callable(optimizer) else optimizer
    if not isinstance(built, torch.optim.Optimizer):
        came = (
            f"optimizer={optimizer!r} returned {type(built).__name__}"
            if callable(optimizer)
            else (f"optimizer is {type(optimizer).__name__}")
        )
        raise PairError(
            f"{came}, expected a torch.optim.Optimizer or a function from parameters to one, e.g. "
            "optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3)."
        )
    return built


def _unwrap(optimizer: PyroOptim) -> Callable[[list[Tensor]], torch.optim.Optimizer]:
    constructor = cast("type[torch.optim.Optimizer]", optimizer.pt_optim_constructor)
    args = optimizer.pt_optim_args
    name = constructor.__name__
    path = (
        f"torch.optim.{name}" if name in vars(torch.optim) else f"{constructor.__module__}.{name}"
    )
    if isinstance(optimizer, PyroLRScheduler):
        schedule = optimizer.pt_scheduler_constructor.__name__
        raise PairError(
            f"the optimizer is Pyro's {schedule}, a schedule for each parameter; fit takes optimiser and "
            f"schedule apart: optimizer=lambda parameters: {path}(parameters{_options(args)}), schedule=lambda "
            f"optimizer: torch.optim.lr_scheduler.{schedule}(optimizer{_options(optimizer.kwargs)}), stepped "
            "once an epoch."
        )
    if type(optimizer) is not PyroOptim:
        raise PairError(
            f"the optimizer is a {type(optimizer).__name__}, which fit cannot rebuild for all parameters at "
            f"once; pass optimizer=lambda parameters: {path}(parameters, ...)."
        )
    if callable(args):
        raise PairError(
            f"the arguments of Pyro's {name} are a function of the parameter, but fit has one optimiser for "
            f"all: pass optimizer=lambda parameters: {path}([{{'params': [p], 'lr': ...}} for p in "
            "parameters]), with the arguments of each."
        )
    if optimizer.pt_clip_args:
        raise PairError(
            f"Pyro's {name} clips the gradient of each parameter by {optimizer.pt_clip_args}, but fit clips the "
            f"norm of all: pass optimizer=lambda parameters: {path}(parameters{_options(args)}) and "
            "fit(..., clip_norm=...)."
        )
    if optimizer.optim_objs or optimizer._state_waiting_to_be_consumed:
        raise PairError(
            f"this {name} of Pyro's has taken steps before, and fit would begin without what it remembers. "
            f"Pass a new one, pyro.optim.{name}({args})."
        )
    return lambda parameters: constructor(parameters, **args)


def _options(args: object) -> str:
    pairs = args.items() if isinstance(args, dict) else ()
    return "".join(
        f", {name}={value!r}"
        for name, value in pairs
        if isinstance(value, (int, float, str, tuple, list))
    )


def check_loss(loss: object) -> None:
    """Raise TypeError for what is not a loss on a pair: a Pyro estimator alone, or a function."""
    if isinstance(loss, nn.Module):
        return
    if isinstance(loss, ELBO) or isinstance(loss, type) and issubclass(loss, ELBO):
        name = loss.__name__ if isinstance(loss, type) else type(loss).__name__
        raise TypeError(
            f"the loss is {name}, an estimator without a model and a guide. Pass pyrovae.ElboLoss(model, guide, "
            f"elbo={name}(...)) for nats per datum, or {name}(...)(model, guide) for the sum over a batch as "
            "Pyro scales it (pyrovae.losses.PyroLoss where it has no differentiable loss)."
        )
    raise TypeError(
        f"the loss is {type(loss).__name__}, expected a module that maps **batch to a scalar, e.g. "
        "pyrovae.ElboLoss(model, guide)."
    )
