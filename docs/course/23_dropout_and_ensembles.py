r"""
23. Dropout and deep ensembles
==============================

Two ways to be uncertain that cost almost nothing to write. Monte Carlo dropout (Gal & Ghahramani 2016,
arXiv:1506.02142) keeps dropout switched on when it predicts. A deep ensemble (Lakshminarayanan, Pritzel & Blundell
2017, arXiv:1612.01474) trains K nets from different starts and averages their predictions. Both are a :math:`q(w)`:

.. math::

   q_{\text{dropout}}: \; W = M \,\mathrm{diag}(z), \; z_j \sim \mathrm{Bernoulli}(1 - r), \qquad
   q_{\text{ensemble}}(w) = \frac1K \sum_k \delta(w - w_k) ,

with M learned, r the dropout rate, point masses at the nets. With the prior :math:`N(0, s^2)` dropout has an L2 penalty,

.. math:: E_q[-\log p(W)] = \frac{1 - r}{2 s^2} \|M\|^2 + \mathrm{const} ,

and neither :math:`q` has a density over weights, so neither loss is a bound on the evidence.
"""

import math
from collections.abc import Callable

import torch
from pyro.infer import Trace_ELBO

import pyrovae as pv
from pyrovae import metrics, plots
from pyrovae.bnn.guides import Ensemble, MCDropout, PointEstimate
from pyrovae.bnn.priors import normal
from pyrovae.data import Batches, gap1d, gap1d_function
from pyrovae.heads import FixedScaleNormalHead
from pyrovae.nets import MLP

torch.manual_seed(0)
MEMBERS = 10
many = Trace_ELBO(num_particles=MEMBERS, vectorize_particles=True)  # a particle for each member
each_datum = pv.LocalReparameterization

# %%
# The curve with a gap
# --------------------
# The model is that of page 22; only the guide changes. Under `LocalReparameterization` each datum has dropout masks
# of its own, as dropout layers do; an `Ensemble` trains with one particle for each member.

split = gap1d(num_data=400, noise=0.2).split(0)
data = split.train[:]
N, noise = len(data["x"]), 0.2 / split.y_scale.item()
train = Batches(split.train, 100, shuffle=True)


def regression(guide_of: Callable) -> tuple[pv.Model, torch.nn.Module]:
    net = pv.Bayesian(MLP(1, [50], 1), normal(1.0))
    return pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=noise), "x")), guide_of(net)


def hidden(site: str, tensor: torch.Tensor) -> float:
    return 0.1 if tensor.shape[1] > 1 else 0.0  # not the only input


pairs = {
    "point estimate": regression(PointEstimate),
    "MC dropout": regression(lambda net: MCDropout(net, rate=hidden)),
    "ensemble": regression(lambda net: Ensemble(net, [MLP(1, [50], 1) for _ in range(MEMBERS)])),
}
x = torch.linspace(-4, 4, 121).unsqueeze(1)
curve = ((gap1d_function(x) - split.y_mean) / split.y_scale).squeeze(1)
grid, panels = (x - split.x_mean) / split.x_scale, {}
place = (split.test[:]["x"] * split.x_scale + split.x_mean).abs().squeeze(1)
near = (place > 1) & (place < 3)
for name, (model, guide) in pairs.items():
    elbo = many if name == "ensemble" else Trace_ELBO()
    loss = pv.ElboLoss(model, guide, num_data=N, elbo=elbo)
    pv.fit(loss, train, epochs=150, lr=2e-2, context=each_datum)
    found = pv.predict_moments(model, guide, {"x": grid}, num_samples=200)
    parts = (grid, found.mean, found.epistemic.sqrt(), found.total.sqrt(), data["x"], data["y"])
    panels[name] = plots.Bands(*(part.squeeze(1) for part in parts), curve)
    lp = pv.log_predictive(model, guide, split.test[:], num_samples=200) + split.log_density_shift
    among, away = (metrics.mean_and_error(lp[rows])[0] for rows in (near, ~near))
    print(f"{name:15s} log p(y given x): {among:6.2f} among the data, {away:7.2f} away from them")
bands = plots.regression_bands(panels)

