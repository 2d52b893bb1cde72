"""The training loop and nothing else: it knows no model, no data set and no file."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import get_args

import pyro
import torch
import torch.nn as nn
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pyrovae.capture.auto import Compile
from pyrovae.core.batching import (
    Data,
    Like,
    batches,
    check_num_data,
    exemplar_of,
    generators_of,
    is_shuffled,
)
from pyrovae.core.check import num_data_of
from pyrovae.core.errors import NonFiniteLossError, PairError
from pyrovae.core.param_store import local_param_scope
from pyrovae.core.parameters import find_parameters
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.subnormals import flush_subnormals
from pyrovae.core.traces import tied_to_rows
from pyrovae.losses.base import beta_of, guide_of, plate_of, terms_of, unwrap
from pyrovae.training.captured_stepper import CapturedSteps
from pyrovae.training.checkpoint import load_run, tensors_of
from pyrovae.training.collapse import warn_if_collapsed
from pyrovae.training.eager_step import Steps
from pyrovae.training.evaluate import Averages, Evaluation, check_batch_of, size_in
from pyrovae.training.history import History
from pyrovae.training.hooks import Begins, Finishes
from pyrovae.training.optimizers import OptimizerSource, build_optimizer, check_loss
from pyrovae.training.processes import Fabric, LedProcesses, SingleProcess
from pyrovae.training.run import Run

WORTH_COMPILING = 240.0
"""Seconds of training ahead from which "auto" compiles."""


@flush_subnormals()
def fit(
    loss: nn.Module,
    data: Data,
    *,
    epochs: int,
    valid: Data | None = None,
    names: Sequence[str] | None = None,
    lr: float = 1e-3,
    optimizer: OptimizerSource | torch.optim.Optimizer | None = None,
    schedule: Callable[[torch.optim.Optimizer], LRScheduler] | None = None,
    clip_norm: float | None = None,
    hooks: Sequence[Callable[[Run], object]] = (),
    context: Callable[[], AbstractContextManager] = nullcontext,
    compile: Compile = "auto",
    resume: str | Path | None = None,
    fabric: Fabric | None = None,
) -> History:
    r"""Minimise `loss(**batch)` over `epochs` passes through `data`; return one row of numbers an
    epoch.

    loss: any module called with `**batch` that returns a scalar: `ElboLoss`, or
        `pyro.infer.Trace_ELBO()(model, guide)`.
    data: an iterable that can be passed through again, of dict batches, or of tuples with `names`,
        e.g. a torchvision DataLoader with `names=("x", "y")`. NumPy arrays become tensors; batches
        are moved to where the loss's parameters are and take their precision, float32 or float64,
        where these are of one.
    valid: the same, evaluated after each epoch in eval mode, with noise of its own.
    epochs: in all, those before `resume` included.
    lr, optimizer: Adam at `lr`, or a function from parameters to an optimiser, or an optimiser, or
        one of Pyro's such as `pyro.optim.ClippedAdam({"lr": 1e-2})`.
    schedule: a function from the optimiser to a learning-rate schedule, stepped each epoch (a
        ReduceLROnPlateau by valid_loss, or loss without `valid`).
    clip_norm: largest gradient norm.
    hooks: functions of the `Run`, called in order after each epoch (`pyrovae.training.hooks`);
        `begin` of one is called before the first, when all that may be refused was read and
        accepted, `finish` at the end.
    context: entered around each evaluation of the loss, e.g. `lambda: torch.autocast("cuda",
        torch.bfloat16)`.
    compile: "on" captures the step as one graph, compiles it and replays it, which takes some
        seconds to a minute and then less time a step than code written by hand (README, Speed);
        "off" runs the programs; "auto" compiles after the first epoch if the rest would take more
        than four minutes; validation follows once 15 seconds went into it. What cannot be captured
        (enumeration, programs that look at values) runs as it is, and the log of "pyrovae" says
        why. Gradients are the same within rounding.
    resume: a checkpoint of such a run (`training.hooks.Checkpoint`) to go on from; bit for bit on
        a CPU where compile is the same.
    fabric: for several processes, `pyrovae.Ranks()` under torchrun, or a lightning.fabric.Fabric:
        an object with `setup(module, optimizer)`, `backward(loss)` and perhaps `all_reduce(tensor,
        reduce_op=...)` and `broadcast(tensor)`, by which all end at the weights of the first.

    Every row holds epoch, loss, lr and seconds, and for losses with `terms` elbo, reconstruction
    and kl in nats per datum at beta = 1 (training: the average while the weights moved), the kl of
    each latent site where there are several, active_units, the weight beta, and the same for
    `valid_`.

    Before the first step the pair is checked on the first batch (`pyrovae.core.check`), and in the
    first epoch the data of each batch against the support of their likelihood; within the loop
    Pyro's and torch's argument validation is off. Where the model ends up ignoring its latent
    variables, a `CollapseWarning` says so and what to try. Subnormal numbers (below 1.2e-38 in
    float32) are rounded to zero, here and in estimates and predictions: processors are slow at
    them.

    Raises: PairError for a pair or data that would train wrongly; TypeError for what is no loss of
    a pair; NonFiniteLossError for a loss or a gradient that is not finite, before the step that
    would spoil the weights; CheckpointError for a bad `resume`.

    Example:
        >>> from pyrovae import Guide, Model, Node, ElboLoss
        >>> from pyrovae.heads import BernoulliHead, NormalHead
        >>> from pyrovae.nets import MLP
        >>> from pyrovae.priors import StandardNormal
        >>> model = Model(z=StandardNormal(2), x=Node(BernoulliHead(MLP(2, [8], 4)), "z"))
        >>> guide = Guide(z=Node(NormalHead(MLP(4, [8], 2 * 2)), "x"))
        >>> history = fit(ElboLoss(model, guide), [{"x": torch.ones(3, 4)}], epochs=2)
        >>> len(history["elbo"])
        2
    """
    check_loss(loss)
    like = exemplar_of(loss)
    first = _first_batch(data, names, like, loss)
    pair = unwrap(loss)
    check_batch_of(pair, first, num_data_of(pair))
    if valid is not None:
        check_batch_of(pair, _first_batch(valid, names, like, loss), None)
    guide = guide_of(pair)
    tied = guide is not None and tied_to_rows(guide, plate_of(pair))
    if tied and is_shuffled(data):
        raise PairError(
            "the guide is an autoguide with parameters for each row of a batch, but the data are shuffled. "
            "Keep them in one order, or use an amortised guide."
        )
    run = _start(loss, first, data, epochs, lr, optimizer, schedule)
    if resume is not None:
        load_run(run, resume)
    if compile not in get_args(Compile):
        raise ValueError(f"compile={compile!r}, expected one of {', '.join(get_args(Compile))}.")
    processes = SingleProcess() if fabric is None else LedProcesses(fabric)
    capturable = processes.can_capture(clip_norm)
    if compile == "on" and not capturable:
        raise ValueError(
            "compile='on' with a fabric that wraps the backward pass, or clips a norm over processes, which a "
            "captured step would leave out; use compile='auto'."
        )
    run.compiled = compile == "on" or compile == "auto" and run.compiled and capturable
    module, stepper = processes.setup(loss, run.optimizer)
    steps: Steps | CapturedSteps = Steps(
        run,
        module,
        stepper,
        processes.backward,
        context,
        clip_norm,
        active_units=valid is None,
        reduce=processes.reduce,
        all_reduce=processes.all_reduce,
        scaled=processes.scaled,
    )
    evaluation = Evaluation(
        loss, names=names, context=context, compile="off" if compile == "off" else "auto"
    )
    unchecked, averages, index, count = True, None, 0, size_in(pair)

    def make_error(value: Tensor, at: int | None, names: list[str]) -> NonFiniteLossError:
        return NonFiniteLossError(
            _post_mortem(value, names, run, index if at is None else at, pair)
        )

    for hook in hooks:
        if isinstance(hook, Begins):
            hook.begin(run)
    while not run.finished:
        start, averages = time.perf_counter(), Averages()
        loss.train()
        if run.compiled and isinstance(steps, Steps):
            steps = CapturedSteps(steps)
        row = {"epoch": run.epoch + 1, **_learning_rate(run.optimizer), **_beta(pair)}
        with pyro.validation_enabled(False), local_param_scope():
            for index, batch in enumerate(batches(data, names, like)):
                measured = steps(batch, check_data=unchecked, make_error=make_error)
                averages.add(count(batch), measured)
                if index and tied:
                    raise PairError(
                        "the guide is an autoguide with parameters for each row of a batch, but an epoch has "
                        "several batches, whose rows would share them. Train on one batch of all data, in one "
                        "order, or use an amortised guide."
                    )
        if not averages.size:
            raise PairError(
                f"the data yielded no batch in epoch {run.epoch + 1}; pass an iterable that starts again for "
                "each epoch (a DataLoader, pyrovae.data.Batches, a list), not a generator."
            )
        unchecked = False  # one look at all data is enough
        steps.end_epoch(make_error)
        averages.merge(processes.all_reduce, processes.union)
        check_num_data(num_data_of(pair), data, averages.size)
        row |= averages.row()
        processes.synchronize(loss)
        if valid is not None:
            found = {
                name: float(
                    processes.all_reduce(
                        torch.tensor(float(value), dtype=torch.float64), reduce_op="mean"
                    )
                )
                for name, value in evaluation(valid).items()
            }
            row |= {
                name if name == "active_units" else f"valid_{name}": value
                for name, value in found.items()
            }
        if isinstance(run.schedule, ReduceLROnPlateau):
            run.schedule.step(row.get("valid_loss", row["loss"]))
        elif run.schedule is not None:
            run.schedule.step()
        run.history.append({**row, "seconds": time.perf_counter() - start})
        if compile == "auto" and run.epoch == 1 and capturable:
            ahead = torch.tensor(run.history[-1]["seconds"] * (run.epochs - 1))
            run.compiled = (
                float(processes.all_reduce(ahead, reduce_op="mean")) > WORTH_COMPILING
            )  # the same on all processes
        for hook in hooks:
            hook(run)
        run.stop = bool(
            processes.all_reduce(torch.tensor(float(run.stop)), reduce_op="mean")
        )  # one process stops all
    for hook in hooks:
        if isinstance(hook, Finishes):
            hook.finish(run)
    # hooks may have brought back other weights where they are: in the first process
    processes.follow_first(tensors_of(run).values())
    if averages is not None:
        warn_if_collapsed(
            loss, run.history[-1], first, num_steps=run.epoch * (index + 1), num_data=averages.size
        )
    return run.history


def _first_batch(
    data: Data, names: Sequence[str] | None, like: Like, loss: nn.Module
) -> dict[str, Tensor]:
    """A look at the data that leaves no trace in any random stream."""
    if isinstance(data, Iterator):
        raise PairError(
            f"the data are a {type(data).__name__}, which is used up after one pass; pass an iterable that "
            "starts again for each epoch, e.g. a DataLoader, pyrovae.data.Batches or a list."
        )
    with preserve_state([loss], generators=generators_of(data)):
        first = next(batches(data, names, like), None)
    if first is None:
        raise PairError("the data yield no batch; expected at least one datum.")
    return first


def _start(
    loss: nn.Module,
    first: dict[str, Tensor],
    data: Data,
    epochs: int,
    lr: float,
    optimizer: OptimizerSource | torch.optim.Optimizer | None,
    schedule: Callable | None,
) -> Run:
    parameters = find_parameters(loss, first)
    if optimizer is None:
        fused = all(
            p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters.values()
        )
        optimizer = torch.optim.Adam(parameters.values(), lr=lr, fused=fused)
    elif not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = build_optimizer(optimizer, list(parameters.values()))
    if isinstance(optimizer, torch.optim.LBFGS):
        raise PairError(
            "LBFGS re-evaluates a loss that must not change between calls, but an ELBO on minibatches draws "
            "anew each time; use Adam or SGD."
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [name for name, p in parameters.items() if id(p) not in held]
    if missing:
        raise PairError(
            f"the optimizer does not hold {missing}, so they would not be trained. Pass a function, "
            "optimizer=lambda parameters: Adam(parameters, ...), or freeze them with requires_grad_(False)."
        )
    return Run(
        loss,
        parameters,
        optimizer,
        schedule(optimizer) if schedule else None,
        epochs,
        History(),
        generators_of(data),
    )


def _learning_rate(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """That of the first group, as a number of its own; some of Pyro's optimisers call it eta."""
    group = optimizer.param_groups[0]
    rate = group.get("lr", group.get("eta"))
    return {} if rate is None else {"lr": float(rate)}


