"""Graphs of operations as functions of tensors alone."""

import random
from collections.abc import Mapping
from operator import attrgetter

import numpy as np
import torch
from torch import Tensor, fx


def has_known_shape(value: object) -> bool:
    """Whether the shape of an operation's result is independent of values."""
    if isinstance(value, (list, tuple)):
        return all(map(has_known_shape, value))
    return (
        value is None
        or isinstance(value, Tensor)
        and all(isinstance(size, int) for size in value.shape)
    )


def without_aliases(batch: Mapping[str, Tensor]) -> list[Tensor]:
    """Its tensors, in copies where one has two names: tracing would merge them into one input."""
    seen: set[int] = set()
    result = []
    for value in batch.values():
        result.append(value.clone() if id(value) in seen else value)
        seen.add(id(value))
    return result


def kinds_of(batch: Mapping[str, Tensor]) -> str:
    """Names, shapes and dtypes of a batch, as text."""
    return ", ".join(
        f"{name} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        if isinstance(value, Tensor)
        else f"{name} {type(value).__name__}"
        for name, value in batch.items()
    )


def layout_of(tensor: Tensor) -> tuple[torch.Size, tuple[int, ...], torch.dtype, torch.device]:
    """Shape, strides, dtype and device: what a graph is valid for."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def lift(graph: fx.GraphModule) -> list[Tensor]:
    """Turn the tensors that the program closed over into inputs of the graph, and return them in
    the order of those inputs."""
    nodes: dict[str, fx.Node] = {}
    constants: list[Tensor] = []
    last = [node for node in graph.graph.nodes if node.op == "placeholder"][-1:]
    for node in list(graph.graph.nodes):
        if node.op != "get_attr":
            continue
        if node.target not in nodes:
            with (
                graph.graph.inserting_after(last[-1])
                if last
                else graph.graph.inserting_before(node)
            ):
                nodes[node.target] = graph.graph.placeholder(f"constant_{len(nodes)}")
            constants.append(attrgetter(node.target)(graph))
            nodes[node.target].meta["val"] = constants[-1].detach()
            last.append(nodes[node.target])
        node.replace_all_uses_with(nodes[node.target])
        graph.graph.erase_node(node)
    graph.graph.set_codegen(fx.graph.CodeGen())  # flat arguments, a flat result
    graph.recompile()
    return constants


def are_close(expected: list[Tensor], seen: list[Tensor]) -> bool:
    """Whether results are equal up to rounding, each relative to its largest number."""
    return [tensor.shape for tensor in expected] == [tensor.shape for tensor in seen] and all(
        map(_is_close, expected, seen)
    )


def _is_close(one: Tensor, other: Tensor) -> bool:
    if not one.is_floating_point() or one.dtype != other.dtype:
        one, other = one.double(), other.double()
    size = one.abs().max() if one.numel() else torch.zeros(())
    if size.isfinite():
        return not one.numel() or bool((one - other).abs().max() <= 1e-5 * size)
    finite = one[one.isfinite()]
    return torch.allclose(
        one,
        other,
        rtol=0.0,
        equal_nan=True,
        atol=1e-5 * float(finite.abs().max()) if finite.numel() else 0.0,
    )


def python_random_state() -> tuple:
    """The state of Python's and numpy's generators, which a graph cannot draw from."""
    return random.getstate(), str(np.random.get_state(legacy=False))
