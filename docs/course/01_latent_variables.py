r"""
1. Latent variables and the evidence
====================================

A latent-variable model explains data :math:`x` by something that nobody observes, :math:`z`: first :math:`z \sim
p(z)`, then :math:`x \sim p(x \mid z)`. Everything one wants to know is one integral away,

.. math::

   p(x) = \int p(z)\, p(x \mid z)\, dz, \qquad p(z \mid x) = \frac{p(z)\, p(x \mid z)}{p(x)} .

The number :math:`p(x)` is the *evidence* (or marginal likelihood): how probable these data are under the model,
whatever the latents were. It is what training maximises and what models are compared by. :math:`p(z \mid x)` is the
*posterior*. Both need the same integral, and the rest of this course is about ways round it.
"""

import torch
from matplotlib.figure import Figure

import pyrovae as pv
from pyrovae import plots
from pyrovae.evidence import quadrature
from pyrovae.heads import FixedScaleNormalHead, LearnedScaleNormalHead, LinearMarginal
from pyrovae.priors import StandardNormal

torch.manual_seed(0)

# %%
# A model of the plane with one latent number
# -------------------------------------------
# The decoder maps :math:`z` to a point on a curve, and the likelihood adds noise to it: :math:`x \sim N(f(z), 0.15^2
# I)`. A model is wiring: a prior, and a node that reads `z`.


