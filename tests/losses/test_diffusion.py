"""The bound of a diffusion model in continuous time: by formula for normal data, and as the limit of
a hierarchical VAE."""

import math

import pytest
import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.heads.diffusion import Denoising, Noiseless, Noising
from pyrovae.losses import DiffusionLoss
from pyrovae.nets import Denoiser, NoiseSchedule
from pyrovae.priors import StandardNormal

D, SPREAD = 3, 0.7


class Optimal(nn.Module):
    """E[e | z] for x ~ N(0, SPREAD^2 I)."""

    def forward(self, z: Tensor, gamma: Tensor) -> Tensor:
        noise, signal = gamma.sigmoid().unsqueeze(-1), (-gamma).sigmoid().unsqueeze(-1)
        return noise.sqrt() * z / (signal * SPREAD**2 + noise)


def pair(denoiser: nn.Module, schedule: NoiseSchedule, steps: int) -> tuple[pv.Model, pv.Guide]:
    """T = `steps` levels above z0, wired one after another."""
    times = [t / steps for t in range(steps + 1)]
    model = {f"z{steps}": StandardNormal(D).double()}
    guide = {"z0": pv.Node(Noising(schedule, t=0.0), "x")}
    for t in range(steps, 0, -1):
        step = Denoising(denoiser, schedule, t=times[t], s=times[t - 1])
        model[f"z{t - 1}"] = pv.Node(step, f"z{t}")
    for t in range(1, steps + 1):
        step = Noising(schedule, t=times[t], s=times[t - 1])
        guide[f"z{t}"] = pv.Node(step, f"z{t - 1}")
    return pv.Model(**model, x=pv.Node(Noiseless(schedule), "z0")), pv.Guide(**guide)


def test_normal_data_have_their_density_as_bound() -> None:
    schedule = NoiseSchedule(start=-14.0, end=12.0).double()
    loss = DiffusionLoss(Optimal(), schedule)
    x = SPREAD * torch.randn(400, D).double()
    torch.manual_seed(0)
    with torch.no_grad():
        found = loss.bound(x, 5000).mean(0)
    exact = torch.distributions.Normal(0.0, SPREAD).log_prob(x).sum(-1)
    gap = found - exact
    error = gap.std() / len(gap) ** 0.5
    assert abs(gap.mean()) < 5 * error and error < 0.02


def test_units_of_the_data_are_kept() -> None:
    schedule = NoiseSchedule(start=-14.0, end=12.0).double()
    x = 10 * SPREAD * torch.randn(400, D).double() + 3
    torch.manual_seed(0)
    with torch.no_grad():
        found = DiffusionLoss(Optimal(), schedule, scale=10.0, loc=3.0).bound(x, 5000).mean(0)
    exact = torch.distributions.Normal(3.0, 10 * SPREAD).log_prob(x).sum(-1)
    gap = found - exact
    error = gap.std() / len(gap) ** 0.5
    assert abs(gap.mean()) < 5 * error and error < 0.02


def test_a_hierarchy_of_many_levels_has_the_same_bound() -> None:
    """The ELBO of T levels rises with T, to the bound in continuous time."""
    torch.manual_seed(0)
    schedule, denoiser = NoiseSchedule(start=-4.0, end=4.0).double(), Denoiser(D, [16]).double()
    x = torch.randn(50, D).double()
    with torch.no_grad():
        limit = DiffusionLoss(denoiser, schedule).bound(x, 2000).mean(0)
        gaps = {}
        for steps in (2, 8, 128):
            weights = pv.log_weights(*pair(denoiser, schedule, steps), {"x": x}, 60)
            gaps[steps] = weights.mean(0) - limit
    error = gaps[128].std() / len(x) ** 0.5
    assert gaps[2].mean() < gaps[8].mean() < gaps[128].mean() - 0.1
    assert abs(gaps[128].mean()) < 5 * error + 0.02 and error < 0.1


def test_the_guide_is_the_posterior_of_its_steps() -> None:
    """q(z1 | x) by two steps is q(z1 | x) by one."""
    schedule = NoiseSchedule().double()
    first, second, once = (
        Noising(schedule, t=0.3),
        Noising(schedule, t=0.8, s=0.3),
        Noising(schedule, t=0.8),
    )
    x = torch.randn(1, D).double()
    step, direct = first(x), once(x)
    ratio = second(torch.ones(1, D).double()).mean
    torch.testing.assert_close(ratio * step.mean, direct.mean)
    variance = ratio**2 * step.variance + second(x).variance
    torch.testing.assert_close(variance, direct.variance)


def test_the_schedule_between_its_ends_lowers_the_noise_and_not_the_bound() -> None:
    """Its gradient is that of the square: of the variance."""
    torch.manual_seed(0)
    schedule, x = NoiseSchedule(start=-6.0, end=6.0).double(), torch.randn(200, D).double()
    loss = DiffusionLoss(Optimal(), schedule)
    inner = [schedule.height, schedule.steepness]

    torch.manual_seed(1)
    ours = torch.autograd.grad(loss(x=x), inner)
    torch.manual_seed(1)
    value = loss.bound(x, 1)
    start, end = (schedule(torch.tensor(t).double())[0] for t in (0.0, 1.0))
    rest = -0.5 * D * (math.log(2 * math.pi) + 1 + start) - 0.5 * (
        D * end.sigmoid()
        + (-end).sigmoid() * x.square().sum(-1)
        - D
        - D * nn.functional.logsigmoid(end)
    )
    diffusion = (rest - value).detach()
    # numerical derivative of mean f^2 along one weight
    step = 1e-5
    means = []
    for sign in (1, -1):
        with torch.no_grad():
            schedule.height[3] += sign * step
            torch.manual_seed(1)
            means.append((rest - loss.bound(x, 1)).square().mean())
            schedule.height[3] -= sign * step
    slope = (means[0] - means[1]) / (2 * step)
    torch.testing.assert_close(ours[0][3], slope.to(ours[0]), rtol=1e-4, atol=1e-7)
    assert diffusion.min() >= 0


def test_it_trains_captured_and_the_noise_falls() -> None:
    torch.manual_seed(0)
    x = torch.cat([torch.randn(200, D) * 0.1 + 1, torch.randn(200, D) * 0.1 - 1]).float()
    loss = DiffusionLoss(Denoiser(D, [32]), NoiseSchedule(start=-8.0)).float()
    noise = loss.bound(x, 50).std(0).mean().item()
    history = pv.fit(loss, [{"x": x}], epochs=300, lr=0.01, compile="off")
    assert history[-1]["loss"] < history[0]["loss"] - 1.0
    assert loss.bound(x, 50).std(0).mean().item() < noise


def test_refusals() -> None:
    with pytest.raises(ValueError, match="expected a schedule that rises"):
        NoiseSchedule(start=1.0, end=0.0)
    with pytest.raises(ValueError, match="expected times with 0 <= s < t <= 1"):
        Denoising(Optimal(), NoiseSchedule(), t=0.2, s=0.2)
    loss = DiffusionLoss(Denoiser(4, [8]), NoiseSchedule())
    with pytest.raises(ValueError, match="expected \\(B, features\\)"):
        loss(x=torch.randn(5, 2, 4))
