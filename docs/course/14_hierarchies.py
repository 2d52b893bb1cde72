r"""
14. Hierarchies of latents, and inference from the top down
===========================================================

A latent can have a latent of its own. With two levels

.. math:: p(x, z_1, z_2) = p(z_2)\, p(z_1 \mid z_2)\, p(x \mid z_1),

the upper level is a learned prior of the lower one. The guide can be wired in two orders, and both are exact
factorisations of the posterior:

.. math::

   \text{bottom up: } q(z_1 \mid x)\, q(z_2 \mid z_1), \qquad \text{top down: } q(z_2 \mid x)\, q(z_1 \mid z_2, x).

Top down, :math:`q(z_1 \mid z_2, x)` can start from the model's own :math:`p(z_1 \mid z_2)` and only say how the datum
differs from it: as a product of two normals, weighted by precision (ladder; Sonderby et al. 2016, arXiv:1602.02282),
or as a shift and a scale of the prior (Vahdat & Kautz 2020, arXiv:2007.03898).
"""

import torch

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import load_digits
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.posteriors import PrecisionWeighted, ResidualNormal
from pyrovae.priors import StandardNormal

torch.manual_seed(0)

# %%
# One model, three guides
# -----------------------
# The order of the keywords is the order of sampling, and a node names its parents. `h` is no site but a value that two
# nodes share. The generative conditional :math:`p(z_1 \mid z_2)` is one module in model and guide, trained once.

X, Z1, Z2, H = 64, 10, 4, 100
train, _, test = load_digits().batches("threshold", batch_size=200, flatten=True)


def programs(kind: str) -> tuple[pv.Model, pv.Guide]:
    """Two levels of latents and a guide of the given kind."""
    lower = NormalHead(MLP(Z2, [H], 2 * Z1))
    likelihood = BernoulliHead(MLP(Z1, [H], X))
    model = pv.Model(z2=StandardNormal(Z2), z1=pv.Node(lower, "z2"), x=pv.Node(likelihood, "z1"))
    if kind == "bottom up":
        z1 = pv.Node(NormalHead(MLP(X, [H], 2 * Z1)), "x")
        return model, pv.Guide(z1=z1, z2=pv.Node(NormalHead(MLP(Z1, [H], 2 * Z2)), "z1"))
    below = {
        "precision": PrecisionWeighted(NormalHead(MLP(H, [], 2 * Z1)), lower),
        "residual": ResidualNormal(MLP(H + Z2, [H], 2 * Z1), lower),
    }[kind]
    features = pv.Value(torch.nn.Sequential(MLP(X, [], H), torch.nn.ReLU()), "x")
    z2 = pv.Node(NormalHead(MLP(H, [H], 2 * Z2)), "h")
    return model, pv.Guide(h=features, z2=z2, z1=pv.Node(below, "h", "z2"))


lines, fits = {}, {}


def report(name: str, loss: pv.ElboLoss) -> None:
    """Train, and print log p(x) and the KL of both levels."""
    history = pv.fit(loss, train, epochs=60, lr=3e-3)
    found = pv.log_evidence(loss.model, loss.guide, test, num_particles=100)
    lines[name] = plots.Line(history["epoch"], history["kl_z2"])
    fits[name] = loss.model, found
    print(
        f"{name:20s} log p(x) {found.mean:.2f}, ELBO {found.elbo.mean():.2f}, KL "
        f"{history[-1]['kl_z1']:.2f} of z1, {history[-1]['kl_z2']:.2f} of z2"
    )


for kind in ("bottom up", "precision", "residual"):
    torch.manual_seed(0)
    report(kind, pv.ElboLoss(*programs(kind)))

# %%
# Bottom up, the lower level is used, and little of the upper one. With both guides from the top down it is the reverse:
# more nats are in :math:`z_2`, few or none in :math:`z_1`, and log p(x) is lower by more than a nat.
#
# What goes wrong: a level that dies
# ----------------------------------
# The sum of the KLs looks healthy, and one of them may be next to nothing. Look at each: `history["kl_z2"]`, or
# `loss.terms.kl`. Free bits are nats of KL for *each* latent site that cost nothing, and so a remedy at this very place.

for kind in ("precision", "residual"):
    torch.manual_seed(0)
    report(f"{kind}, free bits", pv.ElboLoss(*programs(kind), free_bits=1.0))
levels = plots.comparison(lines, "epoch", "KL of z2, nats per training digit")

# %%
# Both levels are in use now, and that is worth more than a nat of log p(x) to either guide.
#
# What each level holds
# ---------------------
# A row is one draw of :math:`z_2` with ten draws of :math:`z_1` below it. Draws in a row have more in common than draws
# of different rows, which is all that two levels of this size can show.

model = fits["residual, free bits"][0]
with torch.no_grad():
    z2 = torch.randn(5, 1, Z2).expand(5, 10, Z2)
    z1 = model.nodes["z1"].conditional(z2).sample()
    means = model.nodes["x"].conditional(z1).mean
rows = plots.image_grid(means.reshape(-1, 1, 8, 8), columns=10, title="a row: one z2, ten z1")

# %%
# Exercise 1
# ----------
# *What does the second level buy?* Integrate :math:`z_2` out: it is a prior :math:`p(z_1) = \int p(z_2) p(z_1 \mid
# z_2) dz_2`, an infinite mixture of normals. Compare with the same lower level under a standard normal, datum by datum:
# on these small images the gain is tenths of a nat at best. Depth pays on larger ones (Vahdat & Kautz 2020).

torch.manual_seed(0)
one = pv.Model(z1=StandardNormal(Z1), x=pv.Node(BernoulliHead(MLP(Z1, [H], X)), "z1"))
loss = pv.ElboLoss(one, pv.Guide(z1=pv.Node(NormalHead(MLP(X, [H, H], 2 * Z1)), "x")))
pv.fit(loss, train, epochs=60, lr=3e-3)
single = pv.log_evidence(one, loss.guide, test, num_particles=100)
for name, (_, found) in fits.items():
    gain = found.log_px - single.log_px
    print(
        f"{name:20s} {gain.mean():+.2f} +- {gain.std() / len(gain) ** 0.5:.2f} nats over one level"
    )

# %%
# Exercise 2
# ----------
# *Show that the KL of `ResidualNormal` does not depend on the prior's scale.* With the prior :math:`N(m, s^2)` and the
# guide :math:`N(m + s d, s^2 e^{2r})` it is :math:`\tfrac12 (d^2 + e^{2r} - 2r - 1)`: the scale :math:`s` cancels. A
# prior that narrows during training does not make the guide's old answer infinitely wrong.
