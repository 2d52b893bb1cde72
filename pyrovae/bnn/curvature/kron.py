"""Kronecker-factored curvature: a block for each layer, of one factor for its inputs and one for its
outputs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.bnn.curvature.fisher import FisherOutputs
from pyrovae.bnn.curvature.layers import Layer, forget, layers_of, watched
from pyrovae.bnn.curvature.roots import KronRoot, LayerRoot
from pyrovae.bnn.curvature.weights import Weights
from pyrovae.bnn.guides.structured_normal import StructuredNormal
from pyrovae.core.errors import PairError
from pyrovae.core.types import Batch


@dataclass(frozen=True)
class Kron:
    r"""C = A (x) B for each layer, A = sum a a^T of the inputs of the layer with a 1 for the bias, B =
    sum g g^T / N of the gradients of its outputs; nothing between layers.

    Exact for one linear layer under a normal, for one datum and for linear nets, within each layer.
    Convolutions sum over places too (KFC, "expand"). Memory: I^2 + O^2 + I O for a layer of I inputs
    and O outputs, and nothing of P^2.
    Source: Ritter, Botev & Barber 2018, "A scalable Laplace approximation"; Grosse & Martens 2016,
    arXiv:1602.01407 (convolutions); Eschenhagen et al. 2023, arXiv:2311.00636.
    """

    def __call__(
        self, outputs: FisherOutputs, weights: Weights, data: Iterable[Batch]
    ) -> "KronCurvature":
        layers = layers_of(outputs.model, weights.mode)
        sums = [_Sums() for _ in layers]
        with watched(layers), torch.enable_grad():
            for batch in data:
                values = {name: value.requires_grad_() for name, value in _copy(weights).items()}
                batch = outputs.with_draws(weights.mode, batch)
                forget(layers)
                self._add(layers, *outputs.with_masked(values, batch), sums)
        return KronCurvature(
            weights,
            [
                _block(layer, weights, found.inputs, found.gradients / max(1, found.count))
                for layer, found in zip(layers, sums)
            ],
        )

    def zero(self, model: Callable, weights: Weights) -> "KronCurvature":
        zeros = weights.loc.new_zeros((), dtype=torch.float64)
        blocks = []
        for layer in layers_of(model, weights.mode):
            rows = [weights.mode[site] for site in layer.sites]
            outputs, inputs = len(rows[0]), sum(value[0].numel() for value in rows)
            blocks.append(
                _block(
                    layer, weights, zeros.expand(inputs, inputs), zeros.expand(outputs, outputs)
                )
            )
        return KronCurvature(weights, blocks)

    def _add(self, layers: list[Layer], z: Tensor, masked: Tensor, sums: "list[_Sums]") -> None:
        tapped = [output for layer in layers for output in layer.outputs]
        for layer, found in zip(layers, sums):
            for x in layer.inputs:
                features = layer.features(x)
                found.add_inputs(features[~masked] if masked.any() else features)
        for index in range(z.shape[1]):
            gradients = torch.autograd.grad(
                z[:, index].sum(),
                tapped,
                retain_graph=index + 1 < z.shape[1],
                materialize_grads=True,
            )
            rest = iter(gradients)
            for layer, found in zip(layers, sums):
                for _ in layer.outputs:
                    found.add_gradients(layer.gradients(next(rest)))


class _Sums:
    """Sums over data and places of one layer."""

    def __init__(self) -> None:
        self.count = 0
        self.inputs = self.gradients = torch.zeros(())

    def add_inputs(self, features: Tensor) -> None:
        rows = features.flatten(0, 1)
        self.count += len(rows)
        self.inputs = self.inputs.to(rows.device) + (rows.T @ rows).double()

    def add_gradients(self, gradients: Tensor) -> None:
        rows = gradients.flatten(0, 1)
        self.gradients = self.gradients.to(rows.device) + (rows.T @ rows).double()


@dataclass(frozen=True)
class Block:
    """The eigenvalues and eigenvectors of the whitened factors of one layer, float64; `scale` of the
    prior for each input, `(I,)`."""

    layer: str
    weight: str | None
    bias: str | None
    scale: Tensor
    inputs: tuple[Tensor, Tensor]
    outputs: tuple[Tensor, Tensor]

    def eigenvalues(self) -> Tensor:
        """Of A (x) B, `(O, I)`."""
        return self.outputs[0].unsqueeze(-1) * self.inputs[0]


@dataclass(frozen=True)
class KronCurvature:
    weights: Weights
    blocks: list[Block]

    def log_det(self, precision: Tensor, noise: Tensor) -> Tensor:
        total = precision.new_zeros(())
        for block in self.blocks:
            total = total + self._precision(block, precision, noise).log().sum()
        return total

    def guide(self, net: nn.Module, precision: Tensor, noise: Tensor) -> StructuredNormal:
        loc, start, places = self.weights.loc, 0, {}
        for name, value in self.weights.mode.items():
            places[name] = (start, start + value.numel())
            start += value.numel()
        roots = [
            LayerRoot(
                block.scale.to(loc),
                block.inputs[1].to(loc),
                block.outputs[1].to(loc),
                self._precision(block, precision, noise).rsqrt().to(loc),
                weight=None if block.weight is None else places[block.weight],
                bias=None if block.bias is None else places[block.bias],
            )
            for block in self.blocks
        ]
        return StructuredNormal(net, KronRoot(roots)).set(loc)

    def _precision(self, block: Block, precision: Tensor, noise: Tensor) -> Tensor:
        index = self.weights.layers.index(block.layer)
        return noise * block.eigenvalues() + precision[index]


def _block(layer: Layer, weights: Weights, inputs: Tensor, outputs: Tensor) -> Block:
    parts = []
    for site in layer.sites:
        scale = weights.prior_scale[site]
        rows = scale.flatten(1) if site == layer.weight else scale.unsqueeze(-1)
        if not bool((rows == rows[:1]).all()):
            raise PairError(
                f"the prior of {site!r} has scales that differ between the outputs of its layer, so it is no "
                "Kronecker product. Use priors such as normal or fan_in, or Full(), LowRank() or Diagonal()."
            )
        parts.append(rows[0])
    scale = torch.cat(parts).double()
    return Block(
        layer.name,
        layer.weight,
        layer.bias,
        scale,
        _eigen(scale.unsqueeze(-1) * inputs * scale),
        _eigen(outputs),
    )


def _eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(matrix)
    return values.clamp_min(0.0), vectors


def _copy(weights: Weights) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in weights.mode.items()}
