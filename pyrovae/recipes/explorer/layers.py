"""Nets and heads as lists of layers that `net.js` computes, one datum at a time, on flat arrays."""

import math
from collections.abc import Callable

import torch.nn as nn

from pyrovae.nets import MLP, Batched, ConvDecoder, ConvEncoder, GatedMLP, Standardized
from pyrovae.recipes.refusal import Refusal

Layer = dict[str, object]
"""The name of an operation, `op`, with its numbers, shapes and tensors."""
Shape = tuple[int, ...]
Layers = tuple[list[Layer], Shape]
"""What a module computes, and the shape of its output."""


def layers_of(module: nn.Module, shape: Shape) -> Layers:
    """The layers of a net with inputs of `shape`.

    Raises: Refusal for a module that `net.js` does not know.

    Example:
        >>> layers, shape = layers_of(MLP(2, [8], (1, 4, 4)), (2,))
        >>> [layer["op"] for layer in layers], shape
        (['linear', 'relu', 'linear'], (1, 4, 4))
    """
    if type(module) in ACTIVATIONS:
        return [{"op": ACTIVATIONS[type(module)]}], shape
    known = MODULES.get(type(module))
    if known is None:
        raise Refusal(f"the page does not know how to compute {type(module).__name__}.")
    return known(module, shape)


def _sequential(modules: nn.Sequential, shape: Shape) -> Layers:
    layers: list[Layer] = []
    for module in modules:
        some, shape = layers_of(module, shape)
        layers += some
    return layers, shape


def _linear(module: nn.Linear, shape: Shape) -> Layers:
    return [{"op": "linear", "weight": module.weight, "bias": module.bias}], (module.out_features,)


def _mlp(module: MLP, shape: Shape) -> Layers:
    return layers_of(module.layers, shape)[0], tuple(module.out_shape)


def _gated(module: GatedMLP, shape: Shape) -> Layers:
    *gated, last = (layers_of(layer, shape)[0] for layer in module.layers)
    glu: Layer = {"op": "glu"}
    layers = [one for layer in gated for one in (*layer, glu)]
    return [*layers, *last], tuple(module.out_shape)


def _standardized(module: Standardized, shape: Shape) -> Layers:
    layers, out = layers_of(module.net, shape)
    if (module.mean == 0).all() and (module.scale == 1).all():
        return layers, out
    mean, scale = (values.expand(shape).flatten() for values in (module.mean, module.scale))
    return [{"op": "standardize", "mean": mean, "scale": scale}, *layers], out


def _convolution(
    module: nn.Conv2d | nn.ConvTranspose2d, op: str, out: Shape, shape: Shape
) -> Layers:
    layer: Layer = {"op": op, "weight": module.weight, "bias": module.bias, "in": list(shape)}
    rest: Layer = {"out": list(out), "stride": module.stride[0], "padding": int(module.padding[0])}
    return [layer | rest], out


def _conv(module: nn.Conv2d, shape: Shape) -> Layers:
    padding, kernel, stride = int(module.padding[0]), module.kernel_size[0], module.stride[0]
    size = [(length + 2 * padding - kernel) // stride + 1 for length in shape[1:]]
    return _convolution(module, "convolution", (module.out_channels, *size), shape)


def _conv_transpose(module: nn.ConvTranspose2d, shape: Shape) -> Layers:
    padding, kernel, stride = int(module.padding[0]), module.kernel_size[0], module.stride[0]
    size = [
        (length - 1) * stride - 2 * padding + kernel + grow
        for length, grow in zip(shape[1:], module.output_padding, strict=True)
    ]
    out = (module.out_channels, *size)
    return _convolution(module, "transposed-convolution", out, shape)


def _batched(module: Batched, shape: Shape) -> Layers:
    return layers_of(module.net, shape)


ACTIVATIONS = {nn.Tanh: "tanh", nn.ReLU: "relu", nn.SiLU: "silu", nn.ELU: "elu"}
MODULES: dict[type, Callable[..., Layers]] = {
    nn.Sequential: _sequential,
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _conv_transpose,
    nn.Flatten: lambda module, shape: ([], (math.prod(shape),)),
    nn.Unflatten: lambda module, shape: ([], tuple(module.unflattened_size)),
    MLP: _mlp,
    GatedMLP: _gated,
    ConvEncoder: _batched,
    ConvDecoder: _batched,
    Batched: _batched,
    Standardized: _standardized,
}
