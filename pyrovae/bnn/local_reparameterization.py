"""Weight noise drawn for each datum: local reparameterisation and flipout, as effect handlers."""

from collections.abc import Callable
from contextvars import Token
from dataclasses import replace
from types import TracebackType
from typing import Self

import pyro.distributions as dist
import torch
import torch.nn as nn
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution

from pyrovae.bnn.guides.dropped import DropoutWeight
from pyrovae.bnn.guides.mean_field import MeanField
from pyrovae.capture.user_code import uses_user_code
from pyrovae.core.provenance import Origins, Provenance, origin_of, origins
from pyrovae.core.traces import base_distribution
from pyrovae.core.types import Site
from pyrovae.programs.bayesian import Bayesian

Operation = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class _RecordProvenance(Messenger):
    """Record the distribution of each weight that is drawn outside the data plate.

    known, token: set on entry.
    """

    known: Origins
    token: Token[Origins | None]

    def __init__(self, normal_rule: Callable[..., Tensor]) -> None:
        super().__init__()
        self.normal_rule = normal_rule

    def _pyro_sample(self, msg: Site) -> None:
        if msg["done"]:  # a replayed value: its distribution is not this site's
            self.known.setdefault(id(msg["value"]), (msg["value"], None))
        elif not (self.known.draws or msg["is_observed"]) and isinstance(
            base := base_distribution(msg["fn"]), dist.Normal
        ):
            origin = _provenance(self.normal_rule, msg["fn"], (base.loc, base.scale))
            msg["value"], msg["done"] = (
                torch.full_like(origin.parts[0][..., :1], torch.nan).expand_as(origin.parts[0]),
                True,
            )
            self.known[id(msg["value"])] = msg["value"], replace(origin, is_drawn=False)

    def _pyro_post_sample(self, msg: Site) -> None:
        value = msg["value"]
        if not msg["is_observed"] and isinstance(value, Tensor):
            self.known.setdefault(id(value), (value, self._origin(msg["fn"])))

    def _origin(self, fn: Distribution) -> Provenance | None:
        base = base_distribution(fn)
        if isinstance(base, dist.Normal):
            return _provenance(self.normal_rule, fn, (base.loc, base.scale))
        if isinstance(base, DropoutWeight) and (parts := base.local_parts) is not None:
            return _provenance(base.local_rule, fn, parts)
        return None


def _provenance(
    rule: Callable[..., Tensor], fn: Distribution, parts: tuple[Tensor, ...]
) -> Provenance:
    return Provenance(rule, tuple(part.expand(fn.batch_shape + fn.event_shape) for part in parts))


def _of_normal(
    operation: Operation,
    x: Tensor,
    parts: tuple[Tensor, ...],
    bias: Tensor | None,
    channel_dim: int,
) -> Tensor:
    loc, scale = parts
    known = None if bias is None else origin_of(bias)
    bias_loc, bias_scale = (
        known.parts if known is not None and known.rule is _of_normal else (bias, None)
    )
    mean = operation(x, loc, bias_loc)
    variance = operation(x**2, scale**2, None if bias_scale is None else bias_scale**2)
    return mean + variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt() * torch.randn_like(
        mean
    )


def _by_signs(
    operation: Operation,
    x: Tensor,
    parts: tuple[Tensor, ...],
    bias: Tensor | None,
    channel_dim: int,
) -> Tensor:
    loc, scale = parts
    noise = scale * torch.randn_like(scale)
    mean = operation(x, loc, bias)
    return mean + operation(x * _signs(x, channel_dim), noise, None) * _signs(mean, channel_dim)


def _signs(like: Tensor, channel_dim: int) -> Tensor:
    """One sign for each datum and channel."""
    shape = [1 if dim > channel_dim % like.dim() else size for dim, size in enumerate(like.shape)]
    return torch.randint_like(like.new_empty(shape), 2) * 2 - 1


class _PerDatumNoise:
    """Within it, layers apply `rule` to the parts of a normal weight, in place of a drawn weight."""

    rule: Callable[..., Tensor]

    def __init__(self) -> None:
        self.recorder = _RecordProvenance(self.rule)

    def __enter__(self) -> Self:
        self.recorder.__enter__()
        self.recorder.known = Origins(type(self))
        self.recorder.token = origins.set(self.recorder.known)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        origins.reset(self.recorder.token)
        self.recorder.__exit__(kind, error, traceback)


class LocalReparameterization(_PerDatumNoise):
    r"""Within it, layers draw their outputs for each datum, in place of one weight for the whole
    batch.

    For normal weights of a linear layer, y_bm ~ N(sum_i x_bi mu_im, sum_i x_bi^2 sigma_im^2): the
    distribution of each datum's output is that of weight draws, the gradient's variance falls with
    the size of the batch. Dropout gets a mask for each datum. Any model with `Bayesian` nets may
    run inside, with any guide, for training by `fit(..., context=LocalReparameterization)`, for
    prediction by `with LocalReparameterization(): predict(...)`, where only what concerns one
    datum is meaningful: the outputs of two data no longer share their weights.

    Concerns `F.linear` and `F.conv1d` to `F.conv3d`; other operations use the drawn weight. Each
    row that a layer sees has noise of its own: where a datum has several (pixels of an image,
    steps of a sequence, a layer applied twice), their correlation is lost. `Flipout` keeps that of
    pixels.
    Source: Kingma, Salimans & Welling 2015, arXiv:1506.02557, eq. 6.

    Example:
        >>> from pyrovae import Bayesian, Model, Node
        >>> from pyrovae.heads import FixedScaleNormalHead
        >>> net = Bayesian(torch.nn.Linear(3, 1))
        >>> model = Model(y=Node(FixedScaleNormalHead(net, scale=1e-6), "x"))
        >>> with LocalReparameterization():
        ...     y = model(x=torch.ones(2, 3))["y"]
        >>> bool((y[0] - y[1]).abs() > 1e-4)
        True
    """

    rule = staticmethod(_of_normal)


class Flipout(_PerDatumNoise):
    r"""Within it, each datum has the noise of its normal weights with signs of its own: W_b = mu +
    (W - mu) o r_b s_b^T.

    Cheaper than `LocalReparameterization` where a layer has many inputs for each output
    (convolutions), and noisier. Used in the same way.
    Source: Wen et al. 2018, arXiv:1803.04386, eq. 4.
    """

    rule = staticmethod(_by_signs)


def layers_draw(model: Callable, guide: Callable) -> bool:
    """Whether `LocalReparameterization` is active and only layers use the weights, so that they
    need not be drawn.

    That is known of pyrovae's own programs, with independent normal weights and nets of usual
    layers; of all else it is not.
    """
    known = origins.get()
    if (
        known is None
        or known.renew is not LocalReparameterization
        or not isinstance(model, nn.Module)
        or not isinstance(guide, MeanField)
        or not guide.is_independent_normal
        or uses_user_code(model)
        or uses_user_code(guide)
    ):
        return False
    nets = [part for part in model.modules() if isinstance(part, Bayesian)]
    weights = {f"{net.name}.{key}" for net in nets for key in net.initial}
    return weights >= {site.name for site in guide.sites if site.is_real} and all(
        net.only_layers_use for net in nets
    )
