r"""
6. Score function and reparameterisation: the variance of gradients
===================================================================

The ELBO is a mean over draws whose distribution depends on the parameters. Its gradient has two estimators:

.. math::

   \nabla_\phi E_{q_\phi}[f(z)] &= E_{q_\phi}[f(z)\, \nabla_\phi \log q_\phi(z)] && \; \text{score function (REINFORCE)} \\
     &= E_{\epsilon}[\nabla_\phi f(g_\phi(\epsilon))], \quad z = g_\phi(\epsilon) && \quad \text{reparameterised (pathwise).}

Here :math:`\phi` are the parameters of :math:`q`, and :math:`g_\phi` makes a draw from noise :math:`\epsilon` that does not
depend on them, as :math:`z = \mu + s\, \epsilon` for a normal. Both are unbiased. The first needs only values of
:math:`f` and works for discrete draws; the second needs the derivative of :math:`f`, which says in which direction to
move, and so is much less noisy.
"""

import torch

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import load_digits
from pyrovae.diagnostics.gradient_variance import gradient_moments
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.losses import LeaveOneOutLoss
from pyrovae.nets import MLP, Constant
from pyrovae.posteriors import NonReparameterized
from pyrovae.priors import StandardNormal

torch.manual_seed(0)

# %%
# By hand, in one number and in many
# ----------------------------------
# :math:`f(z) = \sum_d z_d^2` under :math:`N(m, I)`. The pathwise gradient by :math:`m_d` is :math:`2 z_d`, of
# variance 4 whatever the number of dims. The score gradient is :math:`f(z)(z_d - m_d)`: its noise grows with *all* of
# :math:`f`, and so with the dims.

dims, lines = (1, 2, 5, 10, 50, 100), {"score function": [], "score, baseline": [], "pathwise": []}
for count in dims:
    mean = torch.ones(count)
    z = mean + torch.randn(50_000, count)
    f = z.square().sum(-1, keepdim=True)
    lines["score function"].append((f * (z - mean)).var(0).mean().log10())
    lines["score, baseline"].append(((f - f.mean()) * (z - mean)).var(0).mean().log10())
    lines["pathwise"].append((2 * z).var(0).mean().log10())
    gradients = [(f * (z - mean)).mean(), (2 * z).mean()]
    print(f"D = {count:3d}: means {gradients[0]:.2f} and {gradients[1]:.2f}, exact 2")
growth = plots.comparison(
    {name: plots.Line(dims, torch.tensor(values)) for name, values in lines.items()},
    "dims",
    "log10 of the variance of one gradient",
    xlog=True,
)

# %%
# A baseline, a constant taken from :math:`f`, leaves the mean alone (:math:`E\,\nabla \log q = 0`) and takes away the
# largest part of the noise. What is left still grows with the dims.
#
# In a VAE, during training
# -------------------------
# `gradient_moments` measures the variance of any loss's gradient. `NonReparameterized` is the same guide whose draws
# carry no gradient, so that Pyro's ELBO falls back to the score function. "stl" leaves out a part of the pathwise
# gradient whose mean is zero; its noise vanishes as the guide nears the posterior (Roeder et al. 2017,
# arXiv:1703.09194).

X, Z = 64, 4
train, _, _ = load_digits().batches("dynamic", flatten=True)
encoder = NormalHead(MLP(X, [64], 2 * Z))
model = pv.Model(z=StandardNormal(Z), x=pv.Node(BernoulliHead(MLP(Z, [64], X)), "z"))
guide, scored = (pv.Guide(z=pv.Node(q, "x")) for q in (encoder, NonReparameterized(encoder)))
losses = {
    "score function": pv.ElboLoss(model, scored),
    "reparameterised": pv.ElboLoss(model, guide),
    "sticking the landing": pv.IwaeLoss(model, guide, num_particles=1, alpha=1.0, gradient="stl"),
}


def variance(loss: torch.nn.Module) -> float:
    """Of the gradient of the guide's parameters, summed over them."""
    moments = gradient_moments(loss, batch, num_draws=40)
    return sum(v.sum().item() for name, (_, v) in moments.items() if name.startswith("guide."))


batch, found = train.take(100), {name: [] for name in losses}
stages = (0, 2, 10, 40)
for before, after in zip((0, *stages), stages):
    if after > before:
        pv.fit(losses["reparameterised"], train, epochs=after - before, lr=3e-3)
    for name, loss in losses.items():
        found[name].append(variance(loss))
for name, values in found.items():
    print(f"{name:21s}", [f"{value:.3g}" for value in values])
noise = plots.gradient_variance(stages, {"ELBO, one draw": found})

# %%
# What goes wrong: a gradient that is silently missing
# ----------------------------------------------------
# Draw :math:`z` without a gradient, and differentiate the ELBO as if it had one. The code runs, the decoder learns,
# and the encoder gets only :math:`-\nabla_\phi \log q_\phi(z)`, whose mean is zero: it does not learn at all, and
# nothing says so.

x = batch["x"]
wrong = []
for _ in range(200):
    q = encoder(x)
    z = q.sample()  # not rsample
    log_w = model.nodes["x"].conditional(z).log_prob(x) - q.log_prob(z)
    wrong.append(torch.autograd.grad(-log_w.mean(), [*encoder.parameters()])[0].flatten())
right = gradient_moments(losses["reparameterised"], batch, num_draws=200)
right = next(mean for name, (mean, _) in right.items() if name.startswith("guide."))
print(
    f"norm of the mean gradient: detached {torch.stack(wrong).mean(0).norm():.3f}, right {right.norm():.3f}"
)
try:
    pv.IwaeLoss(model, scored, num_particles=5)(x=x)
except TypeError as error:
    print("pyrovae:", error)

# %%
# `ElboLoss` notices and uses the score function; `IwaeLoss`, which has no score-function form here, refuses.
#
# Exercise 1
# ----------
# *Derive the variance of the score gradient for D = 1, m = 1.* With :math:`z = 1 + \epsilon`: :math:`E[z^4
# \epsilon^2] = 1 + 6 \cdot 3 + 15 = 34`; less the square of the mean, 4, it is 30. Its log10 is 1.48, as in the figure.
#
# Exercise 2
# ----------
# *Bernoulli latents have no pathwise gradient. Which baseline costs nothing?* With several draws, the mean of the
# others (`LeaveOneOutLoss`):

bits = pv.Model(z=BernoulliHead(Constant(10)), x=pv.Node(BernoulliHead(MLP(10, [64], X)), "z"))
q = pv.Guide(z=pv.Node(BernoulliHead(MLP(X, [64], 10)), "x"))
print(f"one draw: {variance(pv.ElboLoss(bits, q)):.3g}")
for count in (2, 5, 20):
    baseline = variance(LeaveOneOutLoss(bits, q, num_particles=count))
    print(f"{count:2d} draws, each with the others as baseline: {baseline:.3g}")
