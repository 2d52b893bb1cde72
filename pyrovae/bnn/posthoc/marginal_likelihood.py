"""The precision of the prior fitted by the evidence while the net trains."""

from collections.abc import Callable
from typing import cast

import pyro
import torch
import torch.nn as nn

from pyrovae.bnn.curvature import CurvatureOf, Kron
from pyrovae.bnn.guides.point_estimate import PointEstimate
from pyrovae.bnn.posthoc.laplace_posterior import fit_laplace
from pyrovae.bnn.priors.scaled import Scaled
from pyrovae.core.batching import Data
from pyrovae.core.errors import PairError
from pyrovae.losses.base import unwrap
from pyrovae.losses.stacked import Stacked
from pyrovae.programs.bayesian import Bayesian
from pyrovae.training.run import Run


class MarginalLikelihood:
    r"""A hook of `fit` that, after every `every` epochs from epoch `start` on, sets the factors of a
    `Scaled` prior to those of the largest Laplace evidence at the present weights: the next epochs
    train under that prior.

    The loss is an `ElboLoss` of a model with one `Bayesian` net and a `PointEstimate`, or `Stacked`
    ones. data: from the number of a member, 0 where there is one, to its training set. per_layer: one
    factor for each layer, or one in all. The noise stays the model's.
    Raises: PairError for another prior or guide.
    Source: Immer et al. 2021, arXiv:2104.04975, algorithm 1.
    """

    def __init__(
        self,
        data: Callable[[int], Data],
        *,
        every: int = 10,
        start: int = 10,
        curvature: CurvatureOf | None = None,
        per_layer: bool = True,
    ) -> None:
        if every < 1:
            raise ValueError(f"every={every}, expected at least one epoch.")
        self.data, self.every, self.start = data, every, start
        self.curvature, self.per_layer = curvature or Kron(), per_layer

    def __call__(self, run: Run) -> None:
        if run.epoch < self.start or run.epoch % self.every or run.finished:
            return
        loss = unwrap(run.loss)
        if not isinstance(loss, Stacked):
            self._update(loss, self.data(0))
            return
        for index in range(loss.count):
            member = loss.member(index)
            self._update(member, self.data(index))
            loss.put(index, member)

    @torch.no_grad()
    def _update(self, loss: nn.Module, data: Data) -> None:
        model, guide = cast(Callable, loss.model), loss.guide
        net = next(
            (part for part in loss.modules() if isinstance(part, Bayesian)),
            None,
        )
        if (
            net is None
            or not isinstance(net.prior, Scaled)
            or not isinstance(guide, PointEstimate)
        ):
            raise PairError(
                f"the guide is a {type(guide).__name__} and the prior a {type(getattr(net, 'prior', None)).__name__}, "
                "expected a PointEstimate and a Scaled prior: Bayesian(net, Scaled(normal(1.0), net))."
            )
        weights, rest = split_values(net, guide)
        fixed = pyro.condition(model, data=rest) if rest else model
        found = fit_laplace(fixed, weights, data, self.curvature)
        found = found.fit_prior(per_layer=self.per_layer, noise=False)
        for layer, factor in zip(found.layers, found.prior_precision):
            net.prior.precision[net.prior.index(layer)] *= factor


def split_values(net: Bayesian, guide: PointEstimate) -> tuple[dict, dict]:
    """The values of a net's weights, and those of other sites (a noise variance)."""
    values = {name: value.detach() for name, value in guide.values().items()}
    own = {f"{net.name}.{key}" for key in net.initial}
    return (
        {name: value for name, value in values.items() if name in own},
        {name: value for name, value in values.items() if name not in own},
    )
