"""Laplace's approximation of a network trained to its mode."""

import dataclasses
from collections.abc import Mapping

import pyro.poutine as poutine
import torch.nn as nn
from torch import Tensor

import pyrovae as pv
from pyrovae.bnn.guides import Empirical, JointNormal, MeanField
from pyrovae.bnn.posthoc import laplace, linearize
from pyrovae.data import Batches, DictDataset
from pyrovae.recipes.bnn_posteriors import Fitted, Pair


@dataclasses.dataclass(frozen=True)
class LaplaceNormal:
    """A normal at the mode with the curvature as precision, for the linearised network; sites other
    than the weights (the noise variance) stay at their mode."""

    stored: bool = True

    def pair(self, fitted: Fitted, index: int) -> Pair:
        model, guide = fitted.point(index)
        s, task = fitted.settings, fitted.task
        linear = linearize(model, guide.values())
        values = {name: value.detach() for name, value in guide.values().items()}
        net, rest = _split(model, values)
        weights = {name: value for name, value in values.items() if name not in rest}
        split = task.split_of(index, s.run.seeds)
        rows = DictDataset(**{name: value[split] for name, value in task.train.tensors.items()})
        full = s.inference.laplace != "diagonal"
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
        normal = (
            MeanField(net) if fitted.settings.inference.laplace == "diagonal" else JointNormal(net)
        )
        return linearize(model, values), _with_fixed(normal, rest)

    def num_samples(self, fitted: Fitted) -> int:
        return fitted.settings.run.num_samples


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
