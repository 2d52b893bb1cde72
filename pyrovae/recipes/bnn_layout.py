"""From a user's arrays to the x and y that a trained Bayesian net knows."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.vae_layout import VaeLayout, Values


@dataclasses.dataclass(frozen=True)
class BnnLayout:
    """How the data of a run are stored, and what they were scaled by.

    data: of its run.json. scales: `x_mean`, `x_scale`, `(1, D)`, where x is scaled, and `y_mean`,
    `y_scale`, `(1, T)`.
    """

    data: Mapping
    scales: Mapping[str, list]

    @property
    def classes(self) -> tuple[int, ...]:
        """The labels as the data have them; none for regression."""
        if self.data["kind"] == "regression":
            return ()
        return tuple(self.data.get("classes") or range(self.data["outputs"]))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features of a table."""
        return tuple(self.data.get("columns") or ())

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        shape = self.data.get("image_shape")
        return None if shape is None else tuple(shape)

    def scale(self, name: str) -> Tensor:
        """One of the scales, float64."""
        return torch.tensor(self.scales[name], dtype=torch.float64)

    def x(self, values: Values) -> Tensor:
        """Features `(N, D)` in the units of the net, float32, from rows `(N, D)` or images in the
        layout and units of the run's.

        Raises: Refusal for other shapes, kinds and ranges.
        """
        shape, levels = self.image_shape, self.data.get("levels")
        if shape is not None or levels == 256:
            event = shape or (self.data["num_features"],)
            pixels = VaeLayout(event, levels, whole=False, binarize="none")
            return pixels.to_model(values).flatten(1)
        x = _numbers(values, "x")
        if x.dim() != 2 or x.shape[1] != self.data["num_features"] or not len(x):
            named = f": {', '.join(self.columns)}" if self.columns else ""
            raise Refusal(
                f"x has shape {tuple(x.shape)}, expected (N, {self.data['num_features']}){named}."
            )
        if "x_mean" in self.scales:
            x = (x - self.scale("x_mean")) / self.scale("x_scale")
        return x.float()

    def y(self, values: Values, rows: int) -> Tensor:
        """Targets in the units of the net, `(N, T)`, or the numbers of classes, `(N,)`.

        Raises: Refusal for other shapes, and for labels that the training data do not have.
        """
        y = _numbers(values, "y")
        if self.classes:
            return self._numbered(y, rows)
        expected = rows, self.data["outputs"]
        if math.prod(y.shape) != math.prod(expected) or y.dim() not in (1, 2) or len(y) != rows:
            raise Refusal(
                f"y has shape {tuple(y.shape)}, expected {expected}, one row for each x."
            )
        return ((y.reshape(expected) - self.scale("y_mean")) / self.scale("y_scale")).float()

    def _numbered(self, y: Tensor, rows: int) -> Tensor:
        known = torch.tensor(self.classes, dtype=torch.float64)
        if y.shape != (rows,):
            raise Refusal(f"y has shape {tuple(y.shape)}, expected ({rows},), a label for each x.")
        if len(unseen := y[~torch.isin(y, known)]):
            raise Refusal(
                f"y holds the class {unseen[0]:g}, which the training data do not have; they have "
                f"{', '.join(map(str, self.classes[:20]))}{', ...' * (len(self.classes) > 20)}."
            )
        return torch.searchsorted(known, y)


def _numbers(values: Values, name: str) -> Tensor:
    """float64 on the CPU. Raises Refusal for what is not numeric or not finite."""
    if not isinstance(values, Tensor):
        array = np.asarray(values)
        if array.dtype.kind not in "fuib":
            raise Refusal(f"{name} has dtype {array.dtype}, expected numbers.")
        values = torch.from_numpy(array.astype(np.float64))
    found = values.detach().cpu().double()
    if found.dim() and not found.isfinite().all():
        row = int((~found.isfinite()).flatten(1 if found.dim() > 1 else 0).nonzero()[0, 0])
        raise Refusal(
            f"{name} holds NaN or infinity, first in row {row}; drop or impute such rows."
        )
    return found
