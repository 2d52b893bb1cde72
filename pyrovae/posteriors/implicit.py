"""The slow direction of autoregressive steps, in a few parallel passes."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Transform
from torch.distributions.transforms import _InverseTransform
from zuko.transforms import AutoregressiveTransform, ComposedTransform


def implicit(transform: Transform) -> Transform:
    """The same transform with `FixedPointTransform` in place of zuko's autoregressive steps."""
    if isinstance(transform, ComposedTransform):
        return ComposedTransform(*(implicit(part) for part in transform.transforms))
    if isinstance(transform, AutoregressiveTransform):
        return FixedPointTransform(transform)
    if isinstance(transform, _InverseTransform):
        return implicit(transform.inv).inv
    return transform


class FixedPointTransform(Transform):
    r"""y_i = f(x_i | x_<i), inverted by iterating x <- f^{-1}(y | x) on all dimensions at once.

    The iteration is exact after as many passes as there are dimensions, like zuko's, and stops
    sooner where it no longer moves. The gradient solves u = g + (d f^{-1}/dx)^T u in the same way,
    so neither direction keeps a graph of the passes.

    Shapes: `(*batch, D)`. Draws through it differ from zuko's by rounding alone.
    Source: implicit differentiation of fixed points, Bai, Kolter & Koltun 2019, arXiv:1909.01377,
    section 3; Jacobi iterations for autoregressive models: Song et al. 2021, arXiv:2002.03629.
    """

    bijective = True

    def __init__(self, step: AutoregressiveTransform) -> None:
        super().__init__()
        self.step = step
        self.domain, self.codomain = step.domain, step.codomain

    def _call(self, x: Tensor) -> Tensor:
        return self.step(x)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.step.log_abs_det_jacobian(x, y)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.step.call_and_ladj(x)

    def _inverse(self, y: Tensor) -> Tensor:
        def improve(x: Tensor) -> Tensor:
            return self.step.meta(x).inv(y)

        with torch.no_grad():
            x = _iterate(improve, torch.zeros_like(y), self.step.passes)
        if not torch.is_grad_enabled():
            return x
        attached = improve(x)
        if not attached.requires_grad:
            return attached
        start = x.detach().requires_grad_()
        again = improve(start)

        def solve(gradient: Tensor) -> Tensor:
            def more(u: Tensor) -> Tensor:
                return gradient + torch.autograd.grad(again, start, u, retain_graph=True)[0]

            return _iterate(more, gradient, self.step.passes)

        attached.register_hook(solve)
        return attached


def _iterate(step: Callable[[Tensor], Tensor], x: Tensor, passes: int) -> Tensor:
    tolerance = 10 * torch.finfo(x.dtype).eps
    for _ in range(passes):
        new = step(x)
        if torch.all((new - x).abs() <= tolerance * (1 + new.abs())):
            return new
        x = new
    return x
