"""The conjugate prior of a variance."""

import pyro.distributions as dist
import torch
import torch.nn as nn
from torch import Tensor


class InverseGammaPrior(nn.Module):
    r"""v ~ InverseGamma(shape, rate), a single positive number: the prior of a noise variance.

    The density is rate^shape / Gamma(shape) v^{-shape - 1} exp(-rate / v); its mode is rate /
    (shape + 1). Given the residuals r of N normal data it is conjugate: v | r ~ InverseGamma(shape
    + N / 2, rate + sum r^2 / 2).

    Example:
        >>> InverseGammaPrior(2.0, 1.0)().mean
        tensor(1.)
    """

    shape: Tensor
    rate: Tensor

    def __init__(self, shape: float, rate: float) -> None:
        super().__init__()
        if not shape > 0 or not rate > 0:
            raise ValueError(f"shape={shape}, rate={rate}, but both are positive.")
        self.register_buffer("shape", torch.tensor(float(shape), dtype=torch.get_default_dtype()))
        self.register_buffer("rate", torch.tensor(float(rate), dtype=torch.get_default_dtype()))

    def forward(self) -> dist.InverseGamma:
        return dist.InverseGamma(self.shape, self.rate)
