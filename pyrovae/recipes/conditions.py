"""Conditional generation: splitting data into the condition c and the target x of p(x | c)."""

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pyrovae.data import Batches, DictDataset
from pyrovae.recipes.refusal import Refusal

Batch = dict[str, Tensor]
NOISY_PART = 0.2


@dataclasses.dataclass(frozen=True)
class Task:
    """Splits an image `(B, C, H, W)` or vector into the condition c `(B, num_conditions)` and the
    target x `(B, D)`."""

    name: str
    event_shape: tuple[int, ...]
    num_classes: int = 0

    def __post_init__(self) -> None:
        if self.name not in ("label", "noise", "own") and len(self.event_shape) != 3:
            raise Refusal(
                f"--condition {self.name} takes images, but the data are {self.event_shape} vectors."
            )
        if self.name == "low-resolution" and any(side % 2 for side in self.event_shape[1:]):
            raise Refusal(
                f"--condition low-resolution halves even side lengths, but the images are {self.event_shape[1:]}."
            )

    def split(self, batch: Batch) -> Batch:
        """The batch with x and c as vectors, the inputs of model and guide."""
        x = batch["x"]
        c, target = {
            "label": self._label,
            "own": lambda batch: (batch["c"], batch["x"]),
            "noise": self._noise,
            "low-resolution": self._low_resolution,
        }.get(self.name, self._quadrants)(batch)
        return {**batch, "x": target.reshape(len(x), -1), "c": c.reshape(len(x), -1)}

    def _label(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return F.one_hot(batch["y"].long(), self.num_classes).to(batch["x"]), batch["x"]

    def _noise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        x = batch["x"]
        noise = torch.bernoulli(torch.full_like(x, 0.5)) * max(1.0, float(x.max()))
        return torch.where(torch.rand_like(x) < NOISY_PART, noise, x), x

    def _low_resolution(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return F.avg_pool2d(batch["x"], 2), batch["x"]

    def _quadrants(self, batch: Batch) -> tuple[Tensor, Tensor]:
        flat, seen = batch["x"].flatten(1), self.seen().flatten()
        return flat[:, seen], flat[:, ~seen]

    def seen(self) -> Tensor:
        """`(C, H, W)` bool, true for the observed pixels: one quadrant is the lower left one, two
        are the left half, three all but the upper right one."""
        _, height, width = self.event_shape
        seen = torch.zeros(self.event_shape, dtype=torch.bool)
        count = int(self.name[-1])
        seen[:, height // 2 :, : width // 2] = True
        seen[:, :, : width // 2] |= count >= 2
        seen[:, height // 2 :, :] |= count >= 3
        return seen

    def image(self, x: Tensor, c: Tensor) -> Tensor:
        """The full image `(..., C, H, W)` from a target `(..., D)` and its condition."""
        if not self.name.startswith("quadrants"):
            return x.reshape(*x.shape[:-1], *self.event_shape)
        seen = self.seen().flatten()
        whole = x.new_empty(*x.shape[:-1], len(seen))
        whole[..., seen], whole[..., ~seen] = c.expand(*x.shape[:-1], c.shape[-1]), x
        return whole.reshape(*x.shape[:-1], *self.event_shape)

    def question(self, c: Tensor) -> Tensor:
        """The condition as an image, with unobserved pixels grey."""
        if self.name == "noise":
            return c.reshape(-1, *self.event_shape)
        if self.name == "low-resolution":
            channels, height, width = self.event_shape
            return F.interpolate(
                c.reshape(-1, channels, height // 2, width // 2), scale_factor=2, mode="nearest"
            )
        whole = c.new_full((len(c), *self.event_shape), 0.5)
        whole[:, self.seen()] = c
        return whole


def conditioned(batches: Batches, task: Task, *, fixed: bool) -> Batches:
    """The same data as x and c; `fixed`: sample the noise of the task once, so that evaluations are
    comparable."""
    if not fixed:
        first: Callable[[Batch], Batch] = batches.transform or (lambda batch: batch)
        return Batches(
            batches.data,
            batches.batch_size,
            shuffle=batches.shuffle,
            transform=lambda batch: task.split(first(batch)),
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        data = task.split(batches.data.tensors)
    return Batches(DictDataset(**data), batches.batch_size, shuffle=batches.shuffle)
