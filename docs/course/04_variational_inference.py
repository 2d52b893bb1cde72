r"""
4. Variational inference, seen in two dimensions
================================================

Where the posterior cannot be computed, take the member of a family of densities :math:`q` that is nearest to it.
"Nearest" is a Kullback-Leibler divergence, and it has two directions:

.. math::

   KL(q \,\|\, p) = E_q[\log q(z) - \log p(z)], \qquad KL(p \,\|\, q) = E_p[\log p(z) - \log q(z)].

The first needs draws of :math:`q` and the target up to a constant, which we have: it is what the ELBO minimises,
because

.. math:: \log p(x) = E_q[\log p(x, z) - \log q(z)] + KL(q \,\|\, p(z \mid x)).

The second needs draws of the target. Here the targets are densities of two numbers, so that one can look.
"""

import math

import torch

import pyrovae as pv
from pyrovae import plots
from pyrovae.recipes.variational.families import FAMILIES, density, fit_family
from pyrovae.recipes.variational.targets import TARGETS

torch.manual_seed(0)
REACH, POINTS = 3.2, 81

# %%
# Three families on three targets
# -------------------------------
# A correlated normal, a banana and two modes; independent normals ("mean field"), a normal with its covariance ("full
# rank"), and a flow (a learned invertible map of normal draws, page 12). `fit_family` is `fit` with `ElboLoss` on a
# model whose prior of `z` is the target and whose data do not depend on `z`, so that its posterior is the target too.

fits: dict = {}


def panel(target: str, family: str, direction: str = "reverse") -> plots.Fitted:
    """Fit, and draw the family on its target; both KLs in nats."""
    if (target, family, direction) not in fits:
        fits[target, family, direction] = fit_family(
            TARGETS[target],
            FAMILIES[family],
            direction=direction,
            epochs=20,
            lr=0.05,
            num_draws=4000,
        )
    fit = fits[target, family, direction]
    name = "KL(q||p)" if direction == "reverse" else "KL(p||q)"
    kl, se = fit.reverse if direction == "reverse" else fit.forward
    print(f"{target:10s} {family:10s} {direction:7s} {name} = {kl:6.3f} +- {se:.3f} nats")
    return plots.Fitted(
        f"{family}: {name} = {kl:.2f}",
        density(TARGETS[target](), REACH, POINTS),
        density(fit.family(), REACH, POINTS),
        fit.path,
    )


rows = [[panel(target, family) for family in FAMILIES] for target in TARGETS]
families = plots.variational_panels(rows, reach=REACH, title="Reverse KL: what the ELBO does")

# %%
# The gap between the ELBO and log p(x) is exactly the KL printed above each panel: a richer family is a tighter
# bound. Note *how* the poor ones err. Mean field on the correlated normal is centred rightly and far too narrow; a
# normal on two modes takes one of them and leaves out the other. Both follow from :math:`E_q[\log q - \log p]`, which
# punishes :math:`q` for mass where :math:`p` is small, and not for having none where :math:`p` is large. Nor is the
# objective convex: on the banana a normal may end on an arm or in the bend, and the richer family is not always the one
# that ended better.
#
# The other direction
# -------------------
# Maximum likelihood of :math:`q` on draws of :math:`p` minimises :math:`KL(p \| q)`. It must cover all of :math:`p`,
# and so spreads over places where :math:`p` has no mass.

rows = [
    [panel(target, "full rank", direction) for direction in ("reverse", "forward")]
    for target in ("banana", "two modes")
]
directions = plots.variational_panels(rows, reach=REACH, title="Reverse and forward KL")

# %%
# What goes wrong: uncertainty read off a mean-field posterior
# ------------------------------------------------------------
# For a normal target with precision matrix :math:`\Lambda`, the best factorised :math:`q` has variances :math:`1 /
# \Lambda_{dd}`, the *conditional* ones, and not :math:`(\Lambda^{-1})_{dd}`. With correlation :math:`\rho` the ratio
# is :math:`1 - \rho^2`: at 0.9 the standard deviation comes out as 0.44 of the true one. Error bars of a mean-field
# posterior are the first thing not to trust, and longer training does not mend them.

fit = fits["correlated", "mean field", "reverse"]
found = fit.family.log_scale.exp().detach()
print(
    f"standard deviations {found.numpy().round(3)}, by formula {math.sqrt(1 - 0.9**2):.3f}, true 1"
)
print(f"KL found {fit.reverse[0]:.3f}, by formula {-0.5 * math.log(1 - 0.9**2):.3f} nats")

# %%
# Nor does a small KL mean that all is found. On the two modes the full-rank family pays log 2 = 0.69 nats for missing
# half of the mass, and its own draws need not show it: pages 10 and 12.
#
# Exercise 1
# ----------
# *Derive the KL of the mean-field optimum on the correlated normal.*
#
# :math:`KL(q\|p) = \tfrac12 [\mathrm{tr}(\Lambda S) - 2 - \log\det\Lambda - \log\det S]` with :math:`S =
# \mathrm{diag}(1 / \Lambda_{dd})`. The trace is 2; :math:`\Lambda_{dd} = 1 / (1 - \rho^2)` and :math:`\det\Lambda = 1
# / (1 - \rho^2)`. What is left is :math:`\tfrac12[\log(1 - \rho^2) - 2\log(1 - \rho^2)] = -\tfrac12\log(1 - \rho^2) =
# 0.83` nats.
#
# Exercise 2
# ----------
# *Start mean field elsewhere: does it find the other mode? Both?* It finds the nearer one and stays there; the KL is
# log 2 from either side, so nothing in the objective tells that there is another.

for start in ((-2.0, -2.0), (2.0, 2.0)):
    fit = fit_family(
        TARGETS["two modes"],
        FAMILIES["mean field"],
        epochs=20,
        lr=0.05,
        start=start,
        num_draws=2000,
    )
    print(f"from {start} to {fit.path[-1].numpy().round(2)}, KL {fit.reverse[0]:.3f} nats")

# %%
# With data
# ---------
# In pyrovae all this is a guide and a loss: a guide wires modules that return distributions, and the loss is `ElboLoss`.
# Here there is a datum, its posterior is a normal, which full rank can match, and the ELBO comes near log p(x).

from pyrovae.heads import FixedScaleNormalHead
from pyrovae.priors import StandardNormal
from pyrovae.recipes.variational.families import FullRank

model = pv.Model(
    z=StandardNormal(2), x=pv.Node(FixedScaleNormalHead(torch.nn.Identity(), scale=0.5), "z")
)
guide = pv.Guide(z=FullRank(torch.zeros(2)))
data = {"x": torch.tensor([[1.0, -0.5]])}
pv.fit(pv.ElboLoss(model, guide), [data] * 20, epochs=20, lr=0.05)
print(pv.log_evidence(model, guide, data, num_particles=1000))
