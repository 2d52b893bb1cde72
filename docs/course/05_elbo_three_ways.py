r"""
5. The ELBO three ways, and Jensen's gap against K
==================================================

The evidence lower bound can be written in three ways, each of which answers another question:

.. math::

   L &= E_q[\log p(x, z) - \log q(z \mid x)] && \quad \text{the mean of the log-weights} \\
     &= E_q[\log p(x \mid z)] - KL(q(z \mid x) \,\|\, p(z)) && \quad \text{reconstruction and KL} \\
     &= \log p(x) - KL(q(z \mid x) \,\|\, p(z \mid x)) && \quad \text{what is missing.}

The first is how it is estimated, the second what it trades, the third why it is a bound. The same log-weights of
:math:`K` draws give tighter bounds, called IWAE (Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519),

.. math:: L_K = E \log \frac1K \sum_{k=1}^K w_k, \; w_k = \frac{p(x, z_k)}{q(z_k \mid x)}, \; L_1 = L \le L_K \le \log p(x).
"""

import math

import pyro.distributions as dist
import torch
from pyro.infer import TraceMeanField_ELBO

import pyrovae as pv
from pyrovae import plots
from pyrovae.heads import LearnedScaleNormalHead, LinearMarginal, LinearPosterior, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

torch.manual_seed(0)

# %%
# A model whose evidence is known
# -------------------------------
# A linear decoder of two latents, data drawn from it, and an encoder trained for a short while only: a gap is what we
# want to see.

X, Z = 6, 2
likelihood = LearnedScaleNormalHead(torch.nn.Linear(Z, X), initial_scale=0.5).requires_grad_(False)
torch.nn.init.normal_(likelihood.net.weight)
encoder = NormalHead(MLP(X, [32], 2 * Z))
model = pv.Model(z=StandardNormal(Z), x=pv.Node(likelihood, "z"))
guide = pv.Guide(z=pv.Node(encoder, "x"))
x = model(num=400)["x"]
exact = LinearMarginal(likelihood)().log_prob(x)
parts = [{"x": part} for part in x.split(50)]
pv.fit(pv.ElboLoss(model, guide), parts, epochs=30, lr=5e-3)

# %%
# The three forms, one number
# ---------------------------
# `log_weights` is the tensor behind the first; the terms of a loss are the second; and here both posteriors are
# normal, so that the third has a formula. They agree up to Monte Carlo error.

with torch.no_grad():
    log_w = pv.log_weights(model, guide, {"x": x}, 2000)  # (K, N)
    loss = pv.ElboLoss(model, guide, elbo=TraceMeanField_ELBO(num_particles=200))
    loss(x=x)
    q, posterior = encoder(x), LinearPosterior(likelihood)(x)
    gap = torch.distributions.kl_divergence(
        torch.distributions.MultivariateNormal(q.mean, torch.diag_embed(q.variance)), posterior
    )
terms = loss.terms
print(f"mean log-weight           {log_w.mean():.3f}")
print(
    f"reconstruction - KL       {terms.elbo:.3f} = {terms.reconstruction:.3f} - {terms.kl['z']:.3f}"
)
print(
    f"log p(x) - KL(q||post.)   {(exact - gap).mean():.3f} = {exact.mean():.3f} - {gap.mean():.3f}"
)

# %%
# More draws, a tighter bound
# ---------------------------
# The 2000 log-weights of a datum make 2000 / K independent values of the bound with K draws. To second order Jensen's
# gap is :math:`\log p(x) - L_K \approx \mathrm{Var}(w) / (2 K p(x)^2)`: ten times the draws, a tenth of the gap. That
# takes a finite variance, and so a guide that is nowhere much narrower than the posterior. We compare the encoder
# with independent normals of 1.2 times the posterior's standard deviations.


class Wide(torch.nn.Module):
    """Independent normals, wider than the posterior."""

    def forward(self, x: torch.Tensor) -> dist.Independent:
        exact = LinearPosterior(likelihood)(x)
        return dist.Normal(exact.mean, 1.2 * exact.variance.sqrt()).to_event(1)


