"""A likelihood of pixel levels that knows their order."""

import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
import torch.nn as nn
from torch import Size, Tensor

from pyrovae.heads.layout import per_element
from pyrovae.heads.level_mixture import DiscretizedLogisticMixture
from pyrovae.heads.precision import at_least_float32


class DiscretizedLogisticMixtureHead(nn.Module):
    r"""Each element's level 0..levels-1 is a mixture of M logistics, rounded: see
    `DiscretizedLogisticMixture`.

    A probability like `CategoricalHead`'s (its log is never positive, and the two compare), with 3
    M numbers for each element instead of `levels`. Components begin evenly spread over the levels.
    Channels are independent given the parents: no autoregression over them.

    Shapes: the net returns `(*batch, 3 * M)` for `event_shape=()`; otherwise, those 3 M numbers
    first, any shape with as many dims as the event and 3 M times its elements, e.g. `(*batch, 3 *
    M * channels, H, W)`. They are logits, locations and log-scales, M each. Data are whole numbers
    stored as floats, as `Splits.as_levels()` gives them. Raises ValueError where the net returns
    another number.
    Source: Salimans, Karpathy, Chen & Kingma 2017, arXiv:1701.05517, eq. 2.

    Example:
        >>> from pyrovae.nets import MLP
        >>> head = DiscretizedLogisticMixtureHead(MLP(2, [8], 3 * 5 * 4), 5, levels=256, event_shape=(4,))
        >>> head(torch.zeros(6, 2)).log_prob(torch.full((6, 4), 255.0)).shape
        torch.Size([6])
    """

    offset: Tensor

    def __init__(
        self, net: nn.Module, num_components: int, *, levels: int, event_shape: Sequence[int]
    ) -> None:
        super().__init__()
        self.net = net
        self.levels = levels
        self.event_shape = Size(event_shape)
        self.register_buffer("offset", (2 * torch.arange(num_components) + 1) / num_components - 1)

    def forward(self, *parents: Tensor) -> dist.Independent | DiscretizedLogisticMixture:
        numbers = per_element(
            at_least_float32(self.net(*parents)), self.event_shape, 3 * len(self.offset)
        )
        logits, loc, log_scale = numbers.chunk(3, dim=-1)
        half = (self.levels - 1) / 2
        loc, log_scale = (
            half * (1 + self.offset + loc),
            math.log(half / len(self.offset)) + log_scale,
        )
        return DiscretizedLogisticMixture(logits, loc, log_scale, self.levels).to_event(
            len(self.event_shape)
        )
