"""Diffusion as a VAE with infinitely many latents and a fixed guide."""

from typing import Protocol

import torch
from torch import Tensor, nn


class Schedule(Protocol):
    """\\gamma(t), such as `nets.NoiseSchedule`."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """\\gamma and its derivative."""

    def progress(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The share of the way between the ends, and its derivative."""

    def between(self, share: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """\\gamma and its derivative from those."""


class DiffusionLoss(nn.Module):
    r"""-E[bound] in nats per datum, where for z_t = alpha x + sigma e and t uniform on (0, 1)

    bound = log p(x | z_0) - KL(q(z_1 | x) | N(0, I)) - 1/2 \gamma'(t) |e - e^(z_t, \gamma(t))|^2.

    It is the ELBO of `heads.Denoising` steps wired one after another as their number grows, with
    one time a datum in place of all of them. The first two terms are exact.
    Times are spread evenly over a batch. The ends of the schedule are trained by the bound, what
    lies between by the square of the last term, whose mean does not depend on it: its variance
    falls.

    denoiser: from z and \gamma to the estimate of e, such as `nets.Denoiser`. schedule:
    `nets.NoiseSchedule`. scale, loc: data are divided by `scale` after `loc` was taken off, so that
    they have a variance of about 1; the bound is that of x itself.

    Shapes: x `(B, features)` of real numbers.
    Raises: ValueError for x of another rank: flatten images.
    Source: Kingma, Salimans, Poole & Ho 2021, arXiv:2107.00630, eq. 11, 17 and appendix I.

    Example:
        >>> from pyrovae.nets import Denoiser, NoiseSchedule
        >>> loss = DiffusionLoss(Denoiser(4, [16]), NoiseSchedule())
        >>> loss(x=torch.randn(5, 4)).shape, loss.bound(torch.randn(5, 4), 10).shape
        (torch.Size([]), torch.Size([10, 5]))
    """

    def __init__(
        self, denoiser: nn.Module, schedule: nn.Module, *, scale: float = 1.0, loc: float = 0.0
    ) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale={scale}, expected a positive number.")
        self.denoiser = denoiser
        self.schedule: Schedule = schedule  # type: ignore[assignment]
        self.scale, self.loc = scale, loc

    def forward(self, *, x: Tensor, **others: Tensor) -> Tensor:
        return -self.bound(x, 1).mean()

    def bound(self, x: Tensor, num_draws: int) -> Tensor:
        """Estimates of the bound of log p(x), `(num_draws, B)` in nats: unbiased, and averaged over a
        batch less noisy than they are alone."""
        if x.dim() != 2:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, expected (B, features): x.flatten(1)."
            )
        v = (x - self.loc) / self.scale
        start, end = (self.schedule(v.new_full((), t))[0] for t in (0.0, 1.0))
        count = num_draws * len(v)
        steps = torch.arange(count, device=v.device, dtype=v.dtype).view(num_draws, len(v))
        t = (torch.rand((), device=v.device, dtype=v.dtype) + steps / count) % 1.0
        weights: list[Tensor] = []
        share, slope = (_own_gradient(part, weights) for part in self.schedule.progress(t))
        gamma, speed = self.schedule.between(share, slope)
        e = torch.randn(num_draws, *v.shape, device=v.device, dtype=v.dtype)
        z = (-gamma).sigmoid().sqrt().unsqueeze(-1) * v
        z = z + gamma.sigmoid().sqrt().unsqueeze(-1) * e
        error = (e - self.denoiser(z, gamma)).square().sum(-1)
        diffusion = 0.5 * speed * error
        weights.append(2 * diffusion.detach())
        features = v.shape[-1]
        known = torch.log(torch.as_tensor(2 * torch.pi, device=v.device)) + 1 + start
        reconstruction = -0.5 * features * known - features * _log(self.scale, v)
        prior = 0.5 * (
            features * end.sigmoid()
            + (-end).sigmoid() * v.square().sum(-1)
            - features
            - features * nn.functional.logsigmoid(end)
        )
        return reconstruction - prior - diffusion


def _log(number: float, like: Tensor) -> Tensor:
    return torch.full((), number, device=like.device, dtype=like.dtype).log()


def _own_gradient(value: Tensor, weights: list[Tensor]) -> Tensor:
    """The value, whose gradient is multiplied by the weight that is known by then: 2 f for each
    datum makes the gradient of f that of f^2."""
    if value.requires_grad:
        value = value.view_as(value)
        value.register_hook(lambda gradient: gradient * weights[0])
    return value
