"""From trained weights to the posterior that predicts: one class for each construction."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol, cast

import pyro.poutine as poutine
import torch
import torch.nn as nn
from torch import Tensor

import pyrovae as pv
from pyrovae.bnn.guides import Empirical, JointNormal, MeanField, PointEstimate
from pyrovae.bnn.posthoc import laplace, linearize, swag
from pyrovae.bnn.samplers import Chains
from pyrovae.data import Batches, DictDataset
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task

Pair = tuple[nn.Module, nn.Module]
"""Model and guide of one problem."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The networks of a task after training (or, for `rebuild`, with weights read from a file)."""

    loss: nn.Module
    settings: BnnSettings
    task: Task
    members: int = 1
    """Networks of each problem: above 1 for an ensemble."""
    draws: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    """Unconstrained weights kept during training, `(S, R, *shape)`."""
    chains: Chains | None = None

    def network(self, index: int, member: int = 0) -> tuple[pv.Model, nn.Module]:
        """Model and guide of a network of problem `index`, as training left them."""
        loss = self.loss
        own = loss.member(index * self.members + member) if isinstance(loss, pv.Stacked) else loss
        return cast(pv.Model, own.model), cast(nn.Module, own.guide)

    def point(self, index: int, member: int = 0) -> tuple[pv.Model, PointEstimate]:
        model, guide = self.network(index, member)
        return model, cast(PointEstimate, guide)


class Posterior(Protocol):
    """How a method turns what training left into a pair that predicts."""

    @property
    def stored(self) -> bool:
        """Whether the guide holds numbers that the loss does not, so that it has its own file."""

    def pair(self, fitted: Fitted, index: int) -> Pair:
        """Model and guide of problem `index`."""

    def rebuild(self, fitted: Fitted, index: int, num_draws: int) -> Pair:
        """The pair with the structure of `pair`; where `stored`, its numbers are yet to be
        loaded, `num_draws` of them for an empirical posterior."""

    def num_samples(self, fitted: Fitted) -> int:
        """Draws of the weights in every prediction."""


@dataclasses.dataclass(frozen=True)
class OwnGuide:
    """The guide of the loss."""

    single: bool = False
    """A point mass, of which one draw is enough."""
    stored: bool = False

    def pair(self, fitted: Fitted, index: int) -> Pair:
        return fitted.network(index)

    def rebuild(self, fitted: Fitted, index: int, num_draws: int) -> Pair:
        return self.pair(fitted, index)

    def num_samples(self, fitted: Fitted) -> int:
        return 1 if self.single else fitted.settings.num_samples


@dataclasses.dataclass(frozen=True)
class EnsembleOfPoints:
    """The point estimates of all members, equally weighted."""

    stored: bool = False

    def pair(self, fitted: Fitted, index: int) -> Pair:
        model, _ = fitted.network(index)
        values = [fitted.point(index, member)[1].values() for member in range(fitted.members)]
        return model, Empirical(
            {name: torch.stack([value[name] for value in values]) for name in values[0]}
        )

    def rebuild(self, fitted: Fitted, index: int, num_draws: int) -> Pair:
        return self.pair(fitted, index)

    def num_samples(self, fitted: Fitted) -> int:
        return fitted.members


@dataclasses.dataclass(frozen=True)
class SamplerDraws:
    """The weights that a stochastic-gradient sampler visited."""

    stored: bool = True

    def pair(self, fitted: Fitted, index: int) -> Pair:
        model, guide = fitted.point(index)
        return model, Empirical(
            {site.name: site.transform(fitted.draws[site.name][:, index]) for site in guide.sites}
        )

    def rebuild(self, fitted: Fitted, index: int, num_draws: int) -> Pair:
        return _empty_draws(fitted, index, num_draws)

    def num_samples(self, fitted: Fitted) -> int:
        return len(next(iter(fitted.draws.values())))


