"""Discrete latents whose draws carry a gradient: Gumbel-softmax with hard values."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.types import _size

from pyrovae.heads.base import Head
from pyrovae.heads.precision import at_least_float32


class StraightThroughBernoulliHead(Head):
    r"""Independent Bernoulli latents, z_i = 1 with probability sigmoid(net(parents)_i), as an
    encoder.

    A draw is 0 or 1, and its gradient that of the relaxed draw sigmoid((logits + L) / temperature)
    with L logistic. That gradient is biased: less at a low temperature, whose noise is larger.
    Density, KL and log p(x) are those of the discrete latents, so the trained guide is used as it is;
    `losses.LeaveOneOutLoss` on a `BernoulliHead` has no bias.

    Shapes: the net returns logits `(*batch, *event)` of `event_dim` event dims.
    Source: Jang, Gu & Poole 2017, arXiv:1611.01144; Maddison, Mnih & Teh 2017, arXiv:1611.00712,
    section 3; hard values: Bengio et al. 2013, arXiv:1308.3432 (the gradient is the relaxed draw's,
    not the identity).

    Example:
        >>> from pyrovae.nets import MLP
        >>> z = StraightThroughBernoulliHead(MLP(4, [8], 3))(torch.zeros(5, 4)).rsample()
        >>> z.unique().tolist(), z.requires_grad
        ([0.0, 1.0], True)
    """

    def __init__(self, net: nn.Module, *, temperature: float = 0.5, event_dim: int = 1) -> None:
        super().__init__(net, event_dim=event_dim)
        self.temperature = _positive(temperature)

    def forward(self, *parents: Tensor) -> dist.Independent:
        logits = at_least_float32(self.net(*parents))
        return _Bernoulli(self.temperature, logits=logits).to_event(self.event_dim)


class StraightThroughCategoricalHead(Head):
    r"""Independent categorical latents as one-hot vectors, with the probabilities
    softmax(net(parents)) along the last dim, as an encoder.

    A draw is one-hot, and its gradient that of softmax((logits + G) / temperature) with Gumbel
    noise G; otherwise as `StraightThroughBernoulliHead`.

    Shapes: the net returns logits `(*batch, *event, C)` of `event_dim` dims, C included; the
    distribution has event `(*event, C)`.
    Source: Jang, Gu & Poole 2017, arXiv:1611.01144, section 2.2.

    Example:
        >>> from pyrovae.nets import MLP
        >>> head = StraightThroughCategoricalHead(MLP(4, [8], (3, 6)), event_dim=2)
        >>> head(torch.zeros(5, 4)).rsample().sum(-1).unique().tolist()
        [1.0]
    """

    def __init__(self, net: nn.Module, *, temperature: float = 0.5, event_dim: int = 1) -> None:
        super().__init__(net, event_dim=event_dim)
        self.temperature = _positive(temperature)

    def forward(self, *parents: Tensor) -> dist.Distribution:
        logits = at_least_float32(self.net(*parents))
        return _OneHot(self.temperature, logits=logits).to_event(self.event_dim - 1)


class _Bernoulli(dist.Bernoulli):
    has_rsample = True

    def __init__(self, temperature: float, **parameters: Tensor | bool) -> None:
        self.temperature = temperature
        super().__init__(**parameters)

    def rsample(self, sample_shape: _size = torch.Size()) -> Tensor:
        logits = self.logits.expand(self._extended_shape(sample_shape))
        uniform = torch.rand_like(logits).clamp(*_open(logits))
        soft = ((logits + uniform.logit()) / self.temperature).sigmoid()
        return (soft > 0.5).to(soft) + (soft - soft.detach())

    def expand(self, batch_shape: _size, _instance: object = None) -> "_Bernoulli":
        return _Bernoulli(
            self.temperature, logits=self.logits.expand(batch_shape), validate_args=False
        )


class _OneHot(dist.OneHotCategorical):
    has_rsample = True

    def __init__(self, temperature: float, **parameters: Tensor | bool) -> None:
        self.temperature = temperature
        super().__init__(**parameters)  # type: ignore[arg-type]

    def rsample(self, sample_shape: _size = torch.Size()) -> Tensor:
        logits = self.logits.expand(self._extended_shape(sample_shape))
        gumbel = -(-torch.rand_like(logits).clamp(*_open(logits)).log()).log()
        soft = ((logits + gumbel) / self.temperature).softmax(-1)
        hard = functional.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft)
        return hard + (soft - soft.detach())

    def expand(self, batch_shape: _size, _instance: object = None) -> "_OneHot":
        logits = self.logits.expand(*batch_shape, *self.event_shape)
        return _OneHot(self.temperature, logits=logits, validate_args=False)


def _open(like: Tensor) -> tuple[float, float]:
    """Bounds that keep a uniform number off 0 and 1."""
    eps = torch.finfo(like.dtype).eps
    return eps / 2, 1 - eps


def _positive(temperature: float) -> float:
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}, expected a positive number, such as 0.5.")
    return float(temperature)
