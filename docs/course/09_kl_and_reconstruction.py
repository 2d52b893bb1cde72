r"""
9. What the KL and the reconstruction each do
=============================================

The ELBO has two terms that pull the latent space in opposite directions,

.. math:: L_\beta = E_{q(z \mid x)}[\log p(x \mid z)] - \beta\, KL(q(z \mid x) \,\|\, p(z)),

and at :math:`\beta = 1` their sum is a bound of log p(x). The reconstruction asks that different data get different
:math:`z`; the KL asks that they be drawn from the same prior. Averaged over data the KL itself has two parts (Hoffman &
Johnson 2016),

.. math::

   \frac1N \sum_n KL(q(z \mid x_n) \,\|\, p(z)) = I(n; z) + KL(q(z) \,\|\, p(z)), \qquad q(z) = \frac1N \sum_n q(z \mid x_n):

the mutual information of :math:`z` and the index :math:`n` of its datum, and how far the *codes* (draws of :math:`q(z
\mid x_n)`) of all data together are from the prior. Only the second is a fault.
"""

import torch

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import load_digits
from pyrovae.diagnostics.active_units import kl_per_dim
from pyrovae.heads import AutoregressiveBernoulliHead, BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

torch.manual_seed(0)

# %%
# Four weights of the KL
# ----------------------
# Numbers on test data, at :math:`\beta = 1`. "threshold" makes pixels above 0.5 ones, the others zeros.
# `elbo_surgery` splits the KL as above.

X = 64
train, _, test = load_digits().batches("threshold", batch_size=200, flatten=True)


def pair(dims: int) -> tuple[pv.Model, pv.Guide]:
    """A VAE whose pixels are independent given z."""
    model = pv.Model(z=StandardNormal(dims), x=pv.Node(BernoulliHead(MLP(dims, [64], X)), "z"))
    return model, pv.Guide(z=pv.Node(NormalHead(MLP(X, [64], 2 * dims)), "x"))


whole, panels, fitted = test.take(359), {}, {}
for beta in (0.0, 0.3, 1.0, 3.0):
    torch.manual_seed(0)
    model, guide = pair(2)
    pv.fit(pv.ElboLoss(model, guide, beta=beta), train, epochs=60, lr=3e-3)
    fitted[beta] = model, guide
    parts = pv.elbo_surgery(model, guide, test)
    found = pv.evaluate(pv.ElboLoss(model, guide), test)
    q = guide.nodes["z"].conditional(whole["x"])
    panels[f"beta = {beta:g}"] = q.mean.detach()
    print(
        f"beta {beta:g}: reconstruction {found['reconstruction']:7.2f}, information "
        f"{parts.mutual_information:.2f}, marginal KL {parts.marginal_kl:6.2f}, mean scale "
        f"{q.stddev.mean():.3f}, ELBO {found['elbo']:.2f}"
    )
spaces = plots.latent_panels(panels, whole["y"], title="posterior means of the test digits")

# %%
# Without the KL each datum has a place of its own, far from the prior: the scales shrink, :math:`z` tells nearly all
# of which datum it came from (the most there is to tell is :math:`\log 359 = 5.88` nats), and the prior's draws are not
# where the codes are, which is what a marginal KL of tens of nats says. Nor are test data reconstructed better than at 0.3:
# the nets learned the training data by heart. At :math:`\beta = 3` little information is left, and the codes overlap. The
# ELBO is best at 1, the weight that it is defined with.
#
# Which latents are used
# ----------------------
# With more latents than the data need, the ELBO leaves some unused: :math:`q(z_d \mid x) = p(z_d)` costs no KL, and the
# decoder learns to ignore the noise. Burda, Grosse & Salakhutdinov (2016, arXiv:1509.00519) call a unit *active* if
# its posterior mean varies over the data, with a variance above 0.01.

