r"""
24. Laplace's approximation and SWAG
====================================

Laplace's approximation (MacKay 1992) is a normal about a net that was trained as usual,

.. math::

   p(w \mid D) \approx N(w^*, H^{-1}), \qquad H = \tfrac{1}{\tau^2} I + \sum_i J_i^\top \Lambda_i J_i ,

with :math:`w^*` the most probable weights (the mode), :math:`J_i` the derivative of the net's outputs by the P weights and
:math:`\Lambda_i` the second derivative of -log likelihood by the outputs. The integral of that normal estimates the
evidence, which chooses the prior's scale :math:`\tau` without held-out data:

.. math::

   \log p(D \mid \tau) \approx \log p(D \mid w^*) + \log p(w^* \mid \tau) + \tfrac P2 \log 2 \pi - \tfrac12 \log |H| .

SWAG (Maddox et al. 2019, arXiv:1902.02476) takes the mean and covariance of the iterates of SGD in place of curvature.
"""

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

import pyrovae as pv
from pyrovae import metrics, plots
from pyrovae.bnn.curvature import Diagonal, Full, Kron
from pyrovae.bnn.guides import Empirical, JointNormal, PointEstimate
from pyrovae.bnn.posthoc import fit_laplace, linearize, swag
from pyrovae.bnn.priors import last_layer, normal
from pyrovae.bnn.samplers import Collect
from pyrovae.data import Batches, gap1d, gap1d_function
from pyrovae.heads import FixedScaleNormalHead
from pyrovae.nets import MLP

torch.manual_seed(0)

# %%
# One mode, four curvatures
# -------------------------
# The curve with a gap of page 22, with few data. `fit_laplace` keeps the curvature as an object; `guide` turns it into
# a guide; `linearize` is the model whose outputs are linear in the weights about the mode.

split = gap1d(num_data=60, noise=0.2).split(0)
data = split.train[:]
N, noise = len(data["x"]), 0.2 / split.y_scale.item()


def trained(width: int = 30, part: bool = False) -> tuple[pv.Bayesian, pv.Model, dict]:
    plain = MLP(1, [width], 1, torch.nn.Tanh)
    net = pv.Bayesian(plain, last_layer(plain, normal(1.0)) if part else normal(1.0))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=noise), "x"))
    guide = PointEstimate(net)
    loss = pv.ElboLoss(model, guide, num_data=N)
    pv.fit(loss, [data] * 20, epochs=50, lr=0.1, schedule=lambda one: CosineAnnealingLR(one, 50))
    return net, model, {name: value.detach() for name, value in guide.values().items()}


x = torch.linspace(-4, 4, 121).unsqueeze(1)
curve = ((gap1d_function(x) - split.y_mean) / split.y_scale).squeeze(1)
grid, panels = (x - split.x_mean) / split.x_scale, {}
place = (split.test[:]["x"] * split.x_scale + split.x_mean).abs().squeeze(1)
near = (place > 1) & (place < 3)


def show(name: str, model: pv.Model, guide: torch.nn.Module, draw: bool = False) -> None:
    lp = pv.log_predictive(model, guide, split.test[:], num_samples=300) + split.log_density_shift
    among, away = (metrics.mean_and_error(lp[rows])[0] for rows in (near, ~near))
    print(f"{name:22s} log p(y given x): {among:6.2f} among the data, {away:6.2f} away from them")
    found = pv.predict_moments(model, guide, {"x": grid}, num_samples=300)
    parts = (grid, found.mean, found.epistemic.sqrt(), found.total.sqrt(), data["x"], data["y"])
    if draw:
        panels[name] = plots.Bands(*(part.squeeze(1) for part in parts), curve)


net, model, mode = trained()
show("point estimate", model, Empirical({name: value[None] for name, value in mode.items()}))
straight, found = linearize(model, mode), {}
for name, kind in {"full": Full(), "Kronecker": Kron(), "diagonal": Diagonal()}.items():
    posterior = found[name] = fit_laplace(model, mode, data, kind)
    show(f"{name} Laplace", straight, posterior.guide(net), draw=name != "Kronecker")
    print(f"{'':22s} log p(D) = {posterior.log_marginal_likelihood():.1f} nats")
part_net, part_model, part_mode = trained(part=True)
posterior = fit_laplace(part_model, part_mode, data, Full())
show("last layer", linearize(part_model, part_mode), posterior.guide(part_net))

# %%
# All are better away from the data than the point estimate, except the last layer alone, whose features were trained
# without a prior. The full curvature is P x P, and its band opens in the gap. Kronecker factors hold two small matrices
# a layer and predict alike here. The diagonal holds P numbers: its band is as wide among the data as in the gap, and
# its evidence is none to compare models by (exercise 2).
#
# SWAG
# ----
# SGD at a constant rate, from the mode; the hook `Collect` keeps its weights.

guide = PointEstimate(net).start_at(mode)
collect = Collect(guide.values, every=4)
loss, sgd = pv.ElboLoss(model, guide, num_data=N), torch.optim.SGD(guide.parameters(), lr=1e-3)
pv.fit(loss, Batches(split.train, 27, shuffle=True), epochs=1_000, optimizer=sgd, hooks=[collect])
moments = swag(collect.draws(), rank=20)
show("SWAG", model, JointNormal(net, rank=20).set(**moments), draw=True)
bands = plots.regression_bands(panels)

# %%
# SWAG hardly widens: how far SGD goes from the mode depends on its rate and batches more than on the posterior.
#
# What goes wrong: the net itself under Laplace's posterior
# ---------------------------------------------------------
# The curvature is that of a model that is linear in the weights. Along directions that the data leave open the draws
# lie far from the mode, and there the net itself is another function, which fits nothing: predict with the linearised
# model (Immer, Korzepa & Bauer 2021, arXiv:2008.08400). The narrow diagonal does less harm.

show("full, net itself", model, found["full"].guide(net))
show("diagonal, net itself", model, found["diagonal"].guide(net))

# %%
# The prior by the evidence
# -------------------------
# `log_marginal_likelihood` takes another prior precision without another pass through the data; `fit_prior` finds the
# best one, and the scale of the noise too. The mode is held fixed here; the hook `MarginalLikelihood` refits both in
# turn while the net trains (Immer et al. 2021, arXiv:2104.04975).

posterior = found["full"]
precisions = torch.logspace(-3, 3, 25)
evidences = [posterior.log_marginal_likelihood(value.item()) for value in precisions]
best = posterior.fit_prior(noise=False)
print(f"{best.log_marginal_likelihood():.1f} nats at precision {best.prior_precision[0]:.3f}")
print(f"{best.effective_parameters():.1f} of {best.weights.size} directions are told by the data")
line = plots.Line(precisions, torch.stack(evidences))
by_prior = plots.comparison({"log p(D)": line}, "prior precision", "nats", xlog=True)

# %%
# Exercise 1
# ----------
# *Which width has the largest evidence?* From one unit to ten the fit gains more than the Occam factor, the rest of
# the evidence, costs. By 30 units, the net above, little changes: the prior keeps the added weights small.

for width in (1, 3, 10):
    _, wide, at = trained(width)
    narrow = fit_laplace(wide, at, data, Full())
    print(f"width {width:2d}: log p(D given w*) {narrow.log_likelihood:7.1f}", end=", ")
    print(f"log p(D) = {narrow.log_marginal_likelihood():7.1f} nats")

# %%
# Exercise 2
# ----------
# *Why has the diagonal the smaller evidence, at the same mode?* For a positive definite matrix :math:`|H| \le \prod_j
# H_{jj}` (Hadamard): a diagonal claims that more volume was lost than there is.
