"""Bits that are flipped by noise, the observation model of generators without one."""

import pyro.distributions as dist
from torch import Tensor, nn

from pyrovae.heads.base import Head
from pyrovae.heads.precision import at_least_float32


class FlippedBernoulliHead(Head):
    r"""p(x = 1) = flip + (1 - 2 flip) sigmoid(net(parents)): a bit of the net, flipped with a fixed
    probability.

    A generator that was trained without a likelihood may put probability 0 on data; with noise of
    a stated size it has a log p(x), to be had by annealed importance sampling.

    Shapes: the net returns logits `(*batch, *event)` of `event_dim` event dims.
    Raises: ValueError for a flip outside (0, 1/2).
    Source: Wu, Burda, Salakhutdinov & Grosse 2017, arXiv:1611.04273, section 3 (normal noise, for
    real pixels).

    Example:
        >>> import torch
        >>> from pyrovae.nets import Constant
        >>> FlippedBernoulliHead(Constant(2), flip=0.1)().base_dist.probs
        tensor([0.5000, 0.5000], grad_fn=<AddBackward0>)
    """

    def __init__(self, net: nn.Module, *, flip: float, event_dim: int = 1) -> None:
        super().__init__(net, event_dim=event_dim)
        if not 0 < flip < 0.5:
            raise ValueError(f"flip={flip}, expected a probability above 0 and below 1/2.")
        self.flip = flip

    def forward(self, *parents: Tensor) -> dist.Independent:
        probs = at_least_float32(self.net(*parents)).sigmoid()
        return dist.Bernoulli(self.flip + (1 - 2 * self.flip) * probs).to_event(self.event_dim)
