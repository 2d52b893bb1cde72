"""Draws without a pathwise gradient."""

import torch
import torch.nn as nn
from pyro.contrib.zuko import ZukoToPyro
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size


class NonReparameterized(nn.Module):
    r"""The same conditional, but its draws are constants: Pyro's ELBOs then use the score-function
    gradient.

    grad E_q[f(z)] = E_q[f(z) grad log q(z)], which needs no derivative of f and is far noisier
    than the pathwise one where both exist. Shapes: those of the conditional.
    Source: Williams 1992, Machine Learning 8; in variational inference Ranganath et al. 2014,
    arXiv:1401.0118, eq. 2.

    Example:
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> q = NonReparameterized(NormalHead(MLP(4, [8], 2 * 2)))(torch.rand(5, 4))
        >>> q.has_rsample, q().requires_grad
        (False, False)
    """

    def __init__(self, conditional: nn.Module) -> None:
        super().__init__()
        self.conditional = conditional

    def forward(self, *parents: Tensor) -> Distribution:
        return _Detached(self.conditional(*parents))


class _Detached(ZukoToPyro):
    """A distribution without its `rsample`."""

    has_rsample = False

    def __call__(self, sample_shape: _size = torch.Size()) -> Tensor:
        with torch.no_grad():
            return self.dist.sample(sample_shape)

    sample = __call__

    def log_prob(self, value: Tensor) -> Tensor:
        return self.dist.log_prob(value)

    @property
    def support(self) -> constraints.Constraint | None:
        return self.dist.support

    @property
    def mean(self) -> Tensor:
        return self.dist.mean

    @property
    def variance(self) -> Tensor:
        return self.dist.variance

    def expand(self, batch_shape: _size, _instance: object = None) -> "_Detached":
        return _Detached(self.dist.expand(batch_shape))
