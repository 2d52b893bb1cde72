r"""
25. Markov chains: Metropolis, Gibbs, HMC, SGLD
===============================================

A Markov chain visits weights as often as the posterior says, and needs it up to a constant only, through the energy

.. math:: U(w) = -\log p(w) - \sum_i \log p(y_i \mid x_i, w) .

* **Metropolis** (1953): propose :math:`w' = w +` noise, accept with probability :math:`\min(1, e^{U(w) - U(w')})`.
* **Gibbs** (Geman & Geman 1984): draw one variable from its distribution given the others, in turn.
* **HMC** (Neal 2011, arXiv:1206.1901) rolls over U like a ball: L leapfrog steps, a gradient each, then accepts or not;
  **NUTS** (Hoffman & Gelman 2014, arXiv:1111.4246) chooses L.
* **SGLD** (Welling & Teh 2011): gradient steps on minibatches plus noise, :math:`w \leftarrow w - \eta \nabla \tilde U
  + \sqrt{2 \eta}\, N(0, I)`, with :math:`\tilde U` estimated from the batch, and no acceptance.

Of R chains of S draws, :math:`\hat R` is the spread of all draws over the spread within chains (near 1, or the chains
have not met), and the effective sample size :math:`RS / (1 + 2 \sum_t \rho_t)` for autocorrelations :math:`\rho_t`.
"""

from collections.abc import Callable

import torch
from pyro.infer import NUTS

import pyrovae as pv
from pyrovae import plots
from pyrovae.bnn.guides import PointEstimate
from pyrovae.bnn.samplers import SGLD, Gibbs, hmc, mcmc, noise_variance, random_walk
from pyrovae.heads import FixedScaleNormalHead, SharedVarianceHead
from pyrovae.priors import InverseGammaPrior
from pyrovae.recipes.variational.weights import NOISE, exact, line_data

torch.manual_seed(0)
N, CHAINS = 30, 4


def r_hat(draws: torch.Tensor) -> float:
    """Of (S, R) draws, each chain cut into halves."""
    halves = torch.cat(draws[: len(draws) // 2 * 2].chunk(2), 1)
    within, between = halves.var(0).mean(), halves.mean(0).var()
    return (((len(halves) - 1) / len(halves) * within + between) / within).sqrt().item()


def ess(draws: torch.Tensor) -> float:
    """The sum ends where a pair of neighbours is not positive (Geyer 1992)."""
    count = len(draws)
    spectrum = torch.fft.rfft(draws - draws.mean(0), 2 * count, dim=0).abs().square()
    rho = torch.fft.irfft(spectrum, dim=0)[:count].mean(1)
    pairs = (rho / rho[0])[: count // 2 * 2].reshape(-1, 2).sum(1)
    return draws.numel() / (2 * pairs[(pairs > 0).cumprod(0).bool()].sum().item() - 1)


# %%
# A line, whose posterior is known
# --------------------------------
# Intercept and slope, correlated as all x are positive; `Stacked` runs four chains side by side.

x, y = line_data(N, seed=0)
data, (truth, _) = {"x": x, "y": y}, exact(x, y)
spread = truth.covariance.diagonal().sqrt()


def one() -> pv.ElboLoss:
    net = pv.Bayesian(torch.nn.Linear(1, 1))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=NOISE), "x"))
    return pv.ElboLoss(model, PointEstimate(net), num_data=N)


def stacked(sampler: Callable, x: torch.Tensor, **options: int) -> torch.Tensor:
    """Slopes of all chains, (S, R)."""
    chains = pv.Stacked([one() for _ in range(CHAINS)], shared=True)
    found = sampler(chains, {"x": x, "y": y}, num_data=N, **options)
    return found.draws["w.weight"].flatten(1)


