"""Programs as wiring: conditionals (modules that return distributions) joined into Pyro sample
sites."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import cast

import pyro
import torch.nn as nn
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyrovae.core.param_store import register_params
from pyrovae.core.shapes import data_plate
from pyrovae.programs.bayesian import drawn
from pyrovae.programs.nodes import Global, Node, Value


class Model(nn.Module):
    r"""The generative program: p(sites | data) = \prod_i p(site_i | parents_i), in the order of
    the keywords.

    `model(**data)` observes each site that `data` names and samples the others; `model(num=16)`
    samples everything for 16 data. Names in `data` that are not sites are conditions that nodes
    may name as parents; those that no node names are ignored. Returns all values by name, each
    `(K, B, *event)` as open plates require. All sites lie in plate "data" at dim -1, except
    `Global` nodes and the weights of `Bayesian` nets, which come first.

    Raises: ValueError for a node whose parents come later or nowhere, for data of unequal leading
    size, and for data that name a `Global` site.

    Example:
        >>> import torch
        >>> from pyrovae.heads import BernoulliHead
        >>> from pyrovae.nets import MLP
        >>> from pyrovae.priors import StandardNormal
        >>> model = Model(z=StandardNormal(2), x=Node(BernoulliHead(MLP(2, [8], 4)), "z"))
        >>> model(num=3)["x"].shape
        torch.Size([3, 4])
    """

    def __init__(self, **nodes: nn.Module | Node) -> None:
        super().__init__()
        self.nodes = _as_nodes(nodes)

    def forward(self, num: int | None = None, **data: Tensor) -> dict[str, Tensor]:
        register_params(self, "model")
        values = {name: value for name, value in data.items() if value is not None}
        size = plate_size(num, values)
        with drawn(self):
            shared = _sample_globals("Model", self.nodes, values)
            values |= shared
            with data_plate(size):
                for name, node in _items(self.nodes):
                    if name in shared:
                        continue
                    _check_parents("Model", name, node, values)
                    values[name] = (
                        node(values)
                        if isinstance(node, Value)
                        else pyro.sample(
                            name, node(values), obs=values.get(name), infer=node.infer
                        )
                    )
        return values

    def draw_globals(self) -> dict[str, Tensor]:
        """Sample the `Global` nodes alone."""
        return _sample_globals("Model", self.nodes, {})


class Guide(nn.Module):
    r"""The amortised posterior: q(sites | data) = \prod_i q(site_i | parents_i), in the order of
    the keywords.

    Like `Model`, but a site that `data` already supplies is skipped (nothing is left to infer),
    never observed: one guide serves labelled and unlabelled batches. Returns the values it
    sampled, `(K, B, *event)`.

    Raises: ValueError as `Model` does.

    Example:
        >>> import torch
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> guide = Guide(z=Node(NormalHead(MLP(4, [8], 2 * 2)), "x"))
        >>> guide(x=torch.zeros(3, 4))["z"].shape
        torch.Size([3, 2])
    """

    def __init__(self, **nodes: nn.Module | Node) -> None:
        super().__init__()
        self.nodes = _as_nodes(nodes)

    def forward(self, num: int | None = None, **data: Tensor) -> dict[str, Tensor]:
        register_params(self, "guide")
        values = {name: value for name, value in data.items() if value is not None}
        sampled = _sample_globals("Guide", self.nodes, values)
        if all(isinstance(node, Global) for node in self.nodes.values()):
            return sampled  # there need be no data
        size = plate_size(num, values)
        values |= sampled
        with data_plate(size):
            for name, node in _items(self.nodes):
                if name in values:
                    continue
                _check_parents("Guide", name, node, values)
                if isinstance(node, Value):
                    values[name] = node(values)
                else:
                    values[name] = sampled[name] = pyro.sample(
                        name, node(values), infer=node.infer
                    )
        return sampled


class Joint(nn.Module):
    r"""Several programs run one after another on the same data, q(w) q(z | x): their sites are
    independent factors.

    Takes any callables (`Guide`s, Pyro functions, autoguides); returns the values of those that
    return mappings.

    Example:
        >>> import torch
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> def guide(size): return Guide(**{size: Node(NormalHead(MLP(4, [8], 2 * 2)), "x")})
        >>> sorted(Joint(guide("a"), guide("b"))(x=torch.zeros(3, 4)))
        ['a', 'b']
    """

    def __init__(self, *programs: Callable) -> None:
        super().__init__()
        self.programs = programs
        self.registered = nn.ModuleList(
            program for program in programs if isinstance(program, nn.Module)
        )

    def forward(self, *args: object, **data: Tensor) -> dict[str, Tensor]:
        results = []
        for index, program in enumerate(
            self.programs
        ):  # each may open plate "data", but a trace accepts its index site once
            with poutine.block(hide_fn=site_is_subsample) if index else nullcontext():
                results.append(program(*args, **data))
        return {
            name: value
            for result in results
            if isinstance(result, Mapping)
            for name, value in result.items()
        }


def _as_nodes(nodes: Mapping[str, nn.Module | Node]) -> nn.ModuleDict:
    if not nodes:
        raise ValueError(
            "a program needs at least one node, e.g. Model(z=prior, x=Node(decoder, 'z'))."
        )
    return nn.ModuleDict(
        {
            name: node if isinstance(node, (Node, Value)) else Node(node)
            for name, node in nodes.items()
        }
    )


def _items(nodes: nn.ModuleDict) -> Iterable[tuple[str, "Node | Value"]]:
    return cast("Iterable[tuple[str, Node | Value]]", nodes.items())


def _sample_globals(
    program: str, nodes: nn.ModuleDict, data: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    given = [name for name, node in nodes.items() if isinstance(node, Global) and name in data]
    if given:
        raise ValueError(
            f"the data name the Global sites {given}, which have one value for all data, not one for each. "
            "Fix them by pyro.condition(model, data={...})."
        )
    values: dict[str, Tensor] = {}
    for name, node in nodes.items():
        if isinstance(node, Global):
            _check_parents(program, name, node, values)
            values[name] = pyro.sample(name, node(values), infer=node.infer)
    return values


def plate_size(num: int | None, data: Mapping[str, Tensor]) -> int:
    """B, from `num` or from the leading size of the data."""
    sizes: dict[str, int | None] = {
        name: value.shape[0] if value.dim() else None
        for name, value in data.items()
        if isinstance(value, Tensor)
    }
    found = set(sizes.values()) | ({num} if num is not None else set())
    size = next(iter(found), None)
    if size is None or len(found) != 1:
        seen = ", ".join(f"{name}: {tuple(data[name].shape)}" for name in sizes) or "no tensor"
        raise ValueError(
            f"the size of plate 'data' is not defined by {seen}"
            + (f" and num={num}" if num is not None else "")
            + ". Give data tensors of one leading size B, as keywords, or num=B to sample without data."
        )
    return size


def _check_parents(
    program: str, name: str, node: Node | Value, values: Mapping[str, Tensor]
) -> None:
    missing = [parent for parent in node.parents if parent not in values]
    if missing:
        kind = "value" if isinstance(node, Value) else "site"
        raise ValueError(
            f"{program} {kind} {name!r} depends on {missing}, but at that point only {sorted(values)} are "
            "known. Order the keywords so that parents come first, or supply the missing data."
        )
