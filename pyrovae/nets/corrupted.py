"""Inputs that are corrupted in training: denoising encoders."""

from typing import Literal

import torch
import torch.nn as nn
from torch import Tensor

Corruption = Literal["noise", "mask"]


class Corrupted(nn.Module):
    r"""Apply `net` to a corrupted first input in train mode, and to the input as it is in eval mode.

    noise: x + level * e, e ~ N(0, I), in units of the data. mask: each element of x becomes 0 with
    probability `level`.

    As the net of a guide it makes a denoising autoencoder: the model's likelihood still scores the
    clean x. Shapes: those of `net`. Raises ValueError for another kind and for a level outside its
    range.
    Source: Vincent et al. 2010, JMLR 11, section 3; of VAEs Im et al. 2017, arXiv:1511.06406.

    Example:
        >>> from pyrovae.nets import MLP
        >>> net = Corrupted(MLP(4, [8], 2), "mask", 0.5)
        >>> x = torch.ones(3, 4)
        >>> bool((net(x) == net(x)).all()), bool((net.eval()(x) == net(x)).all())
        (False, True)
    """

    def __init__(self, net: nn.Module, kind: Corruption, level: float) -> None:
        super().__init__()
        if kind not in ("noise", "mask") or not level > 0 or kind == "mask" and not level < 1:
            raise ValueError(
                f"kind={kind!r} and level={level}, expected 'noise' with a positive standard deviation or 'mask' with "
                "a probability between 0 and 1."
            )
        self.net, self.kind, self.level = net, kind, level

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        if self.training:
            if self.kind == "noise":
                x = x + self.level * torch.randn_like(x)
            else:
                x = x * (torch.rand_like(x) >= self.level)
        return self.net(x, *others)

    def extra_repr(self) -> str:
        return f"kind={self.kind!r}, level={self.level}"
