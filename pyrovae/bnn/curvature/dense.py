"""The full curvature, and its diagonal."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.bnn.curvature.fisher import FisherOutputs
from pyrovae.bnn.curvature.jacobian import jacobian_rows
from pyrovae.bnn.curvature.weights import Weights
from pyrovae.bnn.guides import JointNormal, MeanField
from pyrovae.core.types import Batch


@dataclass(frozen=True)
class Full:
    """All of the curvature, (P, P)."""

    def __call__(
        self, outputs: FisherOutputs, weights: Weights, data: Iterable[Batch]
    ) -> "FullCurvature":
        total = weights.loc.new_zeros(weights.size, weights.size, dtype=torch.float64)
        for rows in jacobian_rows(outputs, weights, data):
            total += rows.T @ rows
        return FullCurvature(weights, total)

    def zero(self, model: Callable, weights: Weights) -> "FullCurvature":
        size = weights.size
        return FullCurvature(weights, weights.loc.new_zeros(size, size, dtype=torch.float64))


@dataclass(frozen=True)
class Diagonal:
    """The diagonal alone: cheap for any net, and knows nothing of how weights trade off."""

    def __call__(
        self, outputs: FisherOutputs, weights: Weights, data: Iterable[Batch]
    ) -> "DiagonalCurvature":
        total = weights.loc.new_zeros(weights.size, dtype=torch.float64)
        for rows in jacobian_rows(outputs, weights, data):
            total += (rows**2).sum(0)
        return DiagonalCurvature(weights, total)

    def zero(self, model: Callable, weights: Weights) -> "DiagonalCurvature":
        return DiagonalCurvature(weights, weights.loc.new_zeros(weights.size, dtype=torch.float64))


@dataclass(frozen=True)
class FullCurvature:
    weights: Weights
    matrix: Tensor

    @cached_property
    def eigenvalues(self) -> Tensor:
        return torch.linalg.eigvalsh(self.matrix).clamp_min(0.0)

    def log_det(self, precision: Tensor, noise: Tensor) -> Tensor:
        if len(precision) == 1 or precision.stride() == (0,):
            return (noise * self.eigenvalues + precision[0]).log().sum()
        root = torch.linalg.cholesky(self._precision(precision, noise))
        return 2.0 * root.diagonal().log().sum()

    def guide(self, net: nn.Module, precision: Tensor, noise: Tensor) -> JointNormal:
        scale = self.weights.scale.double()
        tril = scale.unsqueeze(-1) * root_of_inverse(self._precision(precision, noise))
        loc = self.weights.loc
        return JointNormal(net).to(loc).set(loc, scale_tril=tril.to(loc))

    def _precision(self, precision: Tensor, noise: Tensor) -> Tensor:
        return noise * self.matrix + torch.diag(self.weights.spread(precision))


@dataclass(frozen=True)
class DiagonalCurvature:
    weights: Weights
    diagonal: Tensor

    def log_det(self, precision: Tensor, noise: Tensor) -> Tensor:
        return self._precision(precision, noise).log().sum()

    def guide(self, net: nn.Module, precision: Tensor, noise: Tensor) -> MeanField:
        loc, scale = self.weights.loc, self.weights.scale
        deviation = scale * self._precision(precision, noise).rsqrt().to(scale)
        return MeanField(net).to(loc).set(loc, deviation)

    def _precision(self, precision: Tensor, noise: Tensor) -> Tensor:
        return noise * self.diagonal + self.weights.spread(precision)


def root_of_inverse(matrix: Tensor) -> Tensor:
    """The lower Cholesky factor of the inverse of a positive definite matrix."""
    # H = U U^T with U upper (the Cholesky factor of H with its rows and columns flipped), so
    # H^{-1} = U^{-T} U^{-1}, and U^{-T} is lower
    upper = torch.linalg.cholesky(matrix.flip(0, 1)).flip(0, 1)
    eye = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.solve_triangular(upper.T, eye, upper=False).tril()
