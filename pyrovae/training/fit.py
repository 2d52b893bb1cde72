"""The training loop; it knows no model, no data set and no file."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
import torch.nn as nn
from torch.optim.lr_scheduler import LRScheduler

from pyrovae.capture.auto import Compile
from pyrovae.core.batching import Data
from pyrovae.core.subnormals import flush_subnormals
from pyrovae.training.captured_stepper import CapturedSteps
from pyrovae.training.checkpoint import load_checkpoint, tensors_of
from pyrovae.training.collapse import warn_if_collapsed
from pyrovae.training.compile_policy import CompilePolicy
from pyrovae.training.eager_step import Steps
from pyrovae.training.epoch import Epoch, step_schedule, train_epoch, validate
from pyrovae.training.evaluate import Evaluation
from pyrovae.training.history import History
from pyrovae.training.hooks import Begins, Finishes
from pyrovae.training.optimizers import OptimizerSource
from pyrovae.training.prepare import prepare
from pyrovae.training.processes import Fabric, processes_of
from pyrovae.training.run import Run


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
        >>> from pyrovae import ElboLoss
        >>> history = fit(ElboLoss(model, guide), [{"x": torch.ones(3, 4)}], epochs=2)
        >>> len(history["elbo"])
        2
    """
    run, first = prepare(
        loss,
        data,
        valid,
        names=names,
        epochs=epochs,
        lr=lr,
        optimizer=optimizer,
        schedule=schedule,
    )
    processes = processes_of(fabric)
    policy = CompilePolicy(compile, processes, clip_norm=clip_norm)
    if resume is not None:
        load_checkpoint(run, resume)
    policy.begin(run)
    steps: Steps | CapturedSteps = Steps(
        run, processes, context, clip_norm, active_units=valid is None
    )
    evaluation = Evaluation(
        loss, names=names, context=context, compile="off" if compile == "off" else "auto"
    )
    for hook in hooks:
        if isinstance(hook, Begins):
            hook.begin(run)
    epoch: Epoch | None = None
    while not run.finished:
        start = time.perf_counter()
        steps = policy.apply(run, steps)
        epoch = train_epoch(run, data, steps, processes, names=names, check_data=epoch is None)
        row = dict(epoch.row)
        if valid is not None:
            row |= validate(evaluation, valid, processes)
        step_schedule(run, row)
        run.history.append({**row, "seconds": time.perf_counter() - start})
        policy.end_epoch(run)
        for hook in hooks:
            hook(run)
        run.stop = processes.mean(run.stop) > 0  # one process stops all
    for hook in hooks:
        if isinstance(hook, Finishes):
            hook.finish(run)
    # a hook of the first process may have restored other weights
    processes.follow_first(tensors_of(run).values())
    if epoch is not None:
        warn_if_collapsed(
            loss,
            run.history[-1],
            first,
            num_steps=run.epoch * epoch.num_batches,
            num_data=epoch.num_data,
        )
    return run.history
