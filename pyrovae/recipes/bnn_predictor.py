"""One network trained on all rows of a regression set, which predicts new ones; the networks of the
splits are for the scores."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn as nn

import pyrovae as pv
from pyrovae.core.preserve_state import preserve_state
from pyrovae.recipes import nesting
from pyrovae.recipes.bnn_data import whole
from pyrovae.recipes.bnn_method import Method
from pyrovae.recipes.bnn_rebuild import rebuild, sizes_of
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task, epochs_of
from pyrovae.recipes.bnn_train import stored_guides, train
from pyrovae.recipes.results import find_result, write_result
from pyrovae.training.hooks import Checkpoint

NAME = "predictor"


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A trained pair, the weight samples of its predictions, and what they are scaled by: `x_mean`,
    `x_scale`, `y_mean`, `y_scale` as in run.json, `(1, D)` and `(1, T)`."""

    model: nn.Module
    guide: nn.Module
    num_samples: int
    scales: Mapping[str, list]


def train_predictor(
    method: Method,
    s: BnnSettings,
    task: Task,
    folder: Path,
    *,
    device: torch.device,
    resume: bool = False,
) -> None:
    """Train one network on all rows for as many epochs as those of the splits, and write it to
    predictor/ in the folder of the run; predictor.json, written last, marks it done.

    resume: continue from its checkpoint, and keep what is done.
    """
    path = folder / NAME
    result, checkpoint = path / "predictor.json", path / "checkpoint.safetensors"
    weights, posterior = path / "weights.safetensors", path / "posterior.safetensors"
    if resume and find_result(result) is not None:
        return
    rows = whole(task)
    trained = train(
        method,
        _for_one(s, task, rows.num_data),
        rows,
        device=device,
        resume=checkpoint if resume and checkpoint.exists() else None,
        draws=path / "draws",
        chains_file=checkpoint,
        hooks=(Checkpoint(checkpoint),),
    )
    files = [weights]
    pv.save_weights(trained.loss, weights)
    if (guides := stored_guides(method, trained.pairs)) is not None:
        pv.save_weights(guides, posterior)
        files.append(posterior)
    write_result(
        result,
        {
            "num_train": rows.num_data,
            "num_samples": trained.num_samples,
            "steps": trained.steps,
            "train_seconds": trained.seconds,
            "scales": scales_of(rows.facts(), 0),
        },
        files=files,
    )


def load_predictor(
    method: Method, s: BnnSettings, data: Mapping, folder: Path, *, device: torch.device
) -> Predictor | None:
    """The network of all rows; None if the run has none. data: of its run.json.

    Raises: Refusal or CheckpointError for files that are damaged.
    """
    path = folder / NAME
    known = find_result(path / "predictor.json")
    if known is None:
        return None
    task = sizes_of(data, rows=known["num_train"], splits=1)
    one = nesting.replace(s, seeds=1)
    weights, posterior = path / "weights.safetensors", path / "posterior.safetensors"
    with preserve_state([]):  # initial weights are drawn before those of the files
        _, pairs = rebuild(method, one, task, weights, posterior, device)
    return Predictor(*pairs[0], known["num_samples"], known["scales"])


def scales_of(data: Mapping, split: int) -> dict[str, list]:
    """What the data of a split were scaled by; without those of x where they are in their own units."""
    names = ("x_mean", "x_scale", "y_mean", "y_scale")
    return {name: data[name][split] for name in names if data.get(name) is not None}


def _for_one(s: BnnSettings, task: Task, rows: int) -> BnnSettings:
    """As many epochs on more rows: schedules and kept draws are those of the splits."""
    steps = epochs_of(s, task) * math.ceil(rows / s.run.batch_size)
    return nesting.replace(s, seeds=1, steps=steps)