# %%
# The members of the ensemble share the data's curve and part beyond its ends, where the point estimate is as sure as
# anywhere; inside the gap they hardly differ. This point estimate happens to go on rightly (most do not: page 22), so
# that log p does not reward the doubt. Dropout pays among the data too: its noise is there wherever units are switched on.
#
# What goes wrong: uncertainty that does not learn
# ------------------------------------------------
# Take the simplest net, a linear one, where the posterior is known, and give it more and more data. What is not known
# of :math:`w \cdot x` must fall as :math:`1 / \sqrt N`. The noise of dropout with a fixed rate is :math:`M_j^2 r (1 -
# r) x_j^2` however many data there are: it is a statement about the rate and not about the data (Osband 2016). A
# *learned* rate (Gal, Hron & Kendall 2017, arXiv:1705.07832) falls with N. An ensemble errs the other way: this loss
# has one minimum, all members find it, and nothing seems unknown.

D = 10
truth, at = torch.randn(D), torch.randn(1, D)
kinds = {
    "dropout, rate 0.1": lambda net: MCDropout(net, rate=0.1),
    "dropout, learned rate": lambda net: MCDropout(net, rate=0.1, learn_rate=True),
    "ensemble": lambda net: Ensemble(net, [torch.nn.Linear(D, 1) for _ in range(MEMBERS)]),
}
amounts, spreads = (10, 100, 1000), {}
for count in amounts:
    features = torch.randn(count, D)
    batch = {"x": features, "y": (features @ truth + torch.randn(count)).unsqueeze(1)}
    covariance = torch.linalg.inv(torch.eye(D) + features.T @ features)
    spreads.setdefault("exact", []).append((at @ covariance @ at.T).sqrt().item())
    for name, guide_of in kinds.items():
        net = pv.Bayesian(torch.nn.Linear(D, 1), normal(1.0))
        linear = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=1.0), "x"))
        guide = guide_of(net)
        elbo = many if name == "ensemble" else Trace_ELBO()
        loss = pv.ElboLoss(linear, guide, num_data=count, elbo=elbo)
        pv.fit(loss, [batch] * 20, epochs=12, lr=0.05, context=each_datum)
        found = pv.predict_moments(linear, guide, {"x": at}, num_samples=1000)
        spreads.setdefault(name, []).append(found.epistemic.sqrt().item())
lines = {}
for name, values in spreads.items():
    print(f"{name:21s} sd of w.x for N = 10, ..., 1000: " + " ".join(f"{v:.3f}" for v in values))
    lines[name] = plots.Line(amounts, [math.log10(max(v, 1e-4)) for v in values])
shrinking = plots.comparison(lines, "N", "log10 of the standard deviation of w.x", xlog=True)

# %%
# Exercise 1
# ----------
# *Check the L2 term.* :math:`-\log p(W)` averaged over draws of a dropout guide, against the formula:

layer = pv.Bayesian(torch.nn.Linear(64, 20), normal(1.0))
guide = MCDropout(layer, rate=0.3)
with torch.no_grad():
    draws = torch.stack([guide()["w.weight"] for _ in range(500)])
    found = -torch.distributions.Normal(0.0, 1.0).log_prob(draws).sum((1, 2)).mean()
    penalty = 0.7 * guide.loc[0].square().sum() / 2 + 64 * 20 * math.log(2 * math.pi) / 2
print(f"E_q[-log p(W)] = {found:.2f}, by formula {penalty:.2f} nats")

# %%
# Exercise 2
# ----------
# *Make the members of a linear ensemble differ as much as the posterior says.* Give each member a prior mean of its
# own, drawn from the prior, and noise of its own on the targets ("randomise, then optimise"; Osband, Aslanides &
# Cassirer 2018, arXiv:1806.03335). In the linear case each member is then an exact draw of the posterior.

features = torch.randn(100, D)
targets = features @ truth + torch.randn(100)
covariance = torch.linalg.inv(torch.eye(D) + features.T @ features)
noisy, anchors = targets + torch.randn(5_000, 100), torch.randn(5_000, D)
members = (noisy @ features + anchors) @ covariance
exact = (at @ covariance @ at.T).sqrt().item()
print(f"sd of w.x over members {(members @ at.T).std():.4f}, of the posterior {exact:.4f}")
