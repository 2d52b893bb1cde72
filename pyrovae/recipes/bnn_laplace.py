"""Laplace's approximation of a network trained to its mode."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence

import pyro.poutine as poutine
import torch.nn as nn
from torch import Tensor

import pyrovae as pv
from pyrovae.bnn.curvature import CurvatureOf, Diagonal, Full, Kron, LowRank
from pyrovae.bnn.guides import Empirical
from pyrovae.bnn.posthoc import (
    LaplacePosterior,
    MarginalLikelihood,
    fit_laplace,
    laplace_guide,
    linearize,
    tune_prior,
)
from pyrovae.bnn.posthoc.marginal_likelihood import split_values
from pyrovae.data import Batches, DictDataset
from pyrovae.recipes.bnn_posteriors import Fitted, Pair
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task, epochs_of
from pyrovae.recipes.refusal import Refusal

logger = logging.getLogger(__name__)
ROWS = 256
"""Data that pass through the net together."""
UPDATES = 20
"""Times that --prior-fit during fits the prior, about."""
HELD_OUT, DRAWS = 2000, 50
"""Data, at most, and draws of the weights by which --prior-fit held-out fits the prior."""


@dataclasses.dataclass(frozen=True)
class LaplaceNormal:
    """A normal at the mode with the curvature as precision, for the linearised network; sites other
    than the weights (the noise variance) stay at their mode, or where the evidence puts them."""

    stored: bool = True

    def pair(self, fitted: Fitted, index: int) -> Pair:
        model, guide = fitted.point(index)
        s = fitted.settings
        net = _net(model)
        weights, rest = split_values(net, guide)
        split = fitted.task.split_of(index, s.run.seeds)
        rows = _rows(fitted.task.train, split)
        fixed = poutine.condition(model, data=rest) if rest else model
        found = fit_laplace(fixed, weights, rows, curvature(s))
        linear = linearize(model, guide.values())

        def guide_of(posterior: LaplacePosterior) -> nn.Module:
            noise = posterior.noise_scale
            values = {
                name: value * noise.to(value) ** 2 if name == "variance" else value
                for name, value in rest.items()
            }
            return _with_fixed(posterior.guide(net), values)

        if s.inference.prior_fit != "none":
            found = found.fit_prior(per_layer=s.inference.prior_groups == "layer")
        if s.inference.prior_fit == "held-out" and fitted.task.valid is not None:
            held_out = _rows(fitted.task.valid, split, HELD_OUT)
            found = tune_prior(
                found,
                lambda posterior: float(
                    pv.log_predictive(
                        linear, guide_of(posterior), held_out, num_samples=DRAWS
                    ).mean()
                ),
            )
        if index == 0:
            logger.info("the first network: %r", found)
        return linear, guide_of(found)

    def rebuild(self, fitted: Fitted, index: int, num_draws: int) -> Pair:
        model, guide = fitted.point(index)
        net = _net(model)
        weights, rest = split_values(net, guide)
        normal = laplace_guide(model, net, weights, curvature(fitted.settings))
        return linearize(model, guide.values()), _with_fixed(normal, rest)

    def num_samples(self, fitted: Fitted) -> int:
        return fitted.settings.run.num_samples


def curvature(s: BnnSettings) -> CurvatureOf:
    """The curvature of --laplace."""
    kinds: dict[str, CurvatureOf] = {
        "full": Full(),
        "last-layer": Full(),
        "kron": Kron(),
        "last-layer-kron": Kron(),
        "low-rank": LowRank(s.inference.laplace_rank),
        "diagonal": Diagonal(),
    }
    return kinds[s.inference.laplace]


def prior_hooks(s: BnnSettings, task: Task) -> Sequence[MarginalLikelihood]:
    """What fits the prior in training with --prior-fit during."""
    if s.inference.prior_fit != "during":
        return ()
    every = max(1, epochs_of(s, task) // UPDATES)
    return [
        MarginalLikelihood(
            lambda index: _rows(task.train, task.split_of(index, s.run.seeds)),
            every=every,
            start=every,
            curvature=curvature(s),
            per_layer=s.inference.prior_groups == "layer",
        )
    ]


def refuse_untunable(s: BnnSettings, task: Task) -> None:
    """Raise Refusal where no data are held out to fit the prior on."""
    if s.inference.prior_fit == "held-out" and not s.data.valid_fraction:
        raise Refusal("--prior-fit held-out needs held-out data; set --valid-fraction, e.g. 0.1.")


def _rows(data: DictDataset, split: int, num: int | None = None) -> Batches:
    return Batches(
        DictDataset(**{name: value[split, :num] for name, value in data.tensors.items()}), ROWS
    )


def _net(model: pv.Model) -> pv.Bayesian:
    return next(part for part in model.modules() if isinstance(part, pv.Bayesian))


def _with_fixed(normal: nn.Module, values: Mapping[str, Tensor]) -> nn.Module:
    """The guide `normal` joined by point masses at `values`."""
    if not values:
        return normal
    return pv.Joint(
        normal, Empirical({name: value.unsqueeze(0) for name, value in values.items()})
    )
