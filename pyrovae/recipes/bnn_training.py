"""What training a Bayesian net in a comparison needs besides `fit`."""

import time

import torch
import torch.nn as nn
from torch import Tensor


class StopAfter:
    """A hook that ends training after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.start = seconds, time.perf_counter()

    def __call__(self, run: object) -> None:
        run.stop = run.stop or time.perf_counter() - self.start > self.seconds


class Perturbed(nn.Module):
    """A loss on the data and on data moved by `size` along the sign of its gradient (Goodfellow et
    al. 2015, eq. 1)."""

    def __init__(self, inner: nn.Module, size: float) -> None:
        super().__init__()
        self.inner, self.size = inner, size

    def forward(self, x: Tensor, **targets: Tensor) -> Tensor:
        moved = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.inner(x=moved, **targets), moved)
        loss = self.inner(x=x, **targets)
        self.terms = getattr(self.inner, "terms", None)
        return 0.5 * (loss + self.inner(x=x + self.size * gradient.sign(), **targets))
