"""Likelihoods of class labels and of pixel levels."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.heads.layout import per_element
from pyrovae.heads.precision import at_least_float32


class CategoricalHead(nn.Module):
    r"""Independent categorical over C values for each element of the event, p(x = c) =
    softmax(net(parents))_c.

    With `event_shape=()` a classifier; with an image's shape a likelihood over its pixel levels
    0..C-1, which is a probability (its log is never positive), unlike every density on grey
    pixels.

    Shapes: the net returns `(*batch, C)` for `event_shape=()`; otherwise, class first, any shape
    with as many dims as the event and C times its elements, e.g. `(*batch, C * 784)` or `(*batch,
    C * channels, H, W)`. Raises ValueError where the net's output does not divide by the event's
    size.
    Source: van den Oord, Kalchbrenner & Kavukcuoglu 2016, arXiv:1601.06759, section 2.3.

    Example:
        >>> from pyrovae.nets import MLP
        >>> CategoricalHead(MLP(2, [8], 17 * 4), event_shape=(4,))(torch.zeros(5, 2)).event_shape
        torch.Size([4])
    """

    def __init__(self, net: nn.Module, *, event_shape: Sequence[int] = ()) -> None:
        super().__init__()
        self.net = net
        self.event_shape = torch.Size(event_shape)

    def forward(self, *parents: Tensor) -> dist.Independent:
        logits = per_element(at_least_float32(self.net(*parents)), self.event_shape)
        return dist.Categorical(logits=logits).to_event(len(self.event_shape))
