r"""
8. Likelihoods: densities, probabilities, and what compares
===========================================================

The last node of a VAE says what data are. Bits have a Bernoulli. Grey pixels with levels :math:`k = 0, \dots, L - 1`
have probabilities :math:`P(k \mid z)` that sum to one over the levels, or, as real numbers :math:`x`, densities that
integrate to one. Only the first kind compares with one another as it stands. A density depends on the units, and
becomes a statement about levels through uniform noise :math:`u` in [0, 1) (Theis, van den Oord & Bethge 2016,
arXiv:1511.01844):

.. math::

   \log P(k) = \log \int_0^1 p(k + u)\, du \;\ge\; E_u \log p(k + u), \qquad
   \text{bits per dim} = -\frac{\log_2 P(k_1, \dots, k_D)}{D} .

Levels that are all equally probable cost :math:`\log_2 L` bits each.
"""

import math

import torch

import pyrovae as pv
from pyrovae import heads, plots
from pyrovae.data import load_digits
from pyrovae.nets import MLP, Standardized
from pyrovae.priors import StandardNormal

torch.manual_seed(0)

# %%
# Not a density: grey pixels under a Bernoulli
# --------------------------------------------
# Binary cross-entropy of a grey pixel :math:`x` is minus the log of :math:`l^x (1 - l)^{1 - x}` with the net's output
# :math:`l`. That is a number between 0 and 1, and it trains. But its integral over [0, 1] is at most one half and depends
# on :math:`l`, so that values of :math:`l` are not compared fairly. Divided by its integral it is the continuous
# Bernoulli (Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845).

logit = torch.linspace(-8, 8, 33)
x = torch.linspace(0, 1, 2001)
unnormalised = (x * logit[:, None] - torch.nn.functional.softplus(logit)[:, None]).exp()
integral = torch.trapezoid(unnormalised, x)
curve = {"Bernoulli": plots.Line(logit, integral)}
masses = plots.comparison(curve, "logit of l", "integral over x in [0, 1]")
print(f"integral at l = 1/2: {integral[16]:.3f}, at l = 0.9997: {integral[-1]:.3f}")
grey = {"x": torch.full((5, 1), 0.3)}
bernoulli = pv.Model(z=StandardNormal(1), x=pv.Node(heads.BernoulliHead(MLP(1, [], 1)), "z"))
try:
    pv.check(bernoulli, pv.Guide(z=StandardNormal(1)), grey)
except pv.PairError as error:
    print("refused:", str(error)[:88], "...")

# %%
# Five likelihoods of the same digits, in one unit
# ------------------------------------------------
# Digits with 17 levels. The last two heads speak of levels: a table of 17 probabilities a pixel, and a mixture of
# rounded logistics, which knows the order of levels (Salimans et al. 2017, arXiv:1701.05517). The first three are
# densities on [0, 1]; they see :math:`x = (k + u) / 17`, with noise drawn anew at each visit, and the
# change of units adds :math:`\log 17` nats a pixel. log p(x) is importance-sampled, a lower bound for all.

X, Z, H, LEVELS = 64, 8, [100], 17
digits = load_digits().as_levels()
levels, _, test_levels = digits.batches(batch_size=200, flatten=True)
noisy, _, test_noisy = digits.batches(batch_size=200, flatten=True)


def dequantise(batch: dict) -> dict:
    """(k + u) / 17 with u uniform in [0, 1)."""
    return {**batch, "x": (batch["x"] + torch.rand_like(batch["x"])) / LEVELS}


