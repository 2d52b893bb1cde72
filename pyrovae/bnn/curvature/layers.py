"""Inputs of linear and convolutional layers and the gradients of their outputs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from pyrovae.core.errors import PairError
from pyrovae.core.modules import find_modules
from pyrovae.programs.bayesian import Bayesian


@dataclass
class Layer:
    """A layer of a `Bayesian` net whose weights are sites, and what it saw in the latest pass."""

    name: str
    module: nn.Module
    weight: str | None
    bias: str | None
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)

    @property
    def sites(self) -> list[str]:
        return [site for site in (self.weight, self.bias) if site is not None]

    def features(self, x: Tensor) -> Tensor:
        """`(B, T, I)`: what the weights into one output multiply, with a 1 for the bias, at each of the
        T places where the layer is applied."""
        if isinstance(self.module, nn.Conv2d):
            conv = self.module
            mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
            x = F.pad(x, conv._reversed_padding_repeated_twice, mode)
            patches = F.unfold(x, conv.kernel_size, dilation=conv.dilation, stride=conv.stride)
            x = patches.transpose(1, 2)
        else:
            x = x.reshape(len(x), -1, x.shape[-1])
        parts = [] if self.weight is None else [x]
        if self.bias is not None:
            parts.append(x.new_ones(*x.shape[:2], 1))
        return torch.cat(parts, -1)

    def gradients(self, gradient: Tensor) -> Tensor:
        """`(B, T, O)`: the gradient of an output at each of the T places."""
        if isinstance(self.module, nn.Conv2d):
            return gradient.flatten(2).transpose(1, 2)
        return gradient.reshape(len(gradient), -1, gradient.shape[-1])


def layers_of(model: Callable, sites: Mapping[str, Tensor]) -> list[Layer]:
    """The layers that hold the sites, in their order.

    Raises: PairError for sites of other modules, and for those that several modules hold.
    """
    found: dict[str, Layer] = {}
    for program in find_modules(model).values():
        for part in program.modules():
            if not isinstance(part, Bayesian):
                continue
            _refuse_tied(part, sites)
            for name, module in part.net.named_modules():
                layer = f"{part.name}.{name}" if name else part.name
                weight, bias = f"{layer}.weight", f"{layer}.bias"
                if weight in sites or bias in sites:
                    found[layer] = Layer(
                        layer,
                        module,
                        weight if weight in sites else None,
                        bias if bias in sites else None,
                    )
    layers = [layer for layer in found.values() if _is_known(layer.module)]
    others = sorted(set(sites) - {site for layer in layers for site in layer.sites})
    if others:
        raise PairError(
            f"sites {others} are not weights of nn.Linear or nn.Conv2d (without groups), which alone have a "
            "Kronecker-factored curvature. Use Diagonal(), Full() or LowRank(), or a prior on the other "
            "layers alone, e.g. last_layer(net)."
        )
    order = list(sites)
    return sorted(layers, key=lambda layer: order.index(layer.sites[0]))


@contextmanager
def watched(layers: list[Layer]) -> Iterator[None]:
    """Within it each pass adds to the layers' `inputs` and `outputs`."""

    def keep(layer: Layer) -> Callable:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            layer.inputs.append(args[0].detach())
            layer.outputs.append(output)
            return output.clone()  # activations may work in place

        return hook

    handles = [layer.module.register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        forget(layers)


def forget(layers: list[Layer]) -> None:
    for layer in layers:
        layer.inputs.clear()
        layer.outputs.clear()


def _refuse_tied(part: Bayesian, sites: Mapping[str, Tensor]) -> None:
    """Raise PairError for a site that several modules hold: the sums are those of one of them."""
    names: dict[Tensor, list[str]] = {}
    for name, module in part.net.named_modules():
        for key, value in module.named_parameters(name, recurse=False):
            names.setdefault(value, []).append(f"{part.name}.{key}")
    for value in names.values():
        if len(value) > 1 and value[0] in sites:
            raise PairError(
                f"{value[0]!r} and {value[1:]} are one weight of several layers, which has no Kronecker-factored "
                "curvature. Use Diagonal(), Full() or LowRank(), or untie them."
            )


def _is_known(module: nn.Module) -> bool:
    """A layer that applies its weights as they are; subclasses may compute something else."""
    forward = type(module).forward
    if isinstance(module, nn.Linear):
        return forward is nn.Linear.forward
    return isinstance(module, nn.Conv2d) and forward is nn.Conv2d.forward and module.groups == 1
