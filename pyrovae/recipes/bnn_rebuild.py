"""Trained networks from the files of a run, without its data."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn as nn

from pyrovae.data import DictDataset
from pyrovae.recipes.bnn_method import Method
from pyrovae.recipes.bnn_posteriors import Pair
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task
from pyrovae.recipes.bnn_train import rebuild_pairs, stored_guides, untrained
from pyrovae.training.checkpoint import load_weights
from pyrovae.training.tensor_file import read_tensors


def sizes_of(data: Mapping, *, rows: int, splits: int) -> Task:
    """A task of the sizes alone: expanded zeros take no memory. data: of a run.json."""
    x = torch.zeros(()).expand(splits, rows, data["num_features"])
    shape = data.get("image_shape")
    return Task(
        data["name"],
        data["kind"],
        DictDataset(x=x),
        None,
        DictDataset(x=x),
        data["outputs"],
        torch.zeros(splits, 1, 1),
        torch.ones(splits, 1, 1),
        image_shape=None if shape is None else tuple(shape),
    )


def rebuild(
    method: Method,
    s: BnnSettings,
    task: Task,
    weights: Path,
    posterior: Path,
    device: torch.device,
) -> tuple[nn.Module, list[Pair]]:
    """The loss and the pairs of a task with the state in the files, in eval mode on a device.

    Raises: CheckpointError for files that are damaged or of another structure.
    """
    loss = untrained(method, s, task)
    load_weights(loss, weights)
    pairs = rebuild_pairs(method, s, task, loss, _num_draws(posterior))
    if (guides := stored_guides(method, pairs)) is not None:
        load_weights(guides, posterior)
    for module in (loss, *(program for pair in pairs for program in pair)):
        module.to(device).eval()
    return loss, pairs


def _num_draws(posterior: Path) -> int:
    """The number of draws in the posterior file, if it is an empirical posterior; else 1."""
    if not posterior.exists():
        return 1
    tensors, *_ = read_tensors(posterior)
    return next((len(value) for name, value in tensors.items() if name.endswith("draws_0")), 1)