@dataclasses.dataclass(frozen=True)
class ChainDraws:
    """The draws of the Markov chain of each network."""

    stored: bool = True

    def pair(self, fitted: Fitted, index: int) -> Pair:
        draws = self._chains(fitted).draws
        return fitted.network(index)[0], Empirical(
            {name: value[:, index] for name, value in draws.items()}
        )

    def rebuild(self, fitted: Fitted, index: int, num_draws: int) -> Pair:
        return _empty_draws(fitted, index, num_draws)

    def num_samples(self, fitted: Fitted) -> int:
        return len(self._chains(fitted).accept)

    def _chains(self, fitted: Fitted) -> Chains:
        return cast(Chains, fitted.chains)


@dataclasses.dataclass(frozen=True)
class SwagNormal:
    """A normal with the first two moments of the weights that SGD visited."""

    stored: bool = True

    def pair(self, fitted: Fitted, index: int) -> Pair:
        (model, _), rank = fitted.network(index), fitted.settings.swag_rank
        draws = {name: value[:, index] for name, value in fitted.draws.items()}
        return model, JointNormal(model, rank=rank).set(**swag(draws, rank=rank))

    def rebuild(self, fitted: Fitted, index: int, num_draws: int) -> Pair:
        model, _ = fitted.network(index)
        return model, JointNormal(model, rank=fitted.settings.swag_rank)

    def num_samples(self, fitted: Fitted) -> int:
        return fitted.settings.num_samples


@dataclasses.dataclass(frozen=True)
class LaplaceNormal:
    """A normal at the mode whose precision is the curvature there; other sites than the net's
    weights (the noise variance) stay at their mode."""

    stored: bool = True

    def pair(self, fitted: Fitted, index: int) -> Pair:
        model, guide = fitted.point(index)
        s, task = fitted.settings, fitted.task
        linear = linearize(model, guide.values())
        values = {name: value.detach() for name, value in guide.values().items()}
        net, rest = _split(model, values)
        weights = {name: value for name, value in values.items() if name not in rest}
        split = task.split_of(index, s.seeds)
        rows = DictDataset(**{name: value[split] for name, value in task.train.tensors.items()})
        full = s.laplace != "diagonal"
        loc, spread = laplace(
            poutine.condition(model, data=rest), weights, Batches(rows, 256), full=full
        )
        normal = (
            JointNormal(net).set(loc, scale_tril=spread)
            if full
            else MeanField(net).set(loc, spread)
        )
        return linear, _with_fixed(normal, rest)

    def rebuild(self, fitted: Fitted, index: int, num_draws: int) -> Pair:
        model, guide = fitted.point(index)
        values = guide.values()
        net, rest = _split(model, values)
        normal = MeanField(net) if fitted.settings.laplace == "diagonal" else JointNormal(net)
        return linearize(model, values), _with_fixed(normal, rest)

    def num_samples(self, fitted: Fitted) -> int:
        return fitted.settings.num_samples


def _empty_draws(fitted: Fitted, index: int, num_draws: int) -> Pair:
    model, guide = fitted.point(index)
    values = guide.values()
    return model, Empirical({name: v.new_zeros(num_draws, *v.shape) for name, v in values.items()})


def _split(model: pv.Model, values: Mapping[str, Tensor]) -> tuple[pv.Bayesian, dict[str, Tensor]]:
    """The Bayesian net of a model, and the values of sites other than its weights."""
    net = next(part for part in model.modules() if isinstance(part, pv.Bayesian))
    return net, {
        name: value.detach()
        for name, value in values.items()
        if not name.startswith(f"{net.name}.")
    }


def _with_fixed(normal: nn.Module, values: Mapping[str, Tensor]) -> nn.Module:
    """The guide `normal` joined by point masses at `values`."""
    if not values:
        return normal
    return pv.Joint(
        normal, Empirical({name: value.unsqueeze(0) for name, value in values.items()})
    )
