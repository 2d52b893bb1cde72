r"""
3. Mixtures and EM, and why EM stops at a neural decoder
========================================================

A mixture has one discrete latent, :math:`k \sim \mathrm{Cat}(\pi)`, :math:`x \sim p(x \mid k)`. Its posterior is a
sum away,

.. math:: r_{ik} = p(k \mid x_i) = \frac{\pi_k\, p(x_i \mid k)}{\sum_j \pi_j\, p(x_i \mid j)} ,

and the bound :math:`\log p(x) \ge E_q[\log p(x, k) - \log q(k)]`, true for any :math:`q` by Jensen's inequality, is an
equality at :math:`q = r` (the *responsibilities*). EM, expectation maximisation, alternates: the E step sets :math:`q =
r`, the M step maximises the bound over the parameters; here over the weights and the means of the components,

.. math:: \pi_k = \frac1N \sum_i r_{ik}, \qquad \mu_k = \frac{\sum_i r_{ik} x_i}{\sum_i r_{ik}} .

Each step raises the likelihood, with no learning rate. A VAE does the same two things by gradients, since neither
step has a formula there.
"""

import torch

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import load_digits
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import Mixing, StandardNormal
from pyrovae.training.expectation_maximization import (
    expectation_maximization,
    maximize_bernoulli,
    responsibilities,
)

torch.manual_seed(0)

# %%
# A mixture of twenty prototypes
# ------------------------------
# Each component is a row of 64 logits. "static" draws a bit for each pixel once, with its grey value as probability. The
# site `k` is marked for enumeration: wherever the model is used, `k` is summed out exactly.

C, X = 20, 64
train, _, test = load_digits().batches("static", flatten=True)
x = train.take(len(train.data))["x"]
whole = test.take(len(test.data))


def mixture() -> tuple[Mixing, torch.nn.Embedding, pv.Model]:
    """Weights, logits and the model that they make."""
    mixing, parts = Mixing(C), torch.nn.Embedding(C, X)
    torch.nn.init.normal_(parts.weight, std=0.5)
    node = pv.Node(mixing, infer={"enumerate": "parallel"})
    return mixing, parts, pv.Model(k=node, x=pv.Node(BernoulliHead(parts), "k"))


def em(mixing: Mixing, parts: torch.nn.Embedding, model: pv.Model) -> list[float]:
    """log p(x) before each step and after the last, in nats per datum."""

    def maximize(r: torch.Tensor) -> None:
        maximize_bernoulli(mixing, parts, x, r, prior_count=0.5)

    return expectation_maximization(model, {"x": x}, maximize, steps=40)


mixing, parts, model = mixture()
found = em(mixing, parts, model)
print(f"EM: log p(x) {found[0]:.2f}, then {found[-1]:.2f} nats after {len(found) - 1} steps")
print("test:", pv.log_evidence(model, None, whole))
prototypes = plots.image_grid(
    parts.weight.detach().sigmoid().reshape(-1, 1, 8, 8),
    columns=10,
    title="means of the components",
)

# %%
# No label was used, and yet the means of most components look like a digit. The responsibilities of the test data, by
# enumeration:

r = responsibilities(model, whole, "k")
print(f"mean of the largest responsibility: {r.amax(-1).mean():.3f}")

# %%
# The same by gradients
# ---------------------
# `Marginal` sums the latent out, so that `ElboLoss` without a guide is -log p(x) itself, for Adam to minimise. Steps
# of EM against passes of Adam through the data (13 steps each):

_, _, other = mixture()
history = pv.fit(pv.ElboLoss(pv.Marginal(other)), train, epochs=40, lr=3e-2)
speed = plots.comparison(
    {
        "EM": plots.Line(range(len(found)), found),
        "Adam on log p(x)": plots.Line(range(1, 1 + len(history)), history["elbo"]),
    },
    "passes through the data",
    "log p(x), nats per datum",
)

# %%
# What goes wrong: a start in which all components are alike
# ----------------------------------------------------------
# With equal rows all responsibilities are equal, all means become the mean of the data, and EM has arrived: a saddle
# point that it never leaves. The start has to break the symmetry. (The opposite failure is a component that shrinks to
# one datum; `prior_count`, counts added to every mean, prevents it.)

mixing, parts, model = mixture()
torch.nn.init.zeros_(parts.weight)
stuck = em(mixing, parts, model)
print(f"equal start: {stuck[-1]:.2f} nats after {len(stuck) - 1} steps")

# %%
# Where EM stops
# --------------
# Replace the twenty rows by a net of a continuous :math:`z`. The E step asks for :math:`p(z \mid x) \propto p(z)\,
# p(x \mid f_\theta(z))`, which has no finite description; the M step for the :math:`\theta` that maximises an
# expectation of a neural net, which has no formula. The VAE keeps the bound and makes both steps approximate: a net (the
# encoder) computes a normal :math:`q` from :math:`x`, and encoder and :math:`\theta` move by gradient steps. After this
# short training it is no better than the mixture: on images of 64 pixels twenty prototypes go far.

Z = 4
vae = pv.Model(z=StandardNormal(Z), x=pv.Node(BernoulliHead(MLP(Z, [64], X)), "z"))
guide = pv.Guide(z=pv.Node(NormalHead(MLP(X, [64], 2 * Z)), "x"))
pv.fit(pv.ElboLoss(vae, guide), train, epochs=60, lr=3e-3)
print("VAE:", pv.log_evidence(vae, guide, whole, num_particles=200))

# %%
# Exercise 1
# ----------
# *Show that a step of EM never lowers log p(x).* After the E step the bound touches: :math:`L(r, \theta) = \log
# p_\theta(x)`. The M step raises the bound, :math:`L(r, \theta') \ge L(r, \theta)`, and log p is above its bound:
# :math:`\log p_{\theta'}(x) \ge L(r, \theta')`. In numbers:

steps = torch.tensor(found).diff()
print(f"smallest step of EM above: {steps.min():.2e} nats")

# %%
# Exercise 2
# ----------
# *Do more components help?* In training yes; but each component has 64 numbers of its own, and on test data the
# gain ends.

for C in (5, 20, 80):
    torch.manual_seed(0)
    parts_of = mixture()
    value = em(*parts_of)[-1]
    tested = pv.log_evidence(parts_of[2], None, whole).mean
    print(f"C = {C:2d}: log p(x) = {value:.2f} in training, {tested:.2f} on test data")
