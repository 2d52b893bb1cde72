"""Normal distributions whose elements are correlated: encoders q(z | x) and likelihoods p(x | z)
of real vectors."""

import pyro.distributions as dist
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.heads.layout import split
from pyrovae.heads.precision import at_least_float32, log_prob_in_float64


class FullRankNormalHead(nn.Module):
    r"""Normal of full covariance, N(loc, L L^T), L lower triangular with diagonal min_scale +
    exp(s).

    The net's numbers below the diagonal are divided by sqrt(features): numbers of order one then
    leave L L^T near the identity whatever the number of features. `min_scale` is the least
    standard deviation of an element given those before it, in units of the data, and bounds the
    density.

    Shapes: the net returns `(*batch, features + features * (features + 1) / 2)`: loc, s, then L
    below its diagonal, row by row; the distribution has event `(features,)`. Raises ValueError
    where the net returns another number.
    Source: Kingma & Welling 2019, arXiv:1906.02691, section 2.5.1.

    Example:
        >>> from pyrovae.nets import MLP
        >>> FullRankNormalHead(MLP(4, [8], 3 + 6), features=3)(torch.zeros(5, 4)).event_shape
        torch.Size([3])
    """

    below: Tensor

    def __init__(self, net: nn.Module, features: int, *, min_scale: float = 0.0) -> None:
        super().__init__()
        self.net = net
        self.features = features
        self.min_scale = min_scale
        self.register_buffer("below", torch.tril_indices(features, features, -1), persistent=False)

    def forward(self, *parents: Tensor) -> dist.MultivariateNormal:
        numbers = at_least_float32(self.net(*parents))
        loc, log_diagonal, below = split(
            numbers, (self.features, self.features, self.below.shape[1])
        )
        scale_tril = torch.diag_embed(self.min_scale + log_diagonal.exp())
        scale_tril[..., self.below[0], self.below[1]] = below / self.features**0.5
        return dist.MultivariateNormal(loc, scale_tril=scale_tril)


class LowRankNormalHead(nn.Module):
    r"""Normal whose covariance is a few factors and a diagonal, N(loc, W W^T + diag(min_scale +
    exp(s))^2).

    Between `NormalHead` and `FullRankNormalHead`, at a cost linear in the features. The net's
    numbers for W are divided by sqrt(features): numbers of order one leave the covariance within a
    factor of the identity. A net that returns exactly zero for W gets no gradient there.

    Shapes: the net returns `(*batch, features * (2 + rank))`: loc, s, then W `(features, rank)`
    row by row; the distribution has event `(features,)`. Raises ValueError where the net returns
    another number.
    Source: Ong, Nott & Smith 2018, arXiv:1701.03208 (Gaussian variational approximation with a
    factor covariance).

    Example:
        >>> from pyrovae.nets import MLP
        >>> LowRankNormalHead(MLP(4, [8], 3 * (2 + 1)), features=3, rank=1)(torch.zeros(5, 4)).event_shape
        torch.Size([3])
    """

    def __init__(
        self, net: nn.Module, features: int, rank: int, *, min_scale: float = 0.0
    ) -> None:
        super().__init__()
        self.net = net
        self.features = features
        self.rank = rank
        self.min_scale = min_scale

    def forward(self, *parents: Tensor) -> "FactorNormal":
        loc, scale, factors = self._parts(*parents)
        with torch.autocast(loc.device.type, enabled=False):
            return FactorNormal(loc, factors, scale**2)

    def moments(self, *parents: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each feature, `(*batch, features)`, without the distribution, which
        factorises a matrix."""
        loc, scale, factors = self._parts(*parents)
        return loc, scale**2 + (factors**2).sum(-1)

    def _parts(self, *parents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        loc, log_scale, factors = split(
            at_least_float32(self.net(*parents)),
            (self.features, self.features, self.features * self.rank),
        )
        factors = factors.unflatten(-1, (self.features, self.rank)) / self.features**0.5
        return loc, self.min_scale + log_scale.exp(), factors


class FactorNormal(dist.LowRankMultivariateNormal):
    """LowRankMultivariateNormal scored in float64: its Mahalanobis distance is a difference that
    float32 loses where the diagonal is small, and its matrix products fall to 16 bits under
    autocast."""

    def log_prob(self, value: Tensor) -> Tensor:
        return log_prob_in_float64(
            dist.LowRankMultivariateNormal,
            value,
            loc=self.loc,
            cov_factor=self._unbroadcasted_cov_factor,
            cov_diag=self._unbroadcasted_cov_diag,
            validate_args=self._validate_args,
        )
