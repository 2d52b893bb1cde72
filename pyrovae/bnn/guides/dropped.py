"""The distribution of a weight matrix under dropout."""

from collections.abc import Callable

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from pyrovae.core.types import Shape


class DropoutWeight(TorchDistribution):
    r"""W = M o z with z ~ Bernoulli(1 - rate): one z for each input of the layer, or one for each
    weight.

    A `learned` rate needs a gradient: z is then relaxed, z = sigmoid((logit(1 - rate) + logit(u))
    / temperature), u ~ U(0, 1).

    It has no density on weights. `log_prob` is minus the entropy of z for a learned rate, which is
    what the ELBO needs, and 0 for a fixed one.
    Shapes: `mean` (out, in, *kernel), the whole of it one event; `rate` ().
    Source: Gal & Ghahramani 2016, arXiv:1506.02142, eq. 2 (z by inputs); Wan et al. 2013 (by
    weights); the relaxation: Gal, Hron & Kendall 2017, arXiv:1705.07832, eq. 5.
    """

    has_rsample = True
    arg_constraints = {}
    has_density = False

    def __init__(
        self,
        mean: Tensor,
        rate: Tensor,
        *,
        learned: bool = False,
        by_weight: bool = False,
        temperature: float = 0.1,
        batch_shape: Size = Size(),
    ) -> None:
        self.mean_weight, self.rate, self.learned = mean, rate, learned
        self.by_weight, self.temperature = by_weight, temperature
        super().__init__(batch_shape, mean.shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, self.mean_weight.dim())

    @property
    def mean(self) -> Tensor:
        return ((1.0 - self.rate) * self.mean_weight).expand(self.batch_shape + self.event_shape)

    def rsample(self, sample_shape: Shape = Size()) -> Tensor:
        shape = self.mean_weight.shape
        units = shape if self.by_weight else (1, shape[1], *(1,) * (len(shape) - 2))
        return self.mean_weight * self._kept(
            self.mean_weight.new_empty(*sample_shape, *self.batch_shape, *units), self.rate
        )

    def log_prob(self, value: Tensor) -> Tensor:
        shape = value.shape[: value.dim() - len(self.event_shape)]
        if not self.learned:
            return value.new_zeros(shape)
        keep, count = (
            1.0 - self.rate,
            self.mean_weight.numel() if self.by_weight else self.mean_weight.shape[1],
        )
        return (count * (keep * keep.log() + self.rate * self.rate.log())).expand(shape)

    def expand(self, batch_shape: Shape, _instance: object = None) -> "DropoutWeight":
        return DropoutWeight(
            self.mean_weight,
            self.rate,
            learned=self.learned,
            by_weight=self.by_weight,
            temperature=self.temperature,
            batch_shape=Size(batch_shape),
        )

    @property
    def local_parts(self) -> tuple[Tensor, ...] | None:
        """What each datum's own draw needs, for `LocalReparameterization`; None where there is no
        cheap way."""
        return (
            None
            if self.by_weight
            else (self.mean_weight, self.rate.expand(self.mean_weight.shape))
        )

    def local_rule(
        self,
        operation: Callable[..., Tensor],
        x: Tensor,
        parts: tuple[Tensor, ...],
        bias: Tensor | None,
        channel_dim: int,
    ) -> Tensor:
        """Dropout of the layer's inputs, one mask for each datum (for whole channels of an image)."""
        mean, rate = parts
        units = [1 if dim > channel_dim % x.dim() else size for dim, size in enumerate(x.shape)]
        return operation(x * self._kept(x.new_empty(units), rate.flatten()[0]), mean, bias)

    def _kept(self, like: Tensor, rate: Tensor) -> Tensor:
        noise = torch.rand_like(like)
        if not self.learned:
            return (noise >= rate).to(like.dtype)
        noise = noise.clamp(1e-6, 1 - 1e-6)
        return torch.sigmoid(
            (torch.log1p(-rate) - rate.log() + noise.log() - torch.log1p(-noise))
            / self.temperature
        )