model, guide = pair(20)
pv.fit(pv.ElboLoss(model, guide), train, epochs=60, lr=3e-3)
kl = kl_per_dim(model, guide, test)
print(
    f"active units: {pv.elbo_surgery(model, guide, test).active_units} of 20; KL {kl.sum():.2f} nats"
)
units = plots.kl_per_dim(kl, title="KL of each of 20 latents")

# %%
# Nearly all count as active, yet a few carry most of the nats: a unit with some hundredths of a nat passes. Read the bars.
# Unused units are no fault as long as the used ones suffice.
#
# What goes wrong: posterior collapse
# -----------------------------------
# Give the decoder the pixels before each pixel (`AutoregressiveBernoulliHead`), and it can model the data without
# :math:`z`. At the start :math:`z` is noise and its KL a cost, so that the encoder is pushed to the prior before the
# decoder has learned to use :math:`z`. Remedies: a weight of the KL that rises from 0 (warm-up; Bowman et al. 2016,
# arXiv:1511.06349), or nats that each latent site may use unpunished (free bits; Kingma et al. 2016,
# arXiv:1606.04934). Where z says nothing at all, `fit` ends with a `CollapseWarning`.

STEPS = 35 * len(train)


def strong() -> tuple[pv.Model, pv.Guide]:
    """A VAE whose decoder is autoregressive."""
    decoder = AutoregressiveBernoulliHead(X, 10, [200, 200])
    model = pv.Model(z=StandardNormal(10), x=pv.Node(decoder, "z"))
    return model, pv.Guide(z=pv.Node(NormalHead(MLP(X, [200], 2 * 10)), "x"))


remedies = {
    "none": lambda m, g: pv.ElboLoss(m, g),
    "warm-up": lambda m, g: pv.ElboLoss(m, g, beta=pv.LinearWarmup(STEPS)),
    "free bits": lambda m, g: pv.ElboLoss(m, g, free_bits=4.0),
}
rows, scores = [], []
for name, loss_of in remedies.items():
    torch.manual_seed(0)
    loss = loss_of(*strong())
    pv.fit(loss, train, epochs=70, lr=2e-3)
    rows.append(pv.elbo_surgery(loss.model, loss.guide, test))
    scores.append(pv.log_evidence(loss.model, loss.guide, test, num_particles=100))
    gain = scores[-1].log_px - scores[0].log_px
    print(
        f"{name:10s} KL {rows[-1].kl:.2f}, ELBO {scores[-1].elbo.mean():.2f}, log p(x) "
        f"{scores[-1].mean:.2f}, over none {gain.mean():+.2f} +- {gain.std() / len(gain) ** 0.5:.2f}"
    )
kinds = plots.kl_parts(
    list(remedies), [r.mutual_information for r in rows], [r.marginal_kl for r in rows]
)

# %%
# The plain ELBO leaves most of :math:`z` unused; either remedy gives it some nats of information, and a higher log p(x),
# though no higher ELBO: the guide now misses the posterior by more.
#
# Exercise 1
# ----------
# *The likelihood is a normal of fixed scale* :math:`s`. *Which* :math:`\beta` *does that amount to?* The objective is
# :math:`-|x - f(z)|^2 / (2 s^2) - KL`. Times :math:`2 s^2`, it is the squared error plus :math:`\beta = 2 s^2` times
# the KL. A mean over D pixels in place of the sum multiplies :math:`\beta` by D: the collapse of page 7.
#
# Exercise 2
# ----------
# *Compare the four weights of the KL by log p(x), which does not depend on the guide if there are particles enough.* At 0
# the guide is so narrow that k-hat trusts few of the estimates; 0.3, behind 1 by its ELBO, is not behind by log p(x).

for beta, pair in fitted.items():
    found = pv.log_evidence(*pair, test, num_particles=500, defensive=0.5)
    print(
        f"beta {beta:g}: log p(x) {found.mean:.2f} +- {found.mean_se:.2f}, k-hat above 0.7 for "
        f"{int(found.untrusted.sum())} of 359"
    )