noisy.transform = test_noisy.transform = dequantise
likelihoods = {
    "normal, one scale": lambda: heads.LearnedScaleNormalHead(MLP(Z, H, X), initial_scale=0.3),
    "normal, predicted scale": lambda: heads.NormalHead(MLP(Z, H, 2 * X), min_scale=0.01),
    "continuous Bernoulli": lambda: heads.ContinuousBernoulliHead(MLP(Z, H, X)),
    "rounded logistics": lambda: heads.DiscretizedLogisticMixtureHead(
        MLP(Z, H, 9 * X), 3, levels=LEVELS, event_shape=(X,)
    ),
    "table of 17 levels": lambda: heads.CategoricalHead(MLP(Z, H, LEVELS * X), event_shape=(X,)),
}
bits, errors, draws = [], [], []
for name, make in likelihoods.items():
    torch.manual_seed(0)
    whole = name.startswith(("rounded", "table"))
    train, test = (levels, test_levels) if whole else (noisy, test_noisy)
    model = pv.Model(z=StandardNormal(Z), x=pv.Node(make(), "z"))
    net = Standardized(MLP(X, H, 2 * Z), *((5.0, 6.0) if whole else (0.3, 0.4)))
    guide = pv.Guide(z=pv.Node(heads.NormalHead(net), "x"))
    pv.fit(pv.ElboLoss(model, guide), train, epochs=60, lr=5e-3)
    found = pv.log_evidence(model, guide, test, num_particles=200)
    per_pixel = found.log_px / X - (0.0 if whole else math.log(LEVELS))
    bits.append(-per_pixel.mean().item() / math.log(2))
    errors.append(found.mean_se / X / math.log(2))
    print(f"{name:26s} log p(x) {found.mean:7.2f}; {bits[-1]:.3f} +- {errors[-1]:.3f} bits/dim")
    with torch.no_grad():
        drawn = model(num=10)["x"].float()
    draws.append(drawn / (LEVELS - 1) if whole else drawn)
table = plots.scores(list(likelihoods), bits, errors, unit="bits per dim of a test digit")
images = torch.cat(draws).clamp(0, 1).reshape(-1, 1, 8, 8)
pictures = plots.image_grid(images, columns=10, title="draws, a row a likelihood")
print(f"all levels equally probable: {math.log2(LEVELS):.3f} bits")

# %%
# What differs is the shape for one pixel, which is mostly 0 or far from it. One scale for all pixels is the poorest;
# the two heads that speak of levels are ahead, the mixture with fewer numbers a pixel than the table. In somebody
# else's table look for the unit, the noise and the data: bits per dim of *binarised* digits compare with none of these.
#
# What goes wrong: a density of data that lie on a grid
# -----------------------------------------------------
# Leave out the noise, and about half of all pixels are exactly 0. A density may then put a spike there, pixel by
# pixel and without any latents: :math:`p(x) = w N(x; 0, s^2) + (1 - w) N(x; m, 0.3^2)` with :math:`w` the share of
# zeros. The narrower the spike, the larger "log p(x)", without bound. On data with noise the same spike loses.

data = {"on the grid": levels.take(1000)["x"] / LEVELS, "with noise": noisy.take(1000)["x"]}
zero = data["on the grid"] == 0
share = zero.float().mean(0).clamp(0.001, 0.999)
rest = torch.distributions.Normal(data["on the grid"].sum(0) / (~zero).sum(0).clamp(min=1), 0.3)
for scale in (1e-1, 1e-2, 1e-4, 1e-8):
    spike, nats = torch.distributions.Normal(0.0, scale), {}
    for name, v in data.items():
        parts = share.log() + spike.log_prob(v), (1 - share).log() + rest.log_prob(v)
        nats[name] = round(torch.logaddexp(*parts).sum(-1).mean().item(), 1)
    print(f"spike of scale {scale:g}, nats a digit: {nats}")

# %%
# A net with a scale for each pixel finds such spikes by itself: hence `min_scale` above, and the wobble of page 2.
#
# Exercise 1
# ----------
# *Somebody reports 60 nats a digit under a normal likelihood of pixels in [0, 1], somebody else -240 for pixels in
# 0 to 16, both with noise of one level. Who is better?* For :math:`y = c x` the density is :math:`p_y(y) = p_x(y / c) / c`,
# so that log p falls by :math:`D \log c`. Bring both to one unit, here levels:

print(f"60 nats in [0, 1] are {60 - X * math.log(LEVELS - 1):.0f} in levels, more than -240")

# %%
# Exercise 2
# ----------
# *How much does the noise cost?* The bound is exact where the density is flat within a level. For one normal of
# scale :math:`s` levels everything can be computed: :math:`P(k)` is a difference of its distribution function. The
# noise is expensive only for a density narrower than a level.

for scale in (0.1, 0.3, 1.0, 3.0):
    normal = torch.distributions.Normal(8.3, scale)
    k, u = torch.arange(-20.0, 37.0), torch.linspace(0.0005, 0.9995, 1000)
    mass = (normal.cdf(k + 1) - normal.cdf(k)).clamp(min=1e-30)
    bound = normal.log_prob(k[:, None] + u).mean(-1)
    gap = (mass * (mass.log() - bound)).sum() / math.log(2)
    print(f"scale {scale} levels: {gap:.4f} bits per dim")
