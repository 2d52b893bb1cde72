r"""
2. Factor analysis and PCA as linear VAEs
=========================================

With a linear decoder the integral has a formula. For :math:`z \sim N(0, I)` and :math:`x = Wz + b + \epsilon`,
:math:`\epsilon \sim N(0, S)` with diagonal :math:`S`,

.. math::

   p(x) = N(b,\; WW^\top + S), \qquad
   p(z \mid x) = N(M W^\top S^{-1}(x - b),\; M), \quad M = (I + W^\top S^{-1} W)^{-1} .

With one variance for all dims, :math:`S = \sigma^2 I`, this is probabilistic PCA, whose best :math:`W` spans the
leading eigenvectors; with one each, factor analysis (Tipping & Bishop 1999). A linear VAE *is* this model, fitted by
a bound in place of the formula.
"""

import torch

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import load_digits
from pyrovae.heads import (
    LearnedScaleNormalHead,
    LinearMarginal,
    LinearPosterior,
    NormalHead,
)
from pyrovae.priors import StandardNormal

torch.manual_seed(0)

# %%
# Closed form against gradients
# -----------------------------
# Digits, in grey levels, with five latents. First PCA by the eigenvalues :math:`\lambda_1 > \lambda_2 > \dots` of the
# covariance of the data: the best :math:`\sigma^2` is the mean of those left out, and :math:`W = U (\Lambda - \sigma^2
# I)^{1/2}` with the leading eigenvectors as columns of :math:`U` and their eigenvalues in the diagonal :math:`\Lambda`.

X, Z = 64, 5
grey, _, _ = load_digits().batches(flatten=True)
x = grey.take(len(grey.data))["x"]
values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
values, vectors = values.flip(0), vectors.flip(1)
noise = values[Z:].mean()
pca = LearnedScaleNormalHead(torch.nn.Linear(Z, X), initial_scale=noise.sqrt().item())
with torch.no_grad():
    pca.net.weight.copy_(vectors[:, :Z] * (values[:Z] - noise).sqrt())
    pca.net.bias.copy_(x.mean(0))
best = LinearMarginal(pca)().log_prob(x).mean().item()
print(f"PCA by eigenvectors: log p(x) = {best:.3f} nats, noise scale {noise.sqrt():.4f}")

# %%
# The same density fitted in three ways: by its exact likelihood (a model without latents needs no guide), as a VAE
# with the exact posterior as its guide, and as a VAE with a linear encoder of independent normals. `NormalHead` takes
# the first half of a net's outputs as means and the second as logs of the scales: hence `2 * Z` outputs.


def linear_vae(guide_of: str) -> tuple[LearnedScaleNormalHead, pv.ElboLoss]:
    """A linear decoder and the loss that fits it."""
    head = LearnedScaleNormalHead(torch.nn.Linear(Z, X), initial_scale=0.3)
    model = pv.Model(z=StandardNormal(Z), x=pv.Node(head, "z"))
    if guide_of == "none":
        return head, pv.ElboLoss(pv.Model(x=LinearMarginal(head)))
    exact = guide_of == "posterior"
    q = LinearPosterior(head) if exact else NormalHead(torch.nn.Linear(X, 2 * Z))
    return head, pv.ElboLoss(model, pv.Guide(z=pv.Node(q, "x")))


def cosine(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 80)


lines = {}
for name in ("none", "posterior", "linear encoder"):
    torch.manual_seed(1)
    head, loss = linear_vae(name)
    path = []

    def follow(run: object, head: LearnedScaleNormalHead = head, path: list = path) -> None:
        path.append(LinearMarginal(head)().log_prob(x).mean().item() - best)

    pv.fit(loss, grey, epochs=80, lr=2e-2, schedule=cosine, hooks=[follow])
    lines[name] = plots.Line(range(1, len(path) + 1), path)
    print(
        f"guide: {name:15s} log p(x) - optimum {path[-1]:8.3f}, noise scale {head.log_scale.exp():.4f}"
    )
progress = plots.comparison(lines, "epoch", "log p(x) - optimum, nats")

# %%
# All three go to the same optimum, within hundredths of a nat: the posterior of a PCA in its own axes is a product of
# independent normals, so that even the poor family is rich enough, and the bound has no false optima here (Lucas et al.
# 2019, arXiv:1911.02469).
#
# What goes wrong: reading meaning into the axes
# ----------------------------------------------
# The exact likelihood knows only :math:`WW^\top`: turn the latents by any rotation :math:`R`, and :math:`WR` explains
# the data as well. A single latent dim has no meaning, only their span does.

turn = torch.linalg.qr(torch.randn(Z, Z)).Q
before = LinearMarginal(pca)().log_prob(x)
with torch.no_grad():
    pca.net.weight.copy_(pca.net.weight @ turn)
after = LinearMarginal(pca)().log_prob(x)
print(f"largest change of log p(x) by a rotation: {(after - before).abs().max():.1e} nats")
overlap = torch.linalg.svdvals(vectors[:, :Z].T @ torch.linalg.qr(head.net.weight.detach()).Q)
print("cosines between the spans of PCA and of the VAE:", overlap.numpy().round(3))
directions = torch.cat([vectors[:, :Z].T, head.net.weight.detach().T]).reshape(-1, 1, 8, 8)
directions = directions / directions.abs().amax((1, 2, 3), keepdim=True) / 2 + 0.5
axes = plots.image_grid(
    directions, columns=Z, title="above: eigenvectors; below: columns of the VAE's W"
)

# %%
# The independent normals of the linear encoder break the tie: their bound is tight only where the posterior's axes
# are the coordinate axes. That is the one reason why a VAE's axes may mean something, and a weak one.
#
# Exercise 1
# ----------
# *Fit factor analysis: one noise for each pixel. By how many nats is it better, and why?* The border pixels hardly
# vary. PCA has to give them the same noise as all others; factor analysis does not.

wobble = 0.02 * torch.randn_like(x)  # see exercise 2
for shape in ((), (X,)):
    torch.manual_seed(1)
    head = LearnedScaleNormalHead(torch.nn.Linear(Z, X), initial_scale=0.3, scale_shape=shape)
    loss = pv.ElboLoss(pv.Model(x=LinearMarginal(head)))
    pv.fit(loss, [{"x": x + wobble}] * 10, epochs=80, lr=2e-2, schedule=cosine)
    found, scale = LinearMarginal(head)().log_prob(x + wobble).mean(), head.log_scale.exp()
    print(
        f"{scale.numel():2d} scales: {found:.2f} nats, noise {scale.min():.3f} to {scale.max():.3f}"
    )

# %%
# Exercise 2
# ----------
# *Why the wobble?* Some pixels are 0 in all images. A density of a constant is unbounded: its noise goes to zero and
# the likelihood to infinity, which is no achievement. Page 8 is about such densities.
