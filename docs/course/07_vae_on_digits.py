r"""
7. The variational autoencoder on digits
========================================

A variational autoencoder is a latent-variable model with a neural net in the likelihood, and one net that infers the
posteriors of all data (Kingma & Welling 2014, arXiv:1312.6114):

.. math::

   z \sim N(0, I), \quad x \sim \mathrm{Bernoulli}(\sigma(d_\theta(z))), \qquad
   q_\phi(z \mid x) = N(\mu_\phi(x), \mathrm{diag}\, s_\phi(x)^2).

The decoder :math:`d_\theta` puts out a logit for each pixel, which the logistic function :math:`\sigma` turns into a
probability; the encoder puts out :math:`\mu_\phi` and :math:`\log s_\phi`. Both are trained by the ELBO, averaged over data,

.. math::

   L(\theta, \phi) = \frac1N \sum_i \bigl( E_{q_\phi(z \mid x_i)}[\log p_\theta(x_i \mid z)]
     - KL(q_\phi(z \mid x_i) \,\|\, p(z)) \bigr).
"""

import warnings

import torch

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import load_digits
from pyrovae.heads import BernoulliHead, FixedScaleNormalHead, LearnedScaleNormalHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

torch.manual_seed(0)

# %%
# The whole program
# -----------------
# A Bernoulli likelihood is one of bits. "dynamic" draws the bits of the training data anew from the grey values at each
# visit, those of the test data once. Two latents, so that both can be seen.

X, Z = 64, 2
train, valid, test = load_digits().batches("dynamic", flatten=True)
encoder, likelihood = NormalHead(MLP(X, [64], 2 * Z)), BernoulliHead(MLP(Z, [64], X))
model = pv.Model(z=StandardNormal(Z), x=pv.Node(likelihood, "z"))
guide = pv.Guide(z=pv.Node(encoder, "x"))
history = pv.fit(pv.ElboLoss(model, guide), train, epochs=60, lr=3e-3, valid=valid)
print(pv.log_evidence(model, guide, test, num_particles=200))
learning = plots.curves(history)

# %%
# The KL rises from nothing while the reconstruction improves: the model begins to use its latents. The validation curve
# stays with the training curve: there is no overfitting yet.
#
# What the latents hold
# ---------------------
# Labels were not used. The means of the test data lie in groups by digit, most of them within the
# circle of two standard deviations of the prior.

whole = test.take(len(test.data))
with torch.no_grad():
    means = encoder(whole["x"]).mean
    grid = likelihood(plots.prior_grid(12, Z)).mean
codes = plots.latent_scatter(means, whole["y"], title="posterior means of the test digits")
decoded = plots.manifold(grid.reshape(-1, 1, 8, 8), 12, title="decoded plane of the prior")

# %%
# A mean is not a draw
# --------------------
# Pictures of VAEs usually show the *mean* of p(x given z), a blurred digit that the model would never produce. Its
# draws have independent noise on each pixel. What a model says of data is in its draws; look at both.

with torch.no_grad():
    fn = likelihood(torch.randn(10, Z))
pair = torch.cat([fn.mean, fn.sample()]).reshape(-1, 1, 8, 8)
samples = plots.image_grid(pair, columns=10, title="means above, draws below")

# %%
# What goes wrong: a loss without its constants
# ---------------------------------------------
# Many programs minimise the squared error plus the KL. That is a normal likelihood of scale :math:`\sqrt{1/2}` (or 1,
# with the 1/2 in front), far more noise than pixels in [0, 1] have. A mean over pixels in place of the sum divides
# the reconstruction by 64 more, which is a noise of 5.7. With that much noise the latents have nothing to explain,
# and the model switches them off.

grey, _, grey_test = load_digits().batches(flatten=True)
whole_grey = grey_test.take(len(grey_test.data))
for name, make in {
    "mean of squared errors": lambda net: FixedScaleNormalHead(net, scale=(X / 2) ** 0.5),
    "sum of squared errors": lambda net: FixedScaleNormalHead(net, scale=0.5**0.5),
    "learned scale": lambda net: LearnedScaleNormalHead(net),
}.items():
    head, q = make(MLP(Z, [64], X)), NormalHead(MLP(X, [64], 2 * Z))
    pair = pv.Model(z=StandardNormal(Z), x=pv.Node(head, "z")), pv.Guide(z=pv.Node(q, "x"))
    loss = pv.ElboLoss(*pair)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pv.fit(loss, grey, epochs=40, lr=3e-3)
    found = pv.evaluate(loss, grey_test)
    error = (head(q(whole_grey["x"]).mean).mean - whole_grey["x"]).square().mean().sqrt()
    print(
        f"{name:23s} KL {found['kl']:6.3f}, elbo {found['elbo']:8.2f} nats, rms error {error:.3f}"
    )
    print(*(f"    CollapseWarning: {str(one.message)[:71]} ..." for one in caught), sep="\n")

# %%
# The scale is a number of the model like any other. Learned, it goes to the root mean squared error of the
# reconstructions, and the balance with the KL follows (page 8).
#
# Exercise 1
# ----------
# *Is a latent space of ten dims better?* Measure it by log p(x) of test data, not by reconstructions, which only
# ever improve. Here ten are better than two by more than a nat.

for dims in (1, 2, 10):
    torch.manual_seed(0)
    net = BernoulliHead(MLP(dims, [64], X))
    wider = pv.Model(z=StandardNormal(dims), x=pv.Node(net, "z"))
    q = pv.Guide(z=pv.Node(NormalHead(MLP(X, [64], 2 * dims)), "x"))
    pv.fit(pv.ElboLoss(wider, q), train, epochs=60, lr=3e-3)
    found = pv.log_evidence(wider, q, test, num_particles=200)
    print(
        f"Z = {dims:2d}: log p(x) = {found.mean:.2f} +- {found.mean_se:.2f}, ELBO {found.elbo.mean():.2f}"
    )

# %%
# Exercise 2
# ----------
# *What does the model lose if the encoder is thrown away?* Nothing: the encoder is a tool for fitting and for
# inference, and p(x) does not contain it. `log_evidence` needs *some* guide, and with a bad one its estimate is lower
# for the same model (page 10).
