"""The means of q(z | x) and of p(x | z) as layers that `net.js` computes."""

from collections.abc import Callable
from typing import cast

import torch.nn as nn

from pyrovae import heads
from pyrovae.posteriors import NonReparameterized
from pyrovae.recipes.explorer.layers import Layer, Shape, layers_of
from pyrovae.recipes.refusal import Refusal


def mean_layers(head: nn.Module, shape: Shape) -> list[Layer]:
    """From the parent, of `shape`, to the mean of the head's distribution, flat.

    Raises: Refusal for a head whose mean, or a net that, `net.js` cannot compute.

    Example:
        >>> from pyrovae.nets import MLP
        >>> [layer["op"] for layer in mean_layers(heads.BernoulliHead(MLP(2, [], 9)), (2,))]
        ['linear', 'sigmoid']
    """
    if isinstance(head, NonReparameterized):
        return mean_layers(head.conditional, shape)
    known = HEADS.get(type(head))
    if known is None:
        raise Refusal(f"the page cannot compute the mean of {type(head).__name__}.")
    net = layers_of(cast(nn.Module, head.net), shape)[0]
    return [*net, *known(head)]


def _nothing(head: nn.Module) -> list[Layer]:
    return []


def _op(name: str) -> Callable[[nn.Module], list[Layer]]:
    return lambda head: [{"op": name}]


def _half(head: nn.Module) -> list[Layer]:
    """The first of two parameters for each element."""
    return [{"op": "half"}]


def _features(head: heads.FullRankNormalHead | heads.LowRankNormalHead) -> list[Layer]:
    return [{"op": "first", "count": head.features}]


def _mixture(head: heads.MixtureNormalHead) -> list[Layer]:
    return [{"op": "mixture", "offset": head.offset}]


def _levels(head: heads.CategoricalHead) -> list[Layer]:
    return [{"op": "expected-level", "elements": head.event_shape.numel()}]


def _logistics(head: heads.DiscretizedLogisticMixtureHead) -> list[Layer]:
    return [
        {
            "op": "logistic-mixture",
            "offset": head.offset,
            "levels": head.levels,
            "elements": head.event_shape.numel(),
        }
    ]


HEADS: dict[type, Callable[..., list[Layer]]] = {
    heads.BernoulliHead: _op("sigmoid"),
    heads.ContinuousBernoulliHead: _op("continuous-bernoulli"),
    heads.BetaHead: lambda head: [*_half(head), {"op": "sigmoid"}],
    heads.FixedScaleNormalHead: _nothing,
    heads.LearnedScaleNormalHead: _nothing,
    heads.NormalHead: _half,
    heads.StudentTHead: _half,
    heads.FullRankNormalHead: _features,
    heads.LowRankNormalHead: _features,
    heads.MixtureNormalHead: _mixture,
    heads.DeltaHead: _nothing,
    heads.PoissonHead: _op("exp"),
    heads.NegativeBinomialHead: _op("exp"),
    heads.CategoricalHead: _levels,
    heads.DiscretizedLogisticMixtureHead: _logistics,
}
