"""The noise schedule of a diffusion model."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class NoiseSchedule(nn.Module):
    r"""\gamma(t), the log of noise to signal, rising from `start` at t = 0 to `end` at t = 1; all of it
    learned.

    A noisy datum is z_t = alpha(t) x + sigma(t) e with sigma^2 = sigmoid(\gamma) and alpha^2 = 1 -
    sigma^2. Between its ends \gamma is a line plus rising sigmoids. Its ends are part of the model;
    what lies between changes no bound in continuous time, only the noise of its estimate, which
    `losses.DiffusionLoss` makes small.

    Shapes: t of any shape in [0, 1] -> \gamma and d\gamma/dt of that shape.
    Source: Kingma, Salimans, Poole & Ho 2021, arXiv:2107.00630, eq. 2 and appendix H.

    Example:
        >>> gamma, slope = NoiseSchedule(start=-8.0, end=6.0)(torch.tensor([0.0, 1.0]))
        >>> gamma.round(decimals=4).tolist(), bool((slope > 0).all())
        ([-8.0, 6.0], True)
    """

    def __init__(self, *, start: float = -10.0, end: float = 6.0, units: int = 16) -> None:
        super().__init__()
        if not start < end:
            raise ValueError(f"start={start} and end={end}, expected a schedule that rises.")
        self.start = nn.Parameter(torch.tensor(float(start), dtype=torch.get_default_dtype()))
        self.log_range = nn.Parameter(torch.tensor(end - start).to(self.start).log())
        self.height = nn.Parameter(torch.full((units,), -3.0))
        self.steepness = nn.Parameter(torch.full((units,), 8.0))
        self.register_buffer("centre", torch.linspace(0, 1, units))

    centre: Tensor

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.between(*self.progress(t))

    def progress(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The share of the way from start to end at t, and its derivative."""
        low, high = (self._rise(t.new_full((), end))[0] for end in (0.0, 1.0))
        value, slope = self._rise(t)
        return (value - low) / (high - low), slope / (high - low)

    def between(self, share: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """\\gamma and its derivative where the share and its derivative are known."""
        width = self.log_range.exp()
        return self.start + width * share, width * slope

    def _rise(self, t: Tensor) -> tuple[Tensor, Tensor]:
        height, steepness = functional.softplus(self.height), functional.softplus(self.steepness)
        s = (steepness * (t.unsqueeze(-1) - self.centre)).sigmoid()
        return t + (height * s).sum(-1), 1 + (height * steepness * s * (1 - s)).sum(-1)
