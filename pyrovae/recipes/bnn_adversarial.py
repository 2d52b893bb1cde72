"""Adversarial training of a regression or classification loss."""

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.losses.base import set_terms, terms_of


class Perturbed(nn.Module):
    """A loss averaged over the data and the data moved by `size` along the sign of its gradient
    (Goodfellow et al. 2015, eq. 1)."""

    def __init__(self, inner: nn.Module, size: float) -> None:
        super().__init__()
        self.inner, self.size = inner, size

    def forward(self, x: Tensor, **targets: Tensor) -> Tensor:
        moved = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.inner(x=moved, **targets), moved)
        loss = self.inner(x=x, **targets)
        set_terms(self, terms_of(self.inner))
        return 0.5 * (loss + self.inner(x=x + self.size * gradient.sign(), **targets))