def _beta(loss: nn.Module) -> dict[str, float]:
    value = beta_of(loss)
    return {} if value is None else {"beta": float(value)}


def _post_mortem(value: Tensor, names: list[str], run: Run, index: int, loss: nn.Module) -> str:
    where = f"in epoch {run.epoch + 1}, batch {index}"
    text = (
        f"the loss is {value.item()} {where}."
        if not names
        else (
            f"the gradient of {', '.join(names[:8])}{' and more' if len(names) > 8 else ''} is not finite {where}, though "
            f"the loss is {value.item():.6g}: some function has no finite slope there, as sqrt and log have none at 0."
        )
    )
    terms = terms_of(loss)
    if terms is not None:
        sites = {**terms.log_px, **terms.kl}
        text += (
            " Nats per datum by site: "
            + ", ".join(f"{name} {float(part):.4g}" for name, part in sites.items())
            + "."
        )
    norms = {name: float(p.detach().norm()) for name, p in run.parameters.items()}
    worst = sorted(
        norms, key=lambda name: -norms[name] if math.isfinite(norms[name]) else -math.inf
    )[:8]
    text += (
        " Largest parameter norms: "
        + ", ".join(f"{name} {norms[name]:.4g}" for name in worst)
        + "."
    )
    return text + (
        " The step was not taken and the last checkpoint is intact; try a lower lr, clip_norm, or a min_scale "
        "for normal likelihoods."
    )
