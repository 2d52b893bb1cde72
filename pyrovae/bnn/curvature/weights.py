"""The weights at their mode, in units of their prior."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import Normal

from pyrovae.bnn.curvature.fisher import base_of_event
from pyrovae.core.errors import PairError
from pyrovae.core.types import nodes_of


@dataclass(frozen=True)
class Weights:
    """w* and the moments of the normal prior N(prior_loc, prior_scale^2), by site in the order of the
    model's sites; P weights in L layers."""

    mode: dict[str, Tensor]
    prior_loc: dict[str, Tensor]
    prior_scale: dict[str, Tensor]

    @classmethod
    def at(
        cls, model: Callable, mode: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> "Weights":
        """Raises: PairError for a prior that is not normal."""
        mode = {name: value.detach() for name, value in mode.items()}
        with torch.no_grad(), poutine.block():
            trace = poutine.trace(poutine.condition(model, data=mode)).get_trace(**batch)
        fns = {name: base_of_event(nodes_of(trace)[name]["fn"]) for name in mode}
        for name, fn in fns.items():
            if not isinstance(fn, Normal):
                raise PairError(
                    f"the prior of {name!r} is a {type(fn).__name__}, expected a Normal, whose precision can be "
                    "fitted. Use bnn.priors.normal or fan_in, or the function `laplace`, which fits none."
                )
        normals = {name: fn for name, fn in fns.items() if isinstance(fn, Normal)}
        return cls(
            mode,
            {name: fn.loc.expand(mode[name].shape).detach() for name, fn in normals.items()},
            {name: fn.scale.expand(mode[name].shape).detach() for name, fn in normals.items()},
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the L layers: of sites without their last part."""
        return tuple(dict.fromkeys(layer_of(site) for site in self.mode))

    @property
    def size(self) -> int:
        """P."""
        return sum(value.numel() for value in self.mode.values())

    @property
    def loc(self) -> Tensor:
        """w* `(P,)`."""
        return flatten(self.mode.values())

    @property
    def scale(self) -> Tensor:
        """`(P,)`."""
        return flatten(self.prior_scale.values())

    def sizes(self) -> Tensor:
        """Weights in each layer, `(L,)`, float64."""
        return self.by_layer({name: torch.ones_like(value) for name, value in self.mode.items()})

    def distances(self) -> Tensor:
        """sum_j ((w*_j - prior_loc_j) / prior_scale_j)^2 of each layer, `(L,)`, float64."""
        return self.by_layer(
            {
                name: ((value - self.prior_loc[name]) / self.prior_scale[name]).double() ** 2
                for name, value in self.mode.items()
            }
        )

    def by_layer(self, values: Mapping[str, Tensor]) -> Tensor:
        """The sums over the sites of each layer, `(L,)`, float64."""
        layers = self.layers
        first = next(iter(values.values()))
        sums = torch.zeros(len(layers), dtype=torch.float64, device=first.device)
        for name, value in values.items():
            sums[layers.index(layer_of(name))] += value.double().sum()
        return sums

    def spread(self, values: Tensor) -> Tensor:
        """One number for each layer, `(L,)`, as one for each weight, `(P,)`."""
        layers = self.layers
        return torch.cat(
            [
                values[layers.index(layer_of(name))].expand(value.numel())
                for name, value in self.mode.items()
            ]
        )

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """Values by site of a vector `(P,)`."""
        parts = flat.split([value.numel() for value in self.mode.values()])
        return {
            name: part.reshape(value.shape)
            for (name, value), part in zip(self.mode.items(), parts)
        }


def flatten(values: Iterable[Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in values])


def layer_of(site: str) -> str:
    """The layer of a weight: "w.layers.0" of "w.layers.0.bias"."""
    return site.rpartition(".")[0]