class Curve(torch.nn.Module):
    """f(z) = (z, sin 2z)."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.cat([z, (2 * z).sin()], -1)


prior = StandardNormal(1)
likelihood = FixedScaleNormalHead(Curve(), scale=0.15)
model = pv.Model(z=prior, x=pv.Node(likelihood, "z"))
draws = model(num=600)
print({name: tuple(value.shape) for name, value in draws.items()})

# %%
# One latent number can be integrated on a grid: evaluate the joint density :math:`p(z) p(x \mid z)` along :math:`z`,
# sum for the evidence, divide for the posterior. The three points below lie on the curve, between two of its arms,
# and far from it.

points = torch.tensor([[0.7, 0.985], [0.8, 0.2], [0.0, 1.5]])
z = torch.linspace(-3.0, 3.0, 1201).unsqueeze(-1)
log_joint = prior().log_prob(z) + likelihood(z).log_prob(points.unsqueeze(1))  # (3, 1201)
log_px = log_joint.logsumexp(-1) + (z[1, 0] - z[0, 0]).log()
posterior = (log_joint - log_px.unsqueeze(-1)).exp()

print("log p(x) by hand:      ", log_px.numpy().round(3))
known = quadrature(model, {"x": points}, tolerance=1e-4)
print("log p(x) by quadrature:", known.log_px.numpy().round(3))

figure = Figure(figsize=(9, 3.4), layout="constrained")
left, right = figure.subplots(1, 2)
left.scatter(*draws["x"].T, c=draws["z"].squeeze(-1), s=6, cmap="viridis")
for index, (point, density) in enumerate(zip(points, posterior)):
    left.plot(*point, "X", color=f"C{index}", markersize=9, markeredgecolor="k")
    right.plot(z.squeeze(-1), density, color=f"C{index}", label=f"log p(x) = {log_px[index]:.1f}")
left.set(title="draws of x, coloured by z", xlabel="x_0", ylabel="x_1")
right.set(title="posteriors p(z given x)", xlabel="z")
right.legend(frameon=False)

# %%
# A point on the curve has a large evidence and one narrow peak as posterior. A point between two arms is improbable, and
# its posterior has a peak for each arm that it may have come from. The far point has the smallest evidence and the
# narrowest posterior: a posterior says which :math:`z` explains the point best, not whether it explains it well.
#
# What goes wrong: averaging the likelihood over the prior
# --------------------------------------------------------
# A grid needs :math:`100^Z` points for :math:`Z` latents. Monte Carlo seems to know no dimension,
#
# .. math:: \hat p(x) = \frac1K \sum_{k=1}^K p(x \mid z_k), \qquad z_k \sim p(z),
#
# is unbiased, and is useless for many latents: the posterior fills an ever smaller part of the prior, so that almost no
# draw explains :math:`x`. We can watch it fail where the truth is known. With a linear decoder :math:`x = Wz + b +
# \sigma\epsilon` the evidence is a normal density (`LinearMarginal`, page 2). `log_evidence` takes its draws from a
# *guide*, a density :math:`q(z \mid x)`, and averages the *weights* :math:`w_k = p(z_k)\, p(x \mid z_k) / q(z_k \mid
# x)`. With the prior as guide these are the likelihoods, and the estimator is the one above.

dims = [1, 2, 4, 8, 16, 32]
errors, khats = [], []
for count in dims:
    decoder = torch.nn.Linear(count, 2 * count)
    torch.nn.init.normal_(decoder.weight, std=count**-0.5)
    linear = LearnedScaleNormalHead(decoder, initial_scale=0.3)
    deep = pv.Model(z=StandardNormal(count), x=pv.Node(linear, "z"))
    with torch.no_grad():
        x = deep(num=50)["x"]
        exact = LinearMarginal(linear)().log_prob(x)
    naive = pv.log_evidence(deep, pv.Guide(z=StandardNormal(count)), {"x": x}, num_particles=5000)
    errors.append((naive.log_px - exact).mean().item())
    khats.append(naive.khat.median().item())
    print(
        f"Z = {count:2d}: exact {exact.mean():8.2f}, from the prior {naive.mean:9.2f}, k-hat {khats[-1]:.2f}"
    )

failure = plots.comparison(
    {"5000 draws of the prior": plots.Line(dims, errors)},
    "latent dims",
    "estimate - log p(x), nats",
    xlog=True,
)

# %%
# The estimate is not merely noisy, it is *too low*, with 16 latents by tens of nats (units of the natural logarithm): the
# mean of :math:`\hat p` is right only thanks to rare draws that 5000 tries do not contain. k-hat, a measure of how heavy
# the tail of the weights is, says so without knowing the truth: above 0.7 do not trust the number (it is infinite where
# one weight dwarfs all others). The cure is a guide that draws where the posterior is: the pages that follow.
#
# Exercise 1
# ----------
# *Show that* :math:`E \log \hat p(x) \le \log p(x)`, *and by about how much for large K.*
#
# The logarithm is concave: Jensen's inequality. Write :math:`\hat p = p (1 + \delta)` with :math:`E\delta = 0`; then
# :math:`E \log(1 + \delta) \approx -\tfrac12 \mathrm{Var}\,\delta = -\mathrm{Var}(w) / (2 K p^2)`. With 10 draws
# :math:`\delta` is not small and the bias larger than that; from 100 on the two agree:

small = pv.Guide(z=StandardNormal(1))
for count in (10, 100, 1000):
    repeats = {"x": points[:1].expand(2000, 2)}
    estimate = pv.log_evidence(model, small, repeats, num_particles=count)
    weights = pv.log_weights(model, small, {"x": points[:1]}, 20_000).exp()
    predicted = -(weights.var() / weights.mean() ** 2 / (2 * count)).item()
    print(f"K = {count:4d}: bias {estimate.mean - log_px[0]:.4f}, predicted {predicted:.4f}")

# %%
# Exercise 2
# ----------
# *The scale* :math:`\sigma` *of the noise shrinks from 0.15 to 0.01. What happens to the posteriors, to the evidence of
# the point on the curve, and to the estimate from the prior?* The posterior on the curve narrows as the noise does. Its
# evidence grows like :math:`1 / \sigma`: a density, not a probability. That of a point at distance :math:`d` from the
# curve falls, its log like :math:`-d^2 / 2\sigma^2`. And the share of useful prior draws falls with the noise, so the
# estimate fails with one latent too.

for scale in (0.15, 0.05, 0.01):
    sharp = pv.Model(z=prior, x=pv.Node(FixedScaleNormalHead(Curve(), scale=scale), "z"))
    known = quadrature(sharp, {"x": points}, tolerance=1e-4).log_px
    print(f"scale {scale}: log p(x) =", [round(value, 1) for value in known.tolist()])
