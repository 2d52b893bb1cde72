"""Out-of-distribution inputs for a classifier (`--ood`)."""

from pathlib import Path

import torch
from torch import Tensor

from pyrovae.data import load_path
from pyrovae.data.csv_table import is_csv, read_csv
from pyrovae.recipes.bnn_data import IMAGES
from pyrovae.recipes.bnn_task import Task
from pyrovae.recipes.data_choice import refuse_unknown
from pyrovae.recipes.refusal import Refusal


def load_unknown(name: str, task: Task) -> Tensor:
    """Out-of-distribution inputs (`--ood`), `(1, N, D)`, resized to the images of the task.

    Raises:
        Refusal: a regression task, an unknown data set, or one with another number of features.
    """
    if task.kind == "regression":
        raise Refusal(f"--ood scores classifiers, but the targets of {task.name} are numbers.")
    if name == "noise":
        return torch.rand(1, 1000, task.num_features, generator=torch.Generator().manual_seed(0))
    if name == "photographs":
        return _patches(task).flatten(1).unsqueeze(0)
    refuse_unknown("--ood", name, (*IMAGES, "noise", "photographs"), "a PATH")
    if task.columns and is_csv(Path(name)):
        return _scaled(torch.from_numpy(read_csv(name).columns(task.columns)), task).unsqueeze(0)
    splits = IMAGES[name]() if name in IMAGES else load_path(Path(name))
    x = splits.test.tensors["x"]
    if task.image_shape is not None and x.dim() == 4 and tuple(x.shape[1:]) != task.image_shape:
        x = torch.nn.functional.interpolate(
            x[:, :1], size=task.image_shape[1:], mode="bilinear", antialias=True
        )
    x = x.flatten(1)
    if x.shape[1] != task.num_features:
        raise Refusal(f"--ood {name} has {x.shape[1]} features, {task.name} {task.num_features}.")
    return _scaled(x, task).unsqueeze(0)


def _scaled(x: Tensor, task: Task) -> Tensor:
    """Features in the units of the task."""
    if task.x_mean is None or task.x_scale is None:
        return x
    return ((x.double() - task.x_mean[0]) / task.x_scale[0]).to(torch.get_default_dtype())


def _patches(task: Task) -> Tensor:
    """Grey patches, `(N, 1, H, W)`, of the two photographs that ship with scikit-learn."""
    from sklearn.datasets import load_sample_images

    if task.image_shape is None or task.image_shape[0] != 1:
        raise Refusal(
            f"--ood photographs is for grey images, and {task.name} holds {task.num_features} features."
        )
    height, width = task.image_shape[1:]
    parts = []
    for photograph in load_sample_images().images:
        grey = torch.tensor(photograph).float().mean(-1) / 255.0
        squares = grey.unfold(0, height, height).unfold(1, width, width)
        parts.append(squares.reshape(-1, 1, height, width))
    return torch.cat(parts)
