"""Likelihoods of pixels in {0, 1} and in [0, 1]."""

import pyro.distributions as dist
from torch import Tensor

from pyrovae.heads.base import Head
from pyrovae.heads.precision import at_least_float32


class BernoulliHead(Head):
    r"""Independent Bernoulli, p(x = 1) = sigmoid(net(parents)), for data in {0, 1} only.

    Grey pixels under a Bernoulli are not a density, so the number would compare with nobody's:
    binarise them, or use `ContinuousBernoulliHead`.

    Shapes: the net returns logits `(*batch, *event)` of `event_dim` event dims.
    Source: Kingma & Welling 2014, arXiv:1312.6114, appendix C.1.

    Example:
        >>> import torch
        >>> from pyrovae.nets import MLP
        >>> BernoulliHead(MLP(2, [8], 4))(torch.zeros(5, 2)).log_prob(torch.ones(5, 4)).shape
        torch.Size([5])
    """

    def forward(self, *parents: Tensor) -> dist.Independent:
        return dist.Bernoulli(logits=at_least_float32(self.net(*parents))).to_event(self.event_dim)


class ContinuousBernoulliHead(Head):
    r"""Independent continuous Bernoulli, p(x) = C(l) l^x (1 - l)^(1 - x) on [0, 1], l =
    sigmoid(net(parents)).

    The normalised density that a Bernoulli on grey pixels only pretends to be. Its log-density may
    be positive.

    Shapes: the net returns logits `(*batch, *event)` of `event_dim` event dims.
    Source: Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845, eq. 6 and 7.

    Example:
        >>> import torch
        >>> from pyrovae.nets import MLP
        >>> ContinuousBernoulliHead(MLP(2, [8], 4))(torch.zeros(5, 2)).log_prob(torch.rand(5, 4)).shape
        torch.Size([5])
    """

    def forward(self, *parents: Tensor) -> dist.Independent:
        return dist.ContinuousBernoulli(logits=at_least_float32(self.net(*parents))).to_event(
            self.event_dim
        )
