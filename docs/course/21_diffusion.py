r"""
21. Diffusion: a hierarchical VAE with a fixed guide
====================================================

Take a VAE with many levels of latents, all of the size of the datum, and a guide without parameters that only adds
noise. With :math:`\gamma = \log(\sigma^2 / \alpha^2)`, noise to signal at time t, and :math:`\alpha^2 = 1 - \sigma^2`,

.. math:: z_t = \alpha_t x + \sigma_t \epsilon, \quad \epsilon \sim N(0, I), \quad p(z_s \mid z_t) = q(z_s \mid z_t, \hat x),

for s < t. The model removes noise: a net :math:`\hat\epsilon(z_t, \gamma(t))` estimates it, which gives :math:`\hat x =
(z_t - \sigma_t \hat\epsilon) / \alpha_t`, and q given x is normal. With more and more levels the ELBO becomes (Kingma
et al. 2021, arXiv:2107.00630; Ho, Jain & Abbeel 2020, arXiv:2006.11239)

.. math::

   L = E \log p(x \mid z_0) - KL(q(z_1 \mid x) \,\|\, N(0, I))
       - \tfrac12 \int_0^1 \gamma'(t)\, E \|\epsilon - \hat\epsilon(z_t, \gamma(t))\|^2 dt .

By a change of variables the integral depends on :math:`\gamma` through its two ends only.
"""

import math

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import Batches, DictDataset
from pyrovae.heads.diffusion import Denoising, Noiseless, Noising
from pyrovae.losses import DiffusionLoss
from pyrovae.nets import Denoiser, NoiseSchedule
from pyrovae.priors import StandardNormal

torch.manual_seed(0)

# %%
# Four normals on a circle
# ------------------------
# Of unit variance, and with a known density to compare the bound with.

SD = 0.25
angle = torch.arange(4) * math.pi / 2
centres = math.sqrt(2 * (1 - SD**2)) * torch.stack([angle.cos(), angle.sin()], 1)


def circle(count: int) -> torch.Tensor:
    return centres[torch.randint(4, (count,))] + SD * torch.randn(count, 2)


def log_density(x: torch.Tensor) -> torch.Tensor:
    squares = (x.unsqueeze(1) - centres).square().sum(-1) / SD**2
    return torch.logsumexp(-0.5 * squares, 1) - math.log(4 * 2 * math.pi * SD**2)


rows, test = Batches(DictDataset(x=circle(5_000)), 500, shuffle=True), circle(1_000)


def trained(schedule: torch.nn.Module) -> DiffusionLoss:
    loss = DiffusionLoss(Denoiser(2, [64, 64]), schedule)
    pv.fit(loss, rows, epochs=100, lr=1e-2, schedule=lambda one: CosineAnnealingLR(one, 100))
    return loss


@torch.no_grad()
def report(name: str, loss: DiffusionLoss) -> None:
    draws = loss.bound(test, 100)
    ends = [loss.schedule(torch.tensor(t))[0].item() for t in (0.0, 1.0)]
    print(
        f"{name:15s} bound {draws.mean():.3f} nats, gamma from {ends[0]:.1f} to {ends[1]:.1f}; one estimate has sd "
        f"{draws.std():.2f}"
    )


loss = trained(NoiseSchedule(start=-6.0, end=4.0))
report("learned", loss)
print(f"{'exact':15s} log p(x) {log_density(test).mean():.3f} nats")

# %%
# The same model as levels
# ------------------------
# `Noising`, `Denoising` and `Noiseless` are conditionals for `Model` and `Guide`: T of them are an ordinary hierarchical
# VAE, with an ELBO and importance weights, and without new training, as the net knows all times.


def wired(levels: int) -> tuple[pv.Model, pv.Guide]:
    net, schedule = loss.denoiser, loss.schedule
    model = {f"z{levels}": StandardNormal(2)}
    guide = {"z0": pv.Node(Noising(schedule, t=0.0), "x")}
    for level in range(levels, 0, -1):
        t, s = level / levels, (level - 1) / levels
        model[f"z{level - 1}"] = pv.Node(Denoising(net, schedule, t=t, s=s), f"z{level}")
    for level in range(1, levels + 1):
        t, s = level / levels, (level - 1) / levels
        guide[f"z{level}"] = pv.Node(Noising(schedule, t=t, s=s), f"z{level - 1}")
    return pv.Model(**model, x=pv.Node(Noiseless(schedule), "z0")), pv.Guide(**guide)


some, panels = {"x": test[:200]}, {"data": circle(500), "z1": torch.randn(500, 2)}
for levels in (3, 10, 30):
    model, guide = wired(levels)
    found = pv.log_evidence(model, guide, some, num_particles=100)
    draws = model(num=500)["x"]
    panels[f"draws, T = {levels}"] = draws
    print(
        f"T = {levels:2d}: ELBO {found.elbo.mean():.3f}, log p(x) of 100 particles {found.mean:.3f}; the draws' "
        f"mean log density {log_density(draws).mean():.2f}"
    )
figure = plots.latent_panels(panels, title="data, noise, and draws of T steps")

# %%
# The bound lies a little below log p(x). With few levels the ELBO is far lower, for each p(z_s | z_t) is one normal; the
# weights of 100 particles make up for most of it, and thirty steps draw points of the data's own log density.
#
# What goes wrong: noise that does not end in noise
# -------------------------------------------------
# Draws begin at N(0, I), and so :math:`z_1` must have forgotten the datum. A schedule that is fixed and ends too early
# pays :math:`KL(q(z_1 \mid x) \| N(0, I))` in every datum's bound, and its draws begin where no noisy datum lies. A
# loss without that term, such as the mean of :math:`\|\epsilon - \hat\epsilon\|^2`, does not notice.


def fixed(start: float, end: float) -> torch.nn.Module:
    return NoiseSchedule(start=start, end=end).requires_grad_(False)


whole = loss
loss = trained(fixed(-6.0, -4.0))
report("ends too early", loss)
print(f"the draws' mean log density {log_density(wired(30)[0](num=500)['x']).mean():.2f}")

# %%
# Exercise 1
# ----------
# *What is the schedule between its ends good for, if the bound does not depend on it?* For the noise of its estimate,
# and so of the gradient. Here the learned one is almost straight, and there is hardly a difference:

start, end = (whole.schedule(torch.tensor(t))[0].item() for t in (0.0, 1.0))
report("learned", whole)
report("a straight line", DiffusionLoss(whole.denoiser, fixed(start, end)))
t = torch.linspace(0, 1, 50)
both = {"learned": whole.schedule(t)[0].detach(), "straight": start + (end - start) * t}
lines = {name: plots.Line(t, gamma) for name, gamma in both.items()}
schedules = plots.comparison(lines, "t", "gamma, the log of noise to signal")

# %%
# Exercise 2
# ----------
# *Training by the plain mean of* :math:`\|\epsilon - \hat\epsilon\|^2` *gives prettier pictures. What does it optimise?*
# The integral without :math:`\gamma'(t)`: times with much noise, which decide about shapes, count more.
