"""The leading eigenvectors of the curvature."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.bnn.curvature.fisher import FisherOutputs
from pyrovae.bnn.curvature.products import products
from pyrovae.bnn.curvature.roots import LowRankRoot
from pyrovae.bnn.curvature.weights import Weights
from pyrovae.bnn.guides.structured_normal import StructuredNormal
from pyrovae.core.types import Batch


@dataclass(frozen=True)
class LowRank:
    r"""C = U diag(lambda) U^T of the `rank` leading eigenvalues, by randomised subspace iteration with
    products of the curvature and vectors: `rounds` + 1 passes through the data, memory P (rank +
    `oversampling`).

    Source: Halko, Martinsson & Tropp 2011, arXiv:0909.4061, algorithms 4.4 and 5.3.
    """

    rank: int = 50
    oversampling: int = 10
    rounds: int = 3

    def __post_init__(self) -> None:
        if self.rank < 1 or self.oversampling < 0 or self.rounds < 0:
            raise ValueError(
                f"rank={self.rank}, oversampling={self.oversampling}, rounds={self.rounds}, expected a rank of "
                "at least 1 and no negative number."
            )

    def __call__(
        self, outputs: FisherOutputs, weights: Weights, data: Iterable[Batch]
    ) -> "LowRankCurvature":
        loc, size = weights.loc, weights.size
        rank = min(self.rank, size)
        basis = torch.randn(size, min(size, rank + self.oversampling)).to(loc)
        for _ in range(self.rounds):
            basis = torch.linalg.qr(basis)[0]
            basis = products(outputs, weights, data, basis)
        basis = torch.linalg.qr(basis)[0]
        small = basis.T @ products(outputs, weights, data, basis)
        values, vectors = torch.linalg.eigh(0.5 * (small + small.T).double())
        leading = basis @ vectors[:, -rank:].to(basis)
        return LowRankCurvature(weights, values[-rank:].clamp_min(0.0), leading)

    def zero(self, model: Callable, weights: Weights) -> "LowRankCurvature":
        loc, rank = weights.loc, min(self.rank, weights.size)
        values = loc.new_zeros(rank, dtype=torch.float64)
        return LowRankCurvature(weights, values, loc.new_zeros(len(loc), rank))


class LowRankCurvature:
    """C = U diag(lambda) U^T with orthonormal U `(P, r)`."""

    def __init__(self, weights: Weights, eigenvalues: Tensor, directions: Tensor) -> None:
        self.weights, self.eigenvalues, self.directions = weights, eigenvalues, directions
        rows = directions * eigenvalues.sqrt().to(directions)
        index = weights.spread(torch.arange(len(weights.layers), device=rows.device))
        self.products = torch.stack(
            [
                (rows[index == layer].T @ rows[index == layer]).double()
                for layer in range(len(weights.layers))
            ]
        )
        """diag(lambda)^(1/2) U_l^T U_l diag(lambda)^(1/2) of the rows of each layer, `(L, r, r)`."""

    def log_det(self, precision: Tensor, noise: Tensor) -> Tensor:
        small = noise * torch.einsum("l,lij->ij", 1.0 / precision, self.products)
        root = torch.linalg.cholesky(small + torch.eye(len(small)).to(small))
        sizes = self.weights.sizes().to(precision)
        return (sizes * precision.log()).sum() + 2.0 * root.diagonal().log().sum()

    def guide(self, net: nn.Module, precision: Tensor, noise: Tensor) -> StructuredNormal:
        small = noise * torch.einsum("l,lij->ij", 1.0 / precision, self.products)
        squares, turn = torch.linalg.eigh(small)
        squares = squares.clamp_min(0.0)
        spread = self.weights.spread(precision).rsqrt().to(self.directions)
        rows = self.directions * self.eigenvalues.sqrt().to(self.directions)
        directions = spread.unsqueeze(-1) * rows @ (turn * noise.sqrt()).to(rows)
        used = squares > 1e-12 * squares.amax()
        lengths = torch.where(used, squares, torch.ones_like(squares)).sqrt()
        directions = torch.where(used, 1.0 / lengths, 0.0).to(rows) * directions
        shrink = torch.where(used, 1.0 - (1.0 + squares).rsqrt(), 0.0).to(rows)
        root = LowRankRoot(self.weights.scale * spread, directions, shrink)
        return StructuredNormal(net, root).set(self.weights.loc)
