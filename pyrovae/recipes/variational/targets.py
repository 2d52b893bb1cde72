"""Densities in two dims, normalised, with exact draws: what a variational family is to meet."""

from collections.abc import Callable

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn

Shape = Size | list[int] | tuple[int, ...]


class Target(nn.Module):
    """p(z) as a component of a model."""

    def __init__(self, make: Callable[[], TorchDistribution]) -> None:
        super().__init__()
        self.make = make

    def forward(self) -> TorchDistribution:
        return self.make()


def correlated() -> TorchDistribution:
    """N(0, C) of unit variances and correlation 0.9."""
    return dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.9], [0.9, 1.0]]))


def two_modes() -> TorchDistribution:
    """Two round normals of equal weight."""
    centres = torch.tensor([[-1.2, -1.2], [1.2, 1.2]])
    parts = dist.Normal(centres, 0.5).to_event(1)
    return dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), parts)


class Banana(TorchDistribution):
    """z_0 ~ N(0, 1), z_1 ~ N(z_0^2 / 1.5 - 1, 0.35^2)."""

    arg_constraints = {}
    support = dist.constraints.real_vector
    has_rsample = True

    def __init__(self, batch_shape: Size = Size()) -> None:
        super().__init__(batch_shape, Size([2]), validate_args=False)

    def expand(self, batch_shape: Shape, _instance: object = None) -> "Banana":
        return Banana(Size(batch_shape))

    def rsample(self, sample_shape: Shape = Size()) -> Tensor:
        noise = torch.randn(self._extended_shape(Size(sample_shape)))
        first = noise[..., 0]
        return torch.stack([first, first**2 / 1.5 - 1.0 + 0.35 * noise[..., 1]], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        first, second = value.unbind(-1)
        bent = dist.Normal(first**2 / 1.5 - 1.0, 0.35)
        return dist.Normal(0.0, 1.0).log_prob(first) + bent.log_prob(second)


TARGETS: dict[str, Callable[[], TorchDistribution]] = {
    "correlated": correlated,
    "banana": Banana,
    "two modes": two_modes,
}
