"""Linear maps R from standard normal noise to weights, of covariance R R^T."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.bnn.guides.structured_normal import Root


class KronRoot(Root):
    """R of Kronecker-factored curvature: a `LayerRoot` for each layer. Shapes: `(..., P) -> (..., P)`."""

    def __init__(self, layers: "Sequence[LayerRoot]") -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, noise: Tensor) -> Tensor:
        pieces = [piece for layer in self.layers for piece in layer(noise)]
        return torch.cat([piece for _, piece in sorted(pieces, key=lambda each: each[0])], -1)

    def log_det(self) -> Tensor:
        layers = cast("Iterable[LayerRoot]", self.layers)
        return torch.stack([layer.log_det() for layer in layers]).sum()


class LayerRoot(nn.Module):
    r"""W = U_B (s * E) U_A^T diag(scale) of one layer, E standard normal `(O, I)`: the matrix normal
    with precision A (x) B + delta in its eigenbasis, exactly.

    deviation: s, `(O, I)`. weight, bias: their places in the vector of all weights; the bias is the
    last of the I inputs.
    """

    scale: Tensor
    inputs: Tensor
    outputs: Tensor
    deviation: Tensor

    def __init__(
        self,
        scale: Tensor,
        inputs: Tensor,
        outputs: Tensor,
        deviation: Tensor,
        *,
        weight: tuple[int, int] | None,
        bias: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        for name, value in {
            "scale": scale,
            "inputs": inputs,
            "outputs": outputs,
            "deviation": deviation,
        }.items():
            self.register_buffer(name, value)

    def forward(self, noise: Tensor) -> list[tuple[int, Tensor]]:
        rows, columns = self.deviation.shape
        parts = []
        if self.weight is not None:
            flat = noise[..., slice(*self.weight)]
            width = columns - (self.bias is not None)
            parts.append(flat.reshape(*flat.shape[:-1], rows, width))
        if self.bias is not None:
            parts.append(noise[..., slice(*self.bias)].unsqueeze(-1))
        values = (
            self.outputs @ (self.deviation * torch.cat(parts, -1)) @ self.inputs.T * self.scale
        )
        pieces = []
        if self.bias is not None:
            pieces.append((self.bias[0], values[..., -1]))
            values = values[..., :-1]
        if self.weight is not None:
            pieces.append((self.weight[0], values.flatten(-2)))
        return pieces

    def log_det(self) -> Tensor:
        return self.deviation.log().sum() + len(self.deviation) * self.scale.log().sum()


class LowRankRoot(Root):
    r"""R = diag(deviation) (I - V diag(shrink) V^T), with orthonormal columns V `(P, r)`: standard
    deviations of the prior, smaller along the directions that the data determine."""

    deviation: Tensor
    directions: Tensor
    shrink: Tensor

    def __init__(self, deviation: Tensor, directions: Tensor, shrink: Tensor) -> None:
        super().__init__()
        self.register_buffer("deviation", deviation)
        self.register_buffer("directions", directions)
        self.register_buffer("shrink", shrink)

    def forward(self, noise: Tensor) -> Tensor:
        change = (noise @ self.directions * self.shrink) @ self.directions.T
        return self.deviation * (noise - change)

    def log_det(self) -> Tensor:
        return self.deviation.log().sum() + torch.log1p(-self.shrink).sum()
