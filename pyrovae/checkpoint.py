"""Weights and whole runs on disk, in safetensors files: tensors and JSON, nothing that can run code."""
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pyrovae.errors import CheckpointError
from pyrovae.files import write_atomically
from pyrovae.history import History
from pyrovae.run import Run
from pyrovae.untouched import random_state, set_random_state

FORMAT = "pyrovae 1"


def save_weights(module: nn.Module | Run, path: str | Path) -> None:
    """Write parameters and buffers of a module (a loss, a model) to a safetensors file, tied tensors once, atomically.

    Of a `Run` it also writes what hand-written programs keep in Pyro's parameter store.

    Example:
        >>> import tempfile
        >>> net, path = nn.Linear(2, 3), Path(tempfile.mkdtemp()) / "weights.safetensors"
        >>> save_weights(net, path)
        >>> load_weights(net, path)
    """
    _write(path, tensors_of(module), {"kind": "weights"})


def load_weights(module: nn.Module | Run, path: str | Path) -> None:
    """Read what `save_weights` wrote into a module of the same structure, on whatever device it is.

    Raises: CheckpointError where the file is missing, damaged, foreign, or of another structure; the module is then
    as it was.
    """
    tensors, _ = _read(path, "weights")
    _copy(tensors, tensors_of(module), path)


def save_run(run: Run, path: str | Path) -> None:
    """Write all that `fit(resume=path)` needs: weights, optimiser, schedule, history, random states."""
    tensors: dict[str, Tensor] = {f"weights/{name}": value for name, value in tensors_of(run).items()}
    state = {"optimizer_type": type(run.optimizer).__name__, "optimizer": run.optimizer.state_dict(),
             "schedule": run.schedule and run.schedule.state_dict(), "history": run.history.rows,
             "random": random_state(run.generators), "stop": run.stop, "compiled": run.compiled}
    _write(path, tensors, {"kind": "run", "state": json.dumps(_pack(state, "state", tensors))})


def load_run(run: Run, path: str | Path) -> None:
    """Put a freshly built run where the saved one was. Raises CheckpointError as `load_weights` does."""
    tensors, metadata = _read(path, "run")
    try:
        state = _unpack(json.loads(metadata["state"]), tensors)
        kind = state["optimizer_type"]
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its state cannot be read ({type(error).__name__}).") from error
    if kind != type(run.optimizer).__name__:
        raise CheckpointError(f"{path} was saved with the optimizer {kind}, this run has {type(run.optimizer).__name__}; "
                              "resume with the settings the run began with.")
    if (run.schedule is None) != (state["schedule"] is None):
        raise CheckpointError(f"{path} was saved {'without' if run.schedule is not None else 'with'} a learning-rate "
                              "schedule; resume with the settings the run began with.")
    weights = {name.removeprefix("weights/"): value for name, value in tensors.items() if name.startswith("weights/")}
    _copy(weights, tensors_of(run), path)
    try:
        run.optimizer.load_state_dict(state["optimizer"])
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{path} holds another optimizer's state: {error}") from error
    if run.schedule is not None:
        run.schedule.load_state_dict(state["schedule"])
    run.history, run.stop = History(state["history"]), state["stop"]
    run.compiled = state.get("compiled", False)
    set_random_state(state["random"], run.generators)


def tensors_of(holder: nn.Module | Run) -> dict[str, Tensor]:
    """Parameters and buffers by name, each tensor once."""
    if isinstance(holder, Run):
        return {**tensors_of(holder.loss), **holder.parameters}
    return {**dict(holder.named_parameters()), **dict(holder.named_buffers())}


def _copy(source: dict[str, Tensor], target: dict[str, Tensor], path: str | Path) -> None:
    lacking, extra = sorted(target.keys() - source.keys()), sorted(source.keys() - target.keys())
    if lacking or extra:
        raise CheckpointError(f"{path} belongs to another model: " + "; ".join(
            f"{words} {names[:3]}{' and more' if len(names) > 3 else ''}"
            for words, names in (("it lacks", lacking), ("it also holds", extra)) if names))
    for name, value in target.items():
        if value.shape != source[name].shape:
            raise CheckpointError(f"{path} belongs to another model: {name} is {tuple(source[name].shape)} there and "
                                  f"{tuple(value.shape)} here.")
    with torch.no_grad():
        for name, value in target.items():
            value.copy_(source[name])


def _write(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_atomically(path, save(plain, {"format": FORMAT, **metadata}))


def _read(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not Path(path).is_file():
        raise CheckpointError(f"there is no file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}).") from error
    if metadata.get("format") != FORMAT or metadata.get("kind") != kind:
        raise CheckpointError(f"{path} is no pyrovae {kind} file (format {metadata.get('format')!r}, kind "
                              f"{metadata.get('kind')!r}).")
    return tensors, metadata


def _pack(value: object, name: str, tensors: dict[str, Tensor]) -> object:
    """Nested state as JSON; tensors and arrays move to `tensors` and leave their name behind."""
    if isinstance(value, np.ndarray):
        return {"array": _pack(torch.from_numpy(value.astype(np.int64)), name, tensors), "dtype": str(value.dtype)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _pack(part, f"{name}/{key}", tensors)] for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_pack(part, f"{name}/{i}", tensors) for i, part in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CheckpointError(f"{name} is {type(value).__name__}, which a checkpoint without pickles cannot hold; keep numbers, "
                          "strings, lists, dicts and tensors in the state of optimizers and schedules.")


def _unpack(value: object, tensors: dict[str, Tensor]) -> object:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return _unpack(value["array"], tensors).numpy().astype(value["dtype"])
    (kind, content), = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpack(part, tensors) for key, part in content}
    return {"list": list, "tuple": tuple}[kind](_unpack(part, tensors) for part in content)
