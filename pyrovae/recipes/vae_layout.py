"""From a user's arrays to the x that a trained VAE knows, and back."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pyrovae.data.binarize import static, threshold
from pyrovae.data.splits import is_binary
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.vae_parts import COUNTS, LEVELS
from pyrovae.recipes.vae_settings import Settings

Values = np.ndarray | Tensor


@dataclasses.dataclass(frozen=True)
class VaeLayout:
    """How the data of a run are stored, and what its likelihood scores.

    event_shape: of one datum as it is stored, (C, H, W) or (D,). levels: the number of its grey
    levels, None for numbers of any kind. whole: whether the likelihood scores levels 0, 1, ...
    binarize: how grey pixels become 0 or 1.
    """

    event_shape: tuple[int, ...]
    levels: int | None
    whole: bool
    binarize: str

    @classmethod
    def of(cls, settings: Settings, data: Mapping) -> "VaeLayout":
        """From the settings and the `data` of a run.json."""
        likelihood, levels = settings.model.likelihood, data["levels"]
        whole = likelihood in LEVELS or likelihood in COUNTS and levels is not None
        return cls(tuple(data["event_shape"]), levels, whole, data["binarize"])

    @property
    def is_image(self) -> bool:
        return len(self.event_shape) == 3

    def to_model(self, x: Values, *, seed: int = 0) -> Tensor:
        """Data in the units of the likelihood, `(N, *event_shape)` float32.

        Takes `(N, *event_shape)`, `(N, D)` of as many numbers, grey images `(N, H, W)` and images
        with channels last. Pixels are uint8 of 0..255 where the run's were, or floats in [0, 1];
        where the run binarised them, so are these, `seed` saying by which draw.

        Raises: Refusal for other shapes, kinds and ranges.
        """
        values = self._shaped(_numbers(x, self.levels))
        if not torch.isfinite(values).all():
            bad = int((~torch.isfinite(values)).flatten(1).any(1).nonzero()[0])
            raise Refusal(
                f"x holds NaN or infinity, first in row {bad}; drop or impute such rows."
            )
        if self.is_image or self.levels is not None:
            low, high = float(values.min()), float(values.max())
            if low < 0 or high > 1:
                raise Refusal(
                    f"x holds numbers from {low:.4g} to {high:.4g}; the run's data are pixels, expected floats in "
                    "[0, 1] or, for 256 grey levels, uint8."
                )
        if self.whole and self.levels is not None:
            return (values * (self.levels - 1)).round()
        if self.binarize == "threshold":
            return threshold(values)
        if self.binarize in ("dynamic", "static") and not is_binary(values):
            return static(values, seed=seed)
        return values

    def to_user(self, x: Tensor) -> Tensor:
        """What the likelihood scores or draws, `(..., *event)`, as `(..., *event_shape)` in the units
        of the stored data: pixels in [0, 1]."""
        size = math.prod(self.event_shape)
        lead = x.shape[: x.dim() - (1 if x.shape[-1] == size else len(self.event_shape))]
        x = x.reshape(*lead, *self.event_shape)
        return x / (self.levels - 1) if self.whole and self.levels is not None else x

    def _shaped(self, x: Tensor) -> Tensor:
        shape, event = tuple(x.shape), self.event_shape
        if x.dim() == len(event) and shape == event:
            raise Refusal(
                f"x is one datum of shape {shape}; expected several, (N, *{event}): x[None]."
            )
        if shape[1:] == event or x.dim() == 2 and shape[1] == math.prod(event):
            return x.reshape(len(x), *event)
        if self.is_image and event[0] == 1 and shape[1:] == event[1:]:
            return x.unsqueeze(1)
        if self.is_image and shape[1:] == (*event[1:], event[0]):
            return x.movedim(-1, 1)
        raise Refusal(
            f"x has shape {shape}, expected (N, {', '.join(map(str, event))}), as the data of the run."
        )


def _numbers(x: Values, levels: int | None) -> Tensor:
    """float32; integers of eight bits are grey levels of 0..255, unless they are 0 and 1.

    Raises: Refusal where the run's data have another number of grey levels.
    """
    array = x if isinstance(x, Tensor) else _tensor(np.asarray(x))
    if not array.numel():
        raise Refusal(f"x has shape {tuple(array.shape)}: there is no datum.")
    if array.dtype == torch.uint8 and array.max() > 1:
        if levels not in (None, 2, 256):
            raise Refusal(
                f"x is uint8, but the data of the run have {levels} grey levels, so its unit is unclear; expected floats in "
                f"[0, 1], level / {levels - 1}."
            )
        return array.float() / 255
    return array.float()


def _tensor(x: np.ndarray) -> Tensor:
    if x.dtype.kind not in "fuib":
        raise Refusal(f"x has dtype {x.dtype}, expected numbers.")
    return torch.from_numpy(np.array(x, np.uint8 if x.dtype == np.uint8 else np.float32))
