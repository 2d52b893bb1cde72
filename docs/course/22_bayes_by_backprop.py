r"""
22. Bayesian neural networks: Bayes by backprop
===============================================

In a Bayesian neural network the *weights* are the latent variables. There is one :math:`w` for all data :math:`D =
\{(x_i, y_i)\}`, with a prior :math:`p(w)`:

.. math::

   p(w \mid D) \propto p(w) \prod_{i=1}^N p(y_i \mid x_i, w), \qquad
   p(y \mid x, D) = \int p(y \mid x, w)\, p(w \mid D)\, dw .

Bayes by backprop (Blundell et al. 2015, arXiv:1505.05424) fits independent normals over all weights by the ELBO,
whose KL is paid once for the whole data set, and so 1/N of it by each datum:

.. math:: \frac{L}{N} = \frac1N \sum_i E_q[\log p(y_i \mid x_i, w)] - \frac1N KL(q(w) \,\|\, p(w)) .
"""

import torch

import pyrovae as pv
from pyrovae import metrics, plots
from pyrovae.bnn.guides import MeanField, PointEstimate
from pyrovae.bnn.priors import normal
from pyrovae.data import Batches, gap1d, gap1d_function
from pyrovae.diagnostics.gradient_variance import gradient_moments
from pyrovae.heads import FixedScaleNormalHead
from pyrovae.nets import MLP
from pyrovae.recipes.variational.weights import believe, line_data

torch.manual_seed(0)

# %%
# A curve with a gap
# ------------------
# Points of a curve, none of them in (-1, 1). Inputs and targets are standardised; the noise is known here.

split = gap1d(num_data=400, noise=0.2).split(0)
data = split.train[:]
N, noise = len(data["x"]), 0.2 / split.y_scale.item()
train = Batches(split.train, 100, shuffle=True)


def regression(guide_of: type) -> tuple[pv.Model, torch.nn.Module]:
    """A Bayesian net as a likelihood, and a guide over its weights."""
    net = pv.Bayesian(MLP(1, [50], 1), normal(1.0))
    return pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=noise), "x")), guide_of(net)


model, guide = regression(MeanField)
loss = pv.ElboLoss(model, guide, num_data=N)
history = pv.fit(loss, train, epochs=150, lr=2e-2, context=pv.LocalReparameterization)
print(f"ELBO {history['elbo'][0]:.2f}, then {history['elbo'][-1]:.2f} nats per datum")

# %%
# `Bayesian` turns the parameters of a net into sample sites; `MeanField` is the guide over them. `num_data` says how
# many data share the weights, and `LocalReparameterization` gives each datum noise of its own (exercise 2).
# `predict_moments` averages over draws of the weights and tells apart what is noise and what is not known.
#
# What goes wrong: the KL paid by every batch
# -------------------------------------------
# Written by hand, the loss is often (errors of a batch of B data) + KL: the KL is then paid once a *batch*, N/B times
# too much. The net is kept at its prior and underfits. The other mistake is no posterior at all: the point estimate is
# sure of itself in the gap. pyrovae refuses to guess N, and an N that is not the number of data in an epoch, so that here
# a `beta` of 20, as for batches of N/20 = 20 data, has to make the mistake:

try:
    pv.ElboLoss(model, guide)(**data)
except pv.PairError as error:
    print("PairError:", str(error).splitlines()[0])

overpaid = regression(MeanField)
too_much = pv.ElboLoss(*overpaid, num_data=N, beta=20.0)
pv.fit(too_much, train, epochs=80, lr=2e-2, context=pv.LocalReparameterization)
point = regression(PointEstimate)
pv.fit(pv.ElboLoss(*point, num_data=N), train, epochs=150, lr=2e-2)

x = torch.linspace(-4, 4, 121).unsqueeze(1)
scaled = (x - split.x_mean) / split.x_scale
test_x = (split.test[:]["x"] * split.x_scale + split.x_mean).squeeze(1)
near, panels = (test_x.abs() > 1) & (test_x.abs() < 3), {}
for name, pair in {
    "mean field": (model, guide),
    "KL paid 20 times": overpaid,
    "point estimate": point,
}.items():
    moments = pv.predict_moments(*pair, {"x": scaled}, num_samples=200)
    panels[name] = plots.Bands(
        x.squeeze(1),
        split.original_y(moments.mean).squeeze(1),
        (moments.epistemic.sqrt() * split.y_scale).squeeze(1),
        (moments.total.sqrt() * split.y_scale).squeeze(1),
        (data["x"] * split.x_scale + split.x_mean).squeeze(1),
        split.original_y(data["y"]).squeeze(1),
        gap1d_function(x).squeeze(1),
    )
    lp = pv.log_predictive(*pair, split.test[:], num_samples=200) + split.log_density_shift
    for place, rows in (("among", near), ("away from", ~near)):
        mean, se, _ = metrics.mean_and_error(lp[rows])
        print(f"{name:17s} {place:9s} the data: log p(y given x) = {mean:6.2f} +- {se:.2f} nats")
bands = plots.regression_bands(panels)

# %%
# Away from the data the point estimate is wrong and sure of it, and how wrong is luck: five fits from other seeds score
# -15 to -20 nats there, that of page 23 scores -2. The posterior, which doubts, loses less than most of them. With the KL
# overpaid the net is kept too near to its prior to follow the curve: a nat is lost among the data, and the doubt of a
# prior is no bad guess away from them. The mean-field band does widen away from the data, but less in the gap than an
# exact posterior would: independent weights cannot say "some line through both sides" (Foong et al. 2020,
# arXiv:1909.00719).
#
# Exercise 1
# ----------
# *For a line with two weights the evidence is known. How many nats does mean field miss?* Those of the correlation of
# intercept and slope (page 4), and they do not vanish with more data:

line_x, line_y = line_data(30, seed=0)
for count in (1, 3, 30):
    belief = believe(line_x[:count], line_y[:count], epochs=20)
    elbos = ", ".join(f"ELBO {name} {value:.3f}" for name, value in belief.elbos.items())
    print(f"N = {count:2d}: log p(y given x) = {belief.evidence:.3f}; {elbos}")

# %%
# Exercise 2
# ----------
# *Why local reparameterisation?* With one draw of the weights for a batch all its data share the noise, and the
# variance of the gradient does not fall with the batch. Drawing each datum's *activations* from the same normal makes
# noise independent (Kingma, Salimans & Welling 2015, arXiv:1506.02557):


def total_variance(batch: dict[str, torch.Tensor]) -> float:
    return sum(v.sum().item() for _, v in gradient_moments(loss, batch, num_draws=100).values())


for size in (10, 100):
    batch = {key: value[:size] for key, value in data.items()}
    shared = total_variance(batch)
    with pv.LocalReparameterization():
        local = total_variance(batch)
    print(f"batch of {size:3d}: variance {shared:8.3f} shared, {local:8.3f} local")
