"""Independent normal priors."""

import math

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyrovae.programs.bayesian import WeightPrior


def normal(scale: float) -> WeightPrior:
    """Every weight N(0, scale^2)."""
    return lambda site, tensor: dist.Normal(torch.zeros_like(tensor), scale)


def fan_in(scale: float = 1.0, bias_scale: float = 1.0) -> WeightPrior:
    r"""Weights N(0, scale^2 / fan-in), so that the spread of functions does not grow with width;
    biases N(0, bias_scale^2).

    Source: Neal 1996, Bayesian Learning for Neural Networks, section 2.1.1.

    Example:
        >>> fan_in()("w.weight", torch.zeros(3, 16)).stddev.unique()
        tensor([0.2500])
    """

    def prior(site: str, tensor: Tensor) -> Distribution:
        fan = tensor[0].numel() if tensor.dim() > 1 else 1
        return dist.Normal(
            torch.zeros_like(tensor), scale / math.sqrt(fan) if tensor.dim() > 1 else bias_scale
        )

    return prior
