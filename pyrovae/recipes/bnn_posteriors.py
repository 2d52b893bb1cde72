"""Posteriors made of trained weights: one class for each construction."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import torch
import torch.nn as nn
from torch import Tensor

import pyrovae as pv
from pyrovae import metrics
from pyrovae.bnn.guides import Empirical, JointNormal, PointEstimate
from pyrovae.bnn.posthoc import swag
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
    """Networks of each problem: above 1 for an ensemble, and for several chains."""
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
    """How a method constructs the pair that predicts."""

    @property
    def stored(self) -> bool:
        """Whether the guide has state that the loss does not, and so a file of its own."""

    def pair(self, fitted: Fitted, index: int) -> Pair:
        """Model and guide of problem `index`."""

    def rebuild(self, fitted: Fitted, index: int, num_draws: int) -> Pair:
        """A pair of the structure of `pair`; if `stored`, the state of the guide is still to be
        loaded. num_draws: the size of an empirical posterior."""

    def num_samples(self, fitted: Fitted) -> int:
        """Weight samples in every prediction."""


@dataclasses.dataclass(frozen=True)
class OwnGuide:
    """The guide of the loss."""

    single: bool = False
    """Whether it is a point mass, for which one sample is enough."""
    stored: bool = False

    def pair(self, fitted: Fitted, index: int) -> Pair:
        return fitted.network(index)

    def rebuild(self, fitted: Fitted, index: int, num_draws: int) -> Pair:
        return self.pair(fitted, index)

    def num_samples(self, fitted: Fitted) -> int:
        return 1 if self.single else fitted.settings.run.num_samples


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
class StackedEnsemble:
    """The point estimates of all members, each as often among `--draws` as its weight by stacking on
    the validation data says; equally often for a task without such data."""

    stored: bool = True

    def pair(self, fitted: Fitted, index: int) -> Pair:
        model, _ = fitted.network(index)
        points = [fitted.point(index, member) for member in range(fitted.members)]
        counts = metrics.as_counts(self._weights(fitted, index, points), self._size(fitted))
        rows = torch.arange(fitted.members).repeat_interleave(torch.tensor(counts))
        values = [guide.values() for _, guide in points]
        return model, Empirical(
            {name: torch.stack([value[name] for value in values])[rows] for name in values[0]}
        )

    def rebuild(self, fitted: Fitted, index: int, num_draws: int) -> Pair:
        return _empty_draws(fitted, index, num_draws)

    def num_samples(self, fitted: Fitted) -> int:
        return self._size(fitted)

    def _size(self, fitted: Fitted) -> int:
        return max(fitted.members, fitted.settings.inference.draws)

    def _weights(
        self, fitted: Fitted, index: int, points: Sequence[tuple[pv.Model, PointEstimate]]
    ) -> Tensor:
        valid = fitted.task.valid
        if valid is None:
            return torch.full((len(points),), 1 / len(points))
        split = fitted.task.split_of(index, fitted.settings.run.seeds)
        held_out = DictDataset(**{name: value[split] for name, value in valid.tensors.items()})
        log_p = [
            pv.log_predictive(model, guide, Batches(held_out, 1000), num_samples=1)
            for model, guide in points
        ]
        return metrics.stacking_weights(torch.stack(log_p))


@dataclasses.dataclass(frozen=True)
class SamplerDraws:
    """The draws of a stochastic-gradient sampler."""

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
    """The draws of the Markov chains of each network, chain after chain."""

    stored: bool = True

    def pair(self, fitted: Fitted, index: int) -> Pair:
        own = slice(index * fitted.members, (index + 1) * fitted.members)
        draws = self._chains(fitted).draws
        return fitted.network(index)[0], Empirical(
            {name: value[:, own].transpose(0, 1).flatten(0, 1) for name, value in draws.items()}
        )

    def rebuild(self, fitted: Fitted, index: int, num_draws: int) -> Pair:
        return _empty_draws(fitted, index, num_draws)

    def num_samples(self, fitted: Fitted) -> int:
        return len(self._chains(fitted).accept) * fitted.members

    def _chains(self, fitted: Fitted) -> Chains:
        return cast(Chains, fitted.chains)


@dataclasses.dataclass(frozen=True)
class SwagNormal:
    """A normal with the moments of the weights during training."""

    stored: bool = True

    def pair(self, fitted: Fitted, index: int) -> Pair:
        (model, _), rank = fitted.network(index), fitted.settings.inference.swag_rank
        draws = {name: value[:, index] for name, value in fitted.draws.items()}
        return model, JointNormal(model, rank=rank).set(**swag(draws, rank=rank))

    def rebuild(self, fitted: Fitted, index: int, num_draws: int) -> Pair:
        model, _ = fitted.network(index)
        return model, JointNormal(model, rank=fitted.settings.inference.swag_rank)

    def num_samples(self, fitted: Fitted) -> int:
        return fitted.settings.run.num_samples


def _empty_draws(fitted: Fitted, index: int, num_draws: int) -> Pair:
    model, guide = fitted.point(index)
    values = guide.values()
    return model, Empirical({name: v.new_zeros(num_draws, *v.shape) for name, v in values.items()})
