"""One of S stored nets for each particle."""

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from pyrovae.core.types import Shape


class StratifiedIndex(TorchDistribution):
    """An index into S things, each equally likely: K draws at once are spread evenly over them in
    order, one is at random.

    So an ensemble of S nets under K = S particles is used whole, without the noise of drawing
    twice. Its log-probability is left at 0: a guide of stored values has no density.
    """

    has_rsample = True  # there is nothing to differentiate, and no score function is needed
    arg_constraints = {}

    def __init__(self, count: int, device: torch.device, batch_shape: Size = Size()) -> None:
        self.count, self.device = count, device
        super().__init__(batch_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.integer_interval(0, self.count - 1)

    def rsample(self, sample_shape: Shape = Size()) -> Tensor:
        shape = Size(sample_shape) + self.batch_shape
        if shape.numel() == 1:
            return torch.randint(self.count, shape, device=self.device)
        return (
            torch.arange(shape.numel(), device=self.device) * self.count // shape.numel()
        ).reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.zeros(
            torch.broadcast_shapes(value.shape, self.batch_shape), device=self.device
        )

    def expand(self, batch_shape: Shape, _instance: object = None) -> "StratifiedIndex":
        return StratifiedIndex(self.count, self.device, Size(batch_shape))