def sgld(lr: float) -> torch.Tensor:
    """The same on minibatches of 10, the loss (in nats per datum) by hand."""
    w, kept = torch.nn.Parameter(torch.zeros(CHAINS, 2)), []
    optimizer = SGLD([w], lr=lr, num_data=N)
    for _ in range(6_000):
        rows = torch.randint(N, (10,))
        residuals = y[rows, 0] - w[:, :1] - w[:, 1:] * x[rows, 0]
        loss = residuals.square().mean(1).sum() / (2 * NOISE**2) + w.square().sum() / (2 * N)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        kept.append(w[:, 1].detach().clone())
    return torch.stack(kept[len(kept) // 4 :])


model, calls = one().model, []
counter = model.register_forward_hook(lambda *_: calls.append(1))
nuts = {"num_samples": 60, "warmup": 30, "num_chains": CHAINS, "compile": "off"}
kinds = {
    "Metropolis": lambda: stacked(random_walk, x, num_samples=1_000, warmup=300),
    "HMC": lambda: stacked(hmc, x, num_samples=150, warmup=80, num_steps=8),  # 4 to 8, mean 6
    "NUTS": lambda: mcmc(model, data, NUTS, **nuts).draws["w.weight"].flatten(1),
    "SGLD": lambda: sgld(0.01),
}
costs, slopes, panels = {"Metropolis": 1_300, "HMC": 230 * 6, "SGLD": 6_000}, {}, {}
for name, run in kinds.items():
    slope = slopes[name] = run()
    cost, lines = costs.get(name, len(calls) // CHAINS), slope[:60, :2].T
    panels[name] = {f"chain {r}": plots.Line(range(len(v)), v) for r, v in enumerate(lines)}
    print(
        f"{name:10s} slope {slope.mean():.3f} +- {slope.std():.3f}, R-hat {r_hat(slope):.3f}, ESS {ess(slope):5.0f}, "
        f"{CHAINS * cost / ess(slope):6.1f} evaluations for an effective draw"
    )
print(f"exact      slope {truth.mean[1]:.3f} +- {spread[1]:.3f}")
traces = plots.line_panels([panels], xlabels=["draw"] * 4, ylabels=["slope", "", "", ""])

# %%
# All means agree within errors of sd / root of ESS. In evaluations of the density, warm-up included, HMC is cheapest;
# NUTS pays for choosing its length, SGLD (a third of the data each time) for its small steps. For two weights Metropolis
# does well too: its steps for a draw grow as the number of weights D, those of HMC as its fourth root (Neal 2011).
#
# Gibbs: the noise too
# --------------------
# With an inverse gamma prior the variance of the noise, given the weights, is inverse gamma again: `Gibbs` draws it
# exactly, in turn with a step of NUTS on the weights.

head, prior = SharedVarianceHead(pv.Bayesian(torch.nn.Linear(1, 1))), InverseGammaPrior(1.0, 0.1)
noisy = pv.Model(variance=pv.Global(prior), y=pv.Node(head, "x", "variance"))
kernel = lambda model: Gibbs(model, NUTS, variance=noise_variance())  # noqa: E731
found = mcmc(noisy, data, kernel, num_samples=100, warmup=40, compile="off")
deviation = found.draws["variance"].sqrt()
print(f"noise {deviation.mean():.3f} +- {deviation.std():.3f}, the data were made with {NOISE}")

# %%
# What goes wrong: chains that agree on the wrong answer
# ------------------------------------------------------
# SGLD never rejects, so that it draws from a wider distribution, by the step and by the noise of minibatches. All
# chains are wide in the same way: :math:`\hat R` is best where the answer is worst.

for lr in (0.002, 0.01, 0.05):
    slope = sgld(lr)
    print(
        f"SGLD, rate {lr:5.3f}: R-hat {r_hat(slope):.3f}, ESS {ess(slope):5.0f}, "
        f"standard deviation {slope.std() / spread[1]:.2f} times the exact one"
    )

# %%
# Exercise 1
# ----------
# *Make Metropolis faster without touching the sampler.* Its step is as long as the posterior is narrow. Centre the
# inputs: intercept and slope are then nearly independent.

moved = stacked(random_walk, x - x.mean(), num_samples=1_000, warmup=300)
before = ess(slopes["Metropolis"])
print(f"ESS {before:.0f} as they are, {ess(moved):.0f} centred, of {moved.numel()} draws")
