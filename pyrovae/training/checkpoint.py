"""Weights and whole runs on disk, in safetensors files: tensors and JSON, nothing that can run
code."""

import json
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.core.errors import CheckpointError, first_line
from pyrovae.core.preserve_state import random_state, set_random_state
from pyrovae.training.history import History
from pyrovae.training.packing import pack, unpack
from pyrovae.training.run import Run
from pyrovae.training.saved_state import (
    check_history,
    check_optimizer,
    check_random,
    check_schedule,
)
from pyrovae.training.tensor_file import read_tensors, write_tensors

FORMAT, WITHOUT_DIGEST = "pyrovae 2", "pyrovae 1"


def save_weights(module: nn.Module | Run, path: str | Path) -> None:
    """Write parameters and buffers of a module (a loss, a model) to a safetensors file, tied
    tensors once, atomically.

    Of a `Run` it also writes what hand-written programs keep in Pyro's parameter store. Equal
    weights are equal files, and each carries a digest of its content that is checked when it is
    read.

    Raises: CheckpointError for weights that are not finite; what `path` held before is then still
    there.

    Example:
        >>> import tempfile
        >>> net, path = nn.Linear(2, 3), Path(tempfile.mkdtemp()) / "weights.safetensors"
        >>> save_weights(net, path)
        >>> load_weights(net, path)
    """
    write_tensors(
        path,
        tensors_of(module),
        {"format": FORMAT, "kind": "weights"},
        constant=_constants_of(module, ""),
    )


def load_weights(module: nn.Module | Run, path: str | Path) -> None:
    """Read what `save_weights` wrote into a module of the same structure, on whatever device it
    is.

    Raises: CheckpointError where the file is missing, damaged, foreign, or of another structure;
    the module is then as it was.
    """
    tensors, _ = _read(path, "weights")
    target = tensors_of(module)
    _refuse_unlike(tensors, target, path)
    _copy(tensors, target)


def save_checkpoint(run: Run, path: str | Path) -> None:
    """Write all that `fit(resume=path)` needs: weights, optimiser, schedule, history, random
    states.

    Raises: CheckpointError for weights or an optimiser's state that are not finite, as
    `save_weights` does, and for a state that only a pickle could hold.
    """
    tensors: dict[str, Tensor] = {
        f"weights/{name}": value for name, value in tensors_of(run).items()
    }
    state = {
        "optimizer_type": type(run.optimizer).__name__,
        "optimizer": run.optimizer.state_dict(),
        "schedule": run.schedule and run.schedule.state_dict(),
        "history": run.history.rows,
        "random": random_state(run.generators),
        "stop": run.stop,
        "compiled": run.compiled,
    }
    packed = json.dumps(pack(state, "state", tensors))
    write_tensors(
        path,
        tensors,
        {"format": FORMAT, "kind": "run", "state": packed},
        constant=_constants_of(run.loss, "weights/"),
    )


def load_checkpoint(run: Run, path: str | Path) -> None:
    """Put a freshly built run where the saved one was. Raises CheckpointError as `load_weights`
    does, before any change."""
    tensors, metadata = _read(path, "run")
    try:
        state = cast("dict[str, Any]", unpack(json.loads(metadata["state"]), tensors))
        kind = state["optimizer_type"]
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is damaged: its state cannot be read ({type(error).__name__})."
        ) from error
    if kind != type(run.optimizer).__name__:
        raise CheckpointError(
            f"{path} was saved with the optimizer {kind}, this run has {type(run.optimizer).__name__}; "
            "resume with the settings the run began with."
        )
    if (run.schedule is None) != (state.get("schedule") is None):
        raise CheckpointError(
            f"{path} was saved {'without' if run.schedule is not None else 'with'} a learning-rate "
            "schedule; resume with the settings the run began with."
        )
    weights = {
        name.removeprefix("weights/"): value
        for name, value in tensors.items()
        if name.startswith("weights/")
    }
    target = tensors_of(run)
    _refuse_unlike(weights, target, path)
    try:
        check_optimizer(
            state["optimizer"],
            run.optimizer,
            {value: name for name, value in target.items()},
            weights,
        )
        if run.schedule is not None:
            check_schedule(state["schedule"], run.schedule)
        check_random(state["random"], run.generators)
        check_history(state["history"])
        run.optimizer.load_state_dict(state["optimizer"])
        _like_parameters(run.optimizer)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} does not fit this run: {first_line(error)}. Resume with the settings the run began "
            "with, or begin anew."
        ) from error
    _copy(weights, target)
    if run.schedule is not None:
        run.schedule.load_state_dict(state["schedule"])
    run.history, run.stop = History(state["history"]), bool(state.get("stop"))
    run.compiled = bool(state.get("compiled"))
    set_random_state(state["random"], run.generators)


def tensors_of(holder: nn.Module | Run) -> dict[str, Tensor]:
    """Parameters and buffers by name, each tensor once."""
    if isinstance(holder, Run):
        return {**tensors_of(holder.loss), **holder.parameters}
    return {**dict(holder.named_parameters()), **dict(holder.named_buffers())}


def _constants_of(holder: nn.Module | Run, prefix: str) -> list[str]:
    """Buffers and untrained parameters may be infinite: a mask, the bounds of a support, a fixed
    rate of 0 on the logit scale."""
    module = holder.loss if isinstance(holder, Run) else holder
    frozen = [name for name, value in module.named_parameters() if not value.requires_grad]
    return [f"{prefix}{name}" for name in (*frozen, *dict(module.named_buffers()))]


def _refuse_unlike(source: dict[str, Tensor], target: dict[str, Tensor], path: str | Path) -> None:
    lacking, extra = sorted(target.keys() - source.keys()), sorted(source.keys() - target.keys())
    if lacking or extra:
        raise CheckpointError(
            f"{path} belongs to another model: "
            + "; ".join(
                f"{words} {names[:3]}{' and more' if len(names) > 3 else ''}"
                for words, names in (("it lacks", lacking), ("it also holds", extra))
                if names
            )
        )
    for name, value in target.items():
        saved = source[name]
        if value.shape != saved.shape:
            raise CheckpointError(
                f"{path} belongs to another model: {name} is {tuple(saved.shape)} there and "
                f"{tuple(value.shape)} here."
            )
        if _kind(value) != _kind(saved):
            raise CheckpointError(
                f"{path} belongs to another model: {name} is {saved.dtype} there and {value.dtype} here."
            )
        if saved.isnan().any() or value.requires_grad and not saved.isfinite().all():
            raise CheckpointError(f"{path} is damaged: {name} holds numbers that are not finite.")


def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in target.items():
            value.copy_(source[name])


def _kind(value: Tensor) -> tuple[bool, bool]:
    """Floating-point precisions may differ; the kind of number may not."""
    return value.is_floating_point(), value.is_complex()


def _read(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, metadata, vouched_for = read_tensors(path)
    version = metadata.get("format")
    if version not in (FORMAT, WITHOUT_DIGEST) or metadata.get("kind") != kind:
        raise CheckpointError(
            f"{path} is no pyrovae {kind} file (format {version!r}, kind {metadata.get('kind')!r})."
        )
    if not vouched_for and (version == FORMAT or kind == "run"):
        raise CheckpointError(
            f"{path} has no digest that its content could be checked by: it is damaged, or of an earlier "
            "version; begin the run anew."
        )
    return tensors, metadata


def _like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Lay the optimizer's tensors out in memory as their parameters are (channels last), so that a
    resumed run computes what the whole one does, to the last bit."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
