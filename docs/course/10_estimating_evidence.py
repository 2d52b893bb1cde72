r"""
10. Estimating log p(x): importance sampling, k-hat, annealing, bounds
======================================================================

The ELBO mixes the model with its guide: a better encoder raises it at the same model. To compare *models* one wants
:math:`\log p(x)` itself. Importance sampling draws from the guide and corrects by weights,

.. math::

   \hat p(x) = \frac1K \sum_k w_k, \quad w_k = \frac{p(x, z_k)}{q(z_k \mid x)}, \qquad
   \mathrm{se}(\log \hat p) \approx \frac{\mathrm{sd}(w)}{\sqrt K\, \bar w}, \quad
   \mathrm{ESS} = \frac{(\sum w_k)^2}{\sum w_k^2} .

Here :math:`\bar w` is the mean of the weights, and ESS the effective sample size: how many equal weights would be as good.
The last two formulas need the weights to have a finite variance. Whether they do depends on the tail of their
distribution, from which few of the draws come.
"""

import pyro.distributions as dist
import torch

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import load_digits
from pyrovae.evidence import annealed_importance, bidirectional, inference_gaps, quadrature
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

torch.manual_seed(0)

# %%
# A VAE with two latents, and its log p(x) on a grid
# --------------------------------------------------
# Two dims can be integrated by `quadrature`, so that here we know what every estimate ought to be.

X, Z = 64, 2
train, _, test = load_digits().batches("dynamic", flatten=True)
encoder = NormalHead(MLP(X, [64], 2 * Z))
model = pv.Model(z=StandardNormal(Z), x=pv.Node(BernoulliHead(MLP(Z, [64], X)), "z"))
guide = pv.Guide(z=pv.Node(encoder, "x"))
pv.fit(pv.ElboLoss(model, guide), train, epochs=30, lr=3e-3)
data = {"x": test.take(60)["x"]}
exact = quadrature(model, data, tolerance=1e-4)
print(exact)
print(pv.log_evidence(model, guide, data, num_particles=1000))

# %%
# The guide of the ELBO serves well. `defensive=a` draws a share :math:`a` of the particles from the prior, which bounds
# every weight by :math:`p(x \mid z) / a` and mends most guides that miss mass.
#
# What goes wrong: an error bar from a guide that is too narrow
# -------------------------------------------------------------
# The same guide with a third of its standard deviations. The reported error bar is small *because* no draw falls
# where the mass is missed: bias and error bar fail together. k-hat, the Pareto shape of the largest weights, tells
# them apart: above 0.5 the variance is infinite, above 0.7 neither number can be used (Vehtari et al. 2024,
# arXiv:1507.02646).


class Scaled(torch.nn.Module):
    """A guide with its standard deviations multiplied."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> dist.Independent:
        q = encoder(x)
        return dist.Normal(q.mean, self.factor * q.variance.sqrt()).to_event(1)


guides = {
    "the guide": guide,
    "twice as wide": pv.Guide(z=pv.Node(Scaled(2.0), "x")),
    "a third as wide": pv.Guide(z=pv.Node(Scaled(1 / 3), "x")),
    "the prior": pv.Guide(z=StandardNormal(Z)),
}
counts, lines = (10, 30, 100, 300, 1000), {}
for name, q in guides.items():
    errors = []
    for count in counts:
        found = pv.log_evidence(model, q, data, num_particles=count)
        errors.append((found.log_px - exact.log_px).mean().item())
    lines[name] = plots.Line(counts, errors)
    print(
        f"{name:16s} K = 1000: error {errors[-1]:7.3f}, its own error bar {found.monte_carlo_se:.3f}, "
        f"median ESS {found.ess.median():5.0f}, k-hat above 0.7 for {int(found.untrusted.sum())} of 60"
    )
bias = plots.comparison(lines, "K", "estimate - log p(x), nats", xlog=True)
repaired = pv.log_evidence(
    model, guides["a third as wide"], data, num_particles=1000, defensive=0.3
)
print(f"narrow, defensive: error {(repaired.log_px - exact.log_px).mean():.3f}")

# %%
# Note the order: a guide that is too wide takes a few times as many draws; one that is too narrow gives a wrong answer.
#
# Without a guide: annealed importance sampling
# ---------------------------------------------
# A chain passes from the prior to the posterior through :math:`f_\beta(z) = p(z)\, p(x \mid z)^\beta`, :math:`\beta` from 0
# to 1 (the "temperatures"), moved at each step by Hamiltonian Monte Carlo (page 25); the product of the ratios of
# successive :math:`f_\beta(z)` is an unbiased weight (Neal 2001). For data drawn from the model, the :math:`z` that each was
# made from is an exact draw of its posterior. Chains that run backward from there bound log p(x) from above: up to
# noise, the error is at most the distance between the two bounds.

few = {"x": data["x"][:20]}
for steps in (5, 50):
    annealed = annealed_importance(model, few, num_chains=8, num_steps=steps, num_leapfrog=5)
    error = (annealed.log_px - exact.log_px[:20]).mean()
    print(f"{steps:3d} temperatures: error {error:.3f} nats")
print(bidirectional(model, 20, num_chains=8, num_steps=50, num_leapfrog=5))

# %%
# Exercise 1
# ----------
# *The ELBO is below log p(x). Is the family to blame, or the net?* Refine the guide for each datum: what that gains
# is the amortisation gap, the rest is the family's (Cremer, Li & Duvenaud 2018, arXiv:1801.03558). Here most is the net's.

print(inference_gaps(model, guide, data, num_particles=300, log_px=exact.log_px, steps=100))

# %%
# Exercise 2
# ----------
# *Two models are estimated at -19.0 ± 0.3 and -19.3 ± 0.3 on the same 359 test data. Do they differ?* The ± of
# `mean_se` is over data, most of which both models find equally hard. Take the standard error of the *differences*,
# datum by datum. Here for the model against itself after five more epochs:

before = pv.log_evidence(model, guide, test, num_particles=200)
pv.fit(pv.ElboLoss(model, guide), train, epochs=5, lr=1e-3)
after = pv.log_evidence(model, guide, test, num_particles=200)
gain = after.log_px - before.log_px
print(f"{before.mean:.2f} +- {before.mean_se:.2f}, then {after.mean:.2f} +- {after.mean_se:.2f}")
print(f"gain {gain.mean():.3f} +- {gain.std() / len(gain) ** 0.5:.3f} nats, paired")
