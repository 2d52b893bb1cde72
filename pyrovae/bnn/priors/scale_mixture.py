"""The scale mixture prior."""

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import Normal, constraints

from pyrovae.core.types import Shape
from pyrovae.programs.bayesian import WeightPrior


class TwoNormals(TorchDistribution):
    r"""pi N(0, wide^2) + (1 - pi) N(0, narrow^2), element by element.

    torch's `MixtureSameFamily` knows no way from the reals to its support, which autoguides and
    HMC ask for.
    """

    support = constraints.real
    arg_constraints = {}

    def __init__(
        self, pi: Tensor, wide: Tensor, narrow: Tensor, batch_shape: Size = Size()
    ) -> None:
        self.pi, self.wide, self.narrow = pi, wide, narrow
        super().__init__(batch_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.pi.new_zeros(self.batch_shape)

    @property
    def variance(self) -> Tensor:
        return (self.pi * self.wide**2 + (1.0 - self.pi) * self.narrow**2).expand(self.batch_shape)

    def sample(self, sample_shape: Shape = Size()) -> Tensor:
        noise = self.pi.new_empty(*sample_shape, *self.batch_shape)
        return torch.randn_like(noise) * torch.where(
            torch.rand_like(noise) < self.pi, self.wide, self.narrow
        )

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.logaddexp(
            self.pi.log() + Normal(0.0, self.wide).log_prob(value),
            torch.log1p(-self.pi) + Normal(0.0, self.narrow).log_prob(value),
        )

    def expand(self, batch_shape: Shape, _instance: object = None) -> "TwoNormals":
        return TwoNormals(self.pi, self.wide, self.narrow, Size(batch_shape))


def scale_mixture(pi: float = 0.5, wide: float = 1.0, narrow: float = math.exp(-6)) -> WeightPrior:
    r"""Each weight from one of two normals, pi N(0, wide^2) + (1 - pi) N(0, narrow^2).

    Source: Blundell et al. 2015, arXiv:1505.05424, eq. 7; they tried pi in {1/4, 1/2, 3/4}, wide
    in {1, e^-1, e^-2}, narrow in {e^-6, e^-7, e^-8}.
    """
    if not 0.0 < pi < 1.0 or not wide > 0 or not narrow > 0:
        raise ValueError(
            f"pi={pi}, wide={wide}, narrow={narrow}, expected 0 < pi < 1 and positive scales."
        )

    def prior(site: str, tensor: Tensor) -> TwoNormals:
        share, first, second = tensor.new_tensor([pi, wide, narrow])
        return TwoNormals(share, first, second, tensor.shape)

    return prior
