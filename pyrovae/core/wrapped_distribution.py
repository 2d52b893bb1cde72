"""What distributions share that change the log-density of another one."""

from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from pyrovae.core.types import Shape


class WrappedDistribution(TorchDistribution):
    """The shapes, the support and the draws of `base_dist`; subclasses define `log_prob` and
    `expand`."""

    arg_constraints = {}

    def __init__(self, base_dist: TorchDistribution) -> None:
        self.base_dist = base_dist
        super().__init__(base_dist.batch_shape, base_dist.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]  # as torch's own Independent has it
        return self.base_dist.has_rsample

    @property
    def support(self) -> constraints.Constraint | None:
        return self.base_dist.support

    def rsample(self, sample_shape: Shape = Size()) -> Tensor:
        return self.base_dist.rsample(sample_shape)

    def sample(self, sample_shape: Shape = Size()) -> Tensor:
        return self.base_dist.sample(sample_shape)
