"""The distribution of a whole number whose noise is a mixture of logistics."""

import torch
import torch.nn.functional as F
from pyro.distributions import Categorical, TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints
from torch.types import _size


class DiscretizedLogisticMixture(TorchDistribution):
    r"""p(k) = \sum_m pi_m [sigmoid((k + 1/2 - loc_m) / scale_m) - sigmoid((k - 1/2 - loc_m) /
    scale_m)], k = 0..levels-1.

    The lowest level holds all mass below it and the highest all above, so that the levels sum to
    one. Differences are taken as sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a -
    b)), which keeps its relative precision however far loc lies from k.

    Shapes: logits, loc and log_scale `(*batch, M)`, the last two in units of levels; values are
    whole numbers stored as floats. Raises ValueError for fewer than two levels.
    Source: Salimans, Karpathy, Chen & Kingma 2017, arXiv:1701.05517, eq. 2.

    Example:
        >>> fn = DiscretizedLogisticMixture(torch.zeros(2), torch.tensor([3.0, 9.0]), torch.zeros(2), levels=16)
        >>> fn.log_prob(fn.enumerate_support()).logsumexp(0).abs() < 1e-6
        tensor(True)
    """

    arg_constraints = dict.fromkeys(("logits", "loc", "log_scale"), constraints.real_vector)
    has_enumerate_support = True

    def __init__(
        self,
        logits: Tensor,
        loc: Tensor,
        log_scale: Tensor,
        levels: int,
        validate_args: bool | None = None,
    ) -> None:
        if levels < 2:
            raise ValueError(f"levels={levels}, expected at least the two levels 0 and 1.")
        self.logits, self.loc, self.log_scale = torch.broadcast_tensors(logits, loc, log_scale)
        self.levels = levels
        super().__init__(self.loc.shape[:-1], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        return constraints.integer_interval(0, self.levels - 1)

    def expand(
        self, batch_shape: _size, _instance: TorchDistribution | None = None
    ) -> "DiscretizedLogisticMixture":
        new = self._get_checked_instance(DiscretizedLogisticMixture, _instance)
        new.logits, new.loc, new.log_scale = (
            parameter.expand(*batch_shape, parameter.shape[-1])
            for parameter in (self.logits, self.loc, self.log_scale)
        )
        new.levels = self.levels
        super(DiscretizedLogisticMixture, new).__init__(Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        level, rate = value.unsqueeze(-1), (-self.log_scale).exp()
        below = F.logsigmoid((level + 0.5 - self.loc) * rate)  # of the mass up to this level
        above = F.logsigmoid((self.loc - level + 0.5) * rate)  # of the mass from this level on
        inside = below + above + (-torch.expm1(-rate)).log()
        mass = torch.where(level == 0, below, torch.where(level == self.levels - 1, above, inside))
        return (self.logits.log_softmax(-1) + mass).logsumexp(-1)

    @torch.no_grad()
    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        component = Categorical(logits=self.logits).sample(sample_shape).unsqueeze(-1)
        loc, log_scale = (
            parameter.expand(*shape, parameter.shape[-1]).gather(-1, component).squeeze(-1)
            for parameter in (self.loc, self.log_scale)
        )
        noise = (
            torch.rand(shape, dtype=loc.dtype, device=loc.device)
            .clamp(min=torch.finfo(loc.dtype).tiny)
            .logit()
        )
        return (loc + log_scale.exp() * noise).round().clamp(0, self.levels - 1)

    @property
    def mean(self) -> Tensor:
        """The sum of P(x > k), a level at a time: all levels at once would take `levels` times the
        memory."""
        weights, rate = self.logits.softmax(-1), (-self.log_scale).exp()
        return sum(
            (weights * ((self.loc - k - 0.5) * rate).sigmoid()).sum(-1)
            for k in range(self.levels - 1)
        )

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = torch.arange(self.levels, dtype=self.loc.dtype, device=self.loc.device)
        values = values.reshape(-1, *[1] * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values
