"""What a curvature is to a posterior."""

from collections.abc import Callable, Iterable
from typing import Protocol

import torch.nn as nn
from torch import Tensor

from pyrovae.bnn.curvature.fisher import FisherOutputs
from pyrovae.bnn.curvature.weights import Weights
from pyrovae.core.types import Batch


class Curvature(Protocol):
    """C = D sum_i F_i D of whitened weights D^-1 w with D the scales of the prior, so that the
    posterior's precision is noise C + diag(precision).

    precision: `(L,)`, a factor of the prior's precision for each layer. noise: `()`, a factor of the
    precision of the observation noise.
    """

    def log_det(self, precision: Tensor, noise: Tensor) -> Tensor:
        """log |noise C + diag(precision)|, float64, differentiable."""

    def guide(self, net: nn.Module, precision: Tensor, noise: Tensor) -> nn.Module:
        """The normal with this precision around w*, as a guide of the weights of `net`."""


class CurvatureOf(Protocol):
    """How curvature is approximated."""

    def __call__(
        self, outputs: FisherOutputs, weights: Weights, data: Iterable[Batch]
    ) -> Curvature:
        """The curvature at the mode, summed over the data."""

    def zero(self, model: Callable, weights: Weights) -> Curvature:
        """The curvature of no data: of the structure that a saved posterior has."""
