"""Penalties added to an objective, e.g. for contractive autoencoders."""

from collections.abc import Callable

import torch
import torch.nn as nn
from torch import Tensor


class Penalized(nn.Module):
    r"""`loss(**batch) + weight * penalty(**batch)`; the penalty is a module or function of the
    batch, a scalar per datum.

    Everything reported (`terms`) is that of the inner loss; in eval mode the penalty is left out,
    so that validation losses compare with those of runs without one.

    Example:
        >>> from pyrovae import ElboLoss, Guide, Node
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> encoder = MLP(4, [8], 2 * 2)
        >>> loss = ElboLoss(model, Guide(z=Node(NormalHead(encoder), "x")))
        >>> Penalized(loss, lambda x: squared_jacobian(encoder, x), weight=0.1)(x=torch.ones(3, 4)).shape
        torch.Size([])
    """

    def __init__(
        self, loss: nn.Module, penalty: Callable[..., Tensor], *, weight: float = 1.0
    ) -> None:
        super().__init__()
        self.inner, self.penalty, self.weight = loss, penalty, weight

    def forward(self, **batch: Tensor) -> Tensor:
        loss = self.inner(**batch)
        return loss + self.weight * self.penalty(**batch) if self.training else loss


def squared_jacobian(net: Callable[[Tensor], Tensor], x: Tensor, *, num_draws: int = 1) -> Tensor:
    r"""||d net(x) / dx||_F^2 averaged over the batch, by random projections: unbiased, one
    backward pass a draw.

    E ||v^T J||^2 = ||J||_F^2 for v ~ N(0, I).
    Shapes: x `(B, *event)`; net(x) `(B, ...)`, each row a function of its own row of x.
    Source: contractive autoencoders, Rifai et al. 2011, ICML; the estimator: Hutchinson 1989.

    Example:
        >>> squared_jacobian(lambda x: 3 * x, torch.randn(2000, 1), num_draws=10).round()
        tensor(9.)
    """
    out, pull_back, *_ = torch.func.vjp(
        net, x.detach()
    )  # x is no leaf: the engine would take it for a parameter that no module holds
    gradients = (pull_back(torch.randn_like(out))[0] for _ in range(num_draws))
    return sum(gradient.square().sum() for gradient in gradients) / (num_draws * len(x))
