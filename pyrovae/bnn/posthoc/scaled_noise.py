"""A model whose normal observations have another scale."""

import pyro.distributions as dist
import torch.nn as nn
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from pyrovae.core.shapes import DATA
from pyrovae.core.traces import is_subsample, plate_frame
from pyrovae.core.types import Site


class ScaledNoise(nn.Module):
    """The model with `factor` times the scale of its normal sites in the plate over data.

    Example:
        >>> import torch
        >>> from pyrovae import Model, Node
        >>> from pyrovae.heads import FixedScaleNormalHead
        >>> model = ScaledNoise(Model(y=Node(FixedScaleNormalHead(nn.Linear(3, 1), scale=0.5), "x")), torch.tensor(3.0))
        >>> from pyro import poutine
        >>> poutine.trace(model).get_trace(x=torch.zeros(2, 3)).nodes["y"]["fn"].stddev.squeeze(-1)
        tensor([1.5000, 1.5000])
    """

    factor: Tensor

    def __init__(self, model: nn.Module, factor: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("factor", factor)

    def forward(self, *args: object, **data: object) -> object:
        with _Scale(self.factor):
            return self.model(*args, **data)


class _Scale(Messenger):
    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.factor = factor

    def _pyro_sample(self, msg: Site) -> None:
        if not is_subsample(msg) and plate_frame(msg, DATA) is not None:
            msg["fn"] = _scaled(msg["fn"], self.factor)


def _scaled(fn: Distribution, factor: Tensor) -> Distribution:
    if isinstance(fn, MaskedDistribution):
        return _scaled(fn.base_dist, factor).mask(fn._mask)  # type: ignore[attr-defined]
    if isinstance(fn, Independent):
        return dist.Independent(_scaled(fn.base_dist, factor), fn.reinterpreted_batch_ndims)
    if isinstance(fn, Normal):
        return dist.Normal(fn.loc, fn.scale * factor.to(fn.scale))
    return fn
