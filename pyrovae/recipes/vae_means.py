"""Means of distributions and of codes: what figures and scores show of them."""

from typing import cast

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

import pyrovae as pv
from pyrovae.core.types import base_of

Values = dict[str, Tensor]
DRAWS = 50
"""Samples whose average replaces the mean of a distribution without one in closed form."""


def codes(guide: pv.Guide, batch: Values) -> Values:
    """Posterior means of the latent variables, each conditioned on the means of its parents."""
    values = dict(batch)
    for name, node in guide.nodes.items():
        result = node(values)
        values[name] = mean_of(result) if isinstance(node, pv.Node) else result
    return {name: values[name] for name, node in guide.nodes.items() if isinstance(node, pv.Node)}


def mean_of(fn: torch.distributions.Distribution) -> Tensor:
    """The mean (of a categorical, that of its levels), or else the average of samples."""
    base = _base_of(fn)
    if isinstance(base, torch.distributions.Categorical):
        return base.probs @ torch.arange(base.probs.shape[-1]).to(base.probs)
    try:
        return fn.mean
    except (AttributeError, NotImplementedError):
        return torch.stack([cast(TorchDistributionMixin, fn)() for _ in range(DRAWS)]).mean(0)


def _base_of(fn: torch.distributions.Distribution) -> torch.distributions.Distribution:
    """The distribution of single elements."""
    while (inner := base_of(fn)) is not None:
        fn = inner
    return fn


def mean_pixels(fn: torch.distributions.Distribution, levels: int | None, top: float) -> Tensor:
    """E[x | z] as pixels in [0, 1]; for a categorical, the mean of its levels."""
    base = _base_of(fn)
    if isinstance(base, torch.distributions.Categorical):
        return base.probs @ torch.linspace(0, 1, levels).to(base.probs)
    return mean_of(fn) / top