def bound(log_w: torch.Tensor, count: int) -> torch.Tensor:
    """L_K in nats per datum, averaged over the groups of K draws."""
    return (log_w.unflatten(0, (-1, count)).logsumexp(1) - math.log(count)).mean()


counts, lines = [1, 2, 5, 10, 20, 50, 100, 200], {}
for name, q in {"encoder": guide, "wide": pv.Guide(z=pv.Node(Wide(), "x"))}.items():
    log_w = pv.log_weights(model, q, {"x": x}, 2000).detach()
    gaps = torch.stack([exact.mean() - bound(log_w, count) for count in counts])
    second_order = (log_w - exact).exp().var(0).mean() / 2
    lines[name] = plots.Line(counts, gaps.log10())
    for count, value in zip(counts, gaps):
        print(
            f"{name:7s} K = {count:3d}: gap {value:.4f}, Var(w) / 2K p^2 {second_order / count:.4f}"
        )
figure = plots.comparison(lines, "K", "log10 of the gap, nats", xlog=True)

# %%
# The wide guide follows the formula from K = 5 on, down to the noise of the draws. The encoder does not: like every
# fit of the reverse KL it is too narrow along the posterior's long axis, its weights have a heavy tail there, their
# variance is that of a few rare draws, and its gap falls like a smaller power of K. Where log p(x) is the aim, err on
# the wide side.
#
# What goes wrong: the mean of the wrong thing
# --------------------------------------------
# The bound is the mean over data of a *logarithm of a mean* over draws. Three slips give numbers that look like it.
# The mean of logs never tightens. The mean of the weights in place of their logarithm is 0 or infinite in float32 for
# real data. And averaging :math:`\log \frac1K\sum w` over data *and* particles pooled is a bound on nothing.

log_w = pv.log_weights(model, guide, {"x": x}, 2000).detach()
print(f"log p(x), exact                 {exact.mean():.3f}")
print(f"mean of log-mean-exp            {bound(log_w, 2000):.3f}")
print(f"mean of logs                    {log_w.mean():.3f}")
pooled = bound(log_w.reshape(-1, 1), log_w.numel())
print(f"data and particles pooled       {pooled:.3f} (no bound)")
print(f"exp(log w) of 784 such dims     {(log_w.mean() * 784 / X).exp().item()}")

# %%
# Exercise 1
# ----------
# *The guide is replaced by the exact posterior. What are the log-weights?* :math:`p(x, z) / p(z \mid x) = p(x)` for
# every :math:`z`: all are equal to log p(x), the variance is zero, and one draw suffices.

best = pv.Guide(z=pv.Node(LinearPosterior(likelihood), "x"))
log_w = pv.log_weights(model, best, {"x": x}, 3)
print(f"largest |log w - log p(x)| = {(log_w - exact).abs().max():.1e}")

# %%
# Exercise 2
# ----------
# *Train the encoder on* :math:`L_{20}` *in place of* :math:`L`. *What becomes of its width, its ELBO, and log p(x) as
# estimated with 1000 draws?* The bound now only asks that *some* draw be good, so the encoder spreads: its ELBO is lower
# and k-hat warns of fewer data. The estimate is right with both here: the losses ask different things of the guide.

for name in ("ELBO", "IWAE"):
    encoder = NormalHead(MLP(X, [32], 2 * Z))
    guide = pv.Guide(z=pv.Node(encoder, "x"))
    elbo, iwae = pv.ElboLoss(model, guide), pv.IwaeLoss(model, guide, num_particles=20)
    pv.fit(elbo if name == "ELBO" else iwae, parts, epochs=60, lr=5e-3)
    found = pv.log_evidence(model, guide, {"x": x}, num_particles=1000)
    print(f"{name}: mean scale {encoder(x).variance.sqrt().mean():.3f}, {found}")
