"""The steps of a diffusion model as conditionals: a hierarchical VAE of T levels by plain wiring."""

from typing import Protocol

import pyro.distributions as dist
import torch
from torch import Tensor, nn


class Gamma(Protocol):
    """The log of noise to signal at times in [0, 1], such as `nets.NoiseSchedule`."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """\\gamma and its derivative."""


class Noising(nn.Module):
    r"""q(z_t | z_s) = N(alpha_t / alpha_s z_s, sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2): more noise, s
    < t; without s, q(z_t | x) = N(alpha_t x, sigma_t^2).

    Shapes: `(*batch, features)` -> event `(features,)`. Times are numbers in [0, 1].
    Source: Kingma, Salimans, Poole & Ho 2021, arXiv:2107.00630, eq. 1 and 25.

    Example:
        >>> from pyrovae.nets import NoiseSchedule
        >>> Noising(NoiseSchedule(), t=0.5)(torch.zeros(3, 4)).event_shape
        torch.Size([4])
    """

    def __init__(self, schedule: nn.Module, *, t: float, s: float | None = None) -> None:
        super().__init__()
        if not 0 <= (s or 0.0) <= t <= 1:
            raise ValueError(f"s={s} and t={t}, expected times with 0 <= s <= t <= 1.")
        self.schedule: Gamma = schedule
        self.t, self.s = t, s

    def forward(self, z: Tensor) -> dist.Independent:
        alpha, variance = _signal(self.schedule, self.t, z)
        if self.s is not None:
            alpha_s, variance_s = _signal(self.schedule, self.s, z)
            alpha = alpha / alpha_s
            variance = variance - alpha.square() * variance_s
        return dist.Normal(alpha * z, variance.sqrt()).to_event(1)


class Denoising(nn.Module):
    r"""p(z_s | z_t) = q(z_s | z_t, x^(z_t)), s < t: less noise, with the datum as the denoiser estimates
    it.

    N(alpha_s / alpha_t (z_t - c sigma_t e^), c sigma_s^2), c = 1 - exp(\gamma_s - \gamma_t).

    Shapes: `(*batch, features)` -> event `(features,)`.
    Source: Kingma, Salimans, Poole & Ho 2021, arXiv:2107.00630, eq. 33 and 34.

    Example:
        >>> from pyrovae.nets import Denoiser, NoiseSchedule
        >>> Denoising(Denoiser(4, [8]), NoiseSchedule(), t=0.5, s=0.4)(torch.zeros(3, 4)).event_shape
        torch.Size([4])
    """

    def __init__(self, denoiser: nn.Module, schedule: nn.Module, *, t: float, s: float) -> None:
        super().__init__()
        if not 0 <= s < t <= 1:
            raise ValueError(f"s={s} and t={t}, expected times with 0 <= s < t <= 1.")
        self.denoiser = denoiser
        self.schedule: Gamma = schedule
        self.t, self.s = t, s

    def forward(self, z: Tensor) -> dist.Independent:
        gamma, gamma_s = (self.schedule(z.new_full((), time))[0] for time in (self.t, self.s))
        (alpha, variance), (alpha_s, variance_s) = (
            _signal(self.schedule, time, z) for time in (self.t, self.s)
        )
        c = -torch.expm1(gamma_s - gamma)
        estimate = self.denoiser(z, gamma.expand(z.shape[:-1]))
        loc = alpha_s / alpha * (z - c * variance.sqrt() * estimate)
        return dist.Normal(loc, (c * variance_s).sqrt()).to_event(1)


class Noiseless(nn.Module):
    r"""p(x | z_0) = N(z_0 / alpha_0, (sigma_0 / alpha_0)^2): the datum given its least noisy version.

    Shapes: `(*batch, features)` -> event `(features,)`.

    Example:
        >>> from pyrovae.nets import NoiseSchedule
        >>> Noiseless(NoiseSchedule())(torch.zeros(3, 4)).event_shape
        torch.Size([4])
    """

    def __init__(self, schedule: nn.Module) -> None:
        super().__init__()
        self.schedule: Gamma = schedule

    def forward(self, z: Tensor) -> dist.Independent:
        alpha, variance = _signal(self.schedule, 0.0, z)
        return dist.Normal(z / alpha, variance.sqrt() / alpha).to_event(1)


def _signal(schedule: Gamma, t: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma^2 at time t."""
    gamma = schedule(like.new_full((), t))[0]
    return (-gamma).sigmoid().sqrt(), gamma.sigmoid()
