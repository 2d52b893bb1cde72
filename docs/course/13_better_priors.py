r"""
13. Better priors, and the aggregate posterior
==============================================

Over a whole data set the KL of the ELBO is

.. math::

   \frac1N \sum_n KL(q(z \mid x_n) \,\|\, p(z)) = I(n; z) + KL(q(z) \,\|\, p(z)), \qquad
   q(z) = \frac1N \sum_n q(z \mid x_n),

and only the last term knows the prior. The best prior for given nets is thus the *aggregate posterior* :math:`q(z)`
itself. Draws of the model look like data where :math:`p(z)` and :math:`q(z)` agree: a place where the prior has mass
and no datum has its code is a *hole*, and the decoder was never trained there. A prior with parameters can move to
:math:`q(z)`: a mixture of normals, a flow, or a mixture of the encoder's own posteriors at learned pseudo-inputs
(VampPrior; Tomczak & Welling 2018, arXiv:1705.07120),

.. math:: p(z) = \frac1C \sum_c q(z \mid u_c).
"""

import torch
import zuko

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import load_digits
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import MixtureOfNormals, StandardNormal, VampPrior

torch.manual_seed(0)
REACH, POINTS = 3.2, 81

# %%
# Four priors of two latents
# --------------------------
# The prior is one argument. Everything else stays, the warm-up of the KL included: at first all codes are alike, and so
# are the components of a prior that is made of them.

X, Z = 64, 2
train, _, test = load_digits().batches("threshold", flatten=True)
priors = {
    "standard": lambda encoder: StandardNormal(Z),
    "mixture": lambda encoder: MixtureOfNormals(Z, num_components=20, scale=0.5),
    "VampPrior": lambda encoder: VampPrior(encoder, train.take(20)["x"]),
    "flow": lambda encoder: zuko.flows.NSF(Z, transforms=1, hidden_features=(32, 32)),
}
line = torch.linspace(-REACH, REACH, POINTS)
grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, Z)
whole = test.take(359)
fitted, row, rows = {}, [], []
for name, make in priors.items():
    torch.manual_seed(0)
    encoder = NormalHead(MLP(X, [64], 2 * Z))
    model = pv.Model(z=make(encoder), x=pv.Node(BernoulliHead(MLP(Z, [64], X)), "z"))
    guide = pv.Guide(z=pv.Node(encoder, "x"))
    loss = pv.ElboLoss(model, guide, beta=pv.LinearWarmup(20 * len(train)))
    pv.fit(loss, train, epochs=50, lr=4e-3)
    found, parts = (
        pv.log_evidence(model, guide, test, num_particles=200),
        pv.elbo_surgery(model, guide, test),
    )
    fitted[name] = model, guide, found
    rows.append(parts)
    with torch.no_grad():
        q = encoder(whole["x"])
        z = q.mean.mean(0) + q.sample().std(0) * grid
        aggregate = q.log_prob(z[:, None]).exp().mean(1)
        prior = model.nodes["z"].conditional().log_prob(z).exp()
    row.append(plots.Fitted(name, *(d.reshape(POINTS, POINTS) for d in (aggregate, prior))))
    gain = found.log_px - fitted["standard"][2].log_px
    print(
        f"{name:10s} log p(x) {found.mean:.2f}, over standard {gain.mean():+.2f} +- "
        f"{gain.std() / len(gain) ** 0.5:.2f}; information {parts.mutual_information:.2f}, "
        f"marginal KL {parts.marginal_kl:.2f}"
    )
densities = plots.variational_panels(
    [row],
    reach=REACH,
    title="aggregate posterior (p), prior (q)",
    labels=("latent 0, standardised", "latent 1, standardised"),
)
kinds = plots.kl_parts(
    list(priors), [r.mutual_information for r in rows], [r.marginal_kl for r in rows]
)

# %%
# With two latents and an encoder that may send data anywhere, the standard normal is met well already: its marginal KL
# is all that a better prior can gain while the nets stay. The other priors come nearer to their aggregate posteriors,
# and their gains in log p(x) are hardly larger than the errors.
#
# What goes wrong: a prior that is not where the codes are
# --------------------------------------------------------
# Train with a KL of weight 0.05, for sharper reconstructions. The codes spread, N(0, I) covers some of them, and log
# p(x) is poor: many data lie where the prior has almost no mass. The prior can be replaced afterwards (Ghosh et al.
# 2020, arXiv:1903.12436): a flow, fitted to draws of the codes by maximum likelihood, while nets and guide stay.

torch.manual_seed(0)
encoder, node = NormalHead(MLP(X, [64], 2 * Z)), pv.Node(BernoulliHead(MLP(Z, [64], X)), "z")
model, guide = pv.Model(z=StandardNormal(Z), x=node), pv.Guide(z=pv.Node(encoder, "x"))
pv.fit(pv.ElboLoss(model, guide, beta=0.05), train, epochs=50, lr=4e-3)
flow = zuko.flows.NSF(Z, transforms=1, hidden_features=(32, 32))
with torch.no_grad():
    codes = encoder(train.take(1295)["x"]).sample()
density = pv.ElboLoss(pv.Model(z=flow))
pv.fit(density, [{"z": part} for part in codes.split(200)], epochs=60, lr=1e-2)
for name, prior in (("standard", StandardNormal(Z)), ("flow, fitted after", flow)):
    again = pv.Model(z=prior, x=node)
    found = pv.log_evidence(again, guide, test, num_particles=200, defensive=0.3)
    mismatch = pv.elbo_surgery(again, guide, test).marginal_kl
    print(f"{name:18s} marginal KL {mismatch:.2f}, log p(x) {found.mean:.2f}")

# %%
# More than a nat is had back without touching the nets, and the pair is no worse than those above.
#
# Exercise 1
# ----------
# *Show that the aggregate posterior is the best prior.* Only :math:`E_{q(z)}[\log p(z)]` depends on the prior, and
# Gibbs' inequality says that it is largest for :math:`p = q(z)`: the difference is :math:`KL(q(z) \| p(z))`.
#
# Exercise 2
# ----------
# *Then why not take the aggregate posterior of the training data itself?* It has N components, one a datum: each
# density costs N evaluations, and each code may be learned by heart for no more than :math:`\log N` nats of KL. A
# VampPrior is the same idea with few components, which data have to share.
