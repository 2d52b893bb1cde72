"""Distributions of torch and zuko inside Pyro programs."""

import torch
from pyro.contrib.zuko import ZukoToPyro
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import Distribution

from pyrovae.core.types import Shape


class Adapted(ZukoToPyro):
    """Pyro's adapter, which only samples and scores, with the methods that `Predictive`, MCMC and
    `check` use as well."""

    def sample(self, sample_shape: Shape = torch.Size()) -> Tensor:
        with torch.no_grad():
            return self.dist.sample(sample_shape)

    def rsample(self, sample_shape: Shape = torch.Size()) -> Tensor:
        return self(torch.Size(sample_shape))

    def log_prob(self, x: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(
            x.shape, self.shape()
        )  # zuko's coupling flows do not broadcast
        return super().log_prob(x if x.shape == shape else x.expand(shape))

    @property
    def support(self) -> torch.distributions.constraints.Constraint | None:
        return self.dist.support

    @property
    def mean(self) -> Tensor:
        return self.dist.mean

    def expand(self, batch_shape: Shape, _instance: object = None) -> "Adapted":
        return Adapted(self.dist.expand(batch_shape))


def as_pyro(fn: Distribution) -> TorchDistributionMixin:
    """The distribution itself where it is Pyro's, else wrapped. Raises TypeError for anything that
    is no distribution.

    Example:
        >>> as_pyro(torch.distributions.Normal(torch.zeros(3), 1.0)).sample().shape
        torch.Size([3])
    """
    if isinstance(fn, TorchDistributionMixin):
        return fn
    if isinstance(fn, Distribution):
        return Adapted(fn)
    raise TypeError(
        f"got {type(fn).__name__}, but a conditional returns a distribution. Put a head on the net, e.g. "
        "BernoulliHead(net)."
    )
