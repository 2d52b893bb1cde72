r"""
11. The gaps of amortised inference
===================================

One encoder infers the posteriors of all data. What is missing between its ELBO and log p(x) has two causes. Let
:math:`q^*_x` be the best member of the guide's family for this one datum; then

.. math::

   \log p(x) - L[q_\phi] \;=\; \underbrace{\log p(x) - L[q^*_x]}_{\text{approximation gap}}
     \;+\; \underbrace{L[q^*_x] - L[q_\phi]}_{\text{amortisation gap}} .

The first is the family's: independent normals cannot follow a bent posterior. The second is the net's: it gives this
datum a mean and scales that are not the best (Cremer, Li & Duvenaud 2018, arXiv:1801.03558). The remedies differ, so
it pays to know which is large.
"""

import torch
from pyro import poutine

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import load_digits
from pyrovae.evidence import inference_gaps, quadrature
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal
from pyrovae.programs import SemiAmortized

torch.manual_seed(0)
REACH, POINTS = 3.2, 81

# %%
# Posteriors that can be drawn
# ----------------------------
# With two latents log p(x) is known by `quadrature`, and so is the posterior on a grid. `SemiAmortized` starts from
# the encoder's answer and improves it by gradient steps for each datum; many steps find :math:`q^*`.

X, Z = 64, 2
train, _, test = load_digits().batches("threshold", flatten=True)


def vae(width: int) -> tuple[pv.Model, pv.Guide]:
    """A VAE with two latents and an encoder of the given width."""
    model = pv.Model(z=StandardNormal(Z), x=pv.Node(BernoulliHead(MLP(Z, [64], X)), "z"))
    return model, pv.Guide(z=pv.Node(NormalHead(MLP(X, [width], 2 * Z)), "x"))


model, guide = vae(64)
pv.fit(pv.ElboLoss(model, guide), train, epochs=60, lr=3e-3)
few = test.take(60)
exact = quadrature(model, few, tolerance=1e-3).log_px
gaps = inference_gaps(model, guide, few, num_particles=300, log_px=exact, steps=150)
print(gaps)

# %%
# The three data with the largest gaps: posterior in blue, guide in orange, above as the encoder gives it and below
# as refined.

line = torch.linspace(-REACH, REACH, POINTS)
grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 1, Z)
total = gaps.log_px - gaps.elbo
worst = {"x": few["x"][total.argsort(descending=True)[:3]]}


def panels(q: torch.nn.Module, name: str) -> list[plots.Fitted]:
    """The posterior and q(z given x) of each of these data on the grid."""
    z = grid.expand(-1, len(worst["x"]), Z)
    fn = poutine.trace(q).get_trace(**worst).nodes["z"]["fn"]
    likelihood = model.nodes["x"].conditional
    with torch.no_grad():
        log_joint = model.nodes["z"].conditional().log_prob(z) + likelihood(z).log_prob(worst["x"])
        posterior, family = log_joint.softmax(0), fn.log_prob(z).exp()
    return [
        plots.Fitted(name, p.reshape(POINTS, POINTS), f.reshape(POINTS, POINTS))
        for p, f in zip(posterior.T, family.T)
    ]


refined = SemiAmortized(guide, model, steps=150).for_batch(worst)
rows = [panels(guide, "encoder"), panels(refined, "refined")]
pictures = plots.variational_panels(rows, reach=REACH, title="the three largest gaps")

# %%
# Here the net is to blame for most of the gap: its ellipses lie beside the posterior. Refined, they are centred, and
# what is left is a tilt that independent normals cannot have. That this rest is small is no luck: the decoder was
# trained with this family and chose latents that suit it (page 12).
#
# What goes wrong: an overfit encoder that is taken for an overfit model
# ----------------------------------------------------------------------
# Train for long on 200 digits. The ELBO of test data stops rising and falls, and one would stop early, or make the
# decoder smaller. But an ELBO is log p(x) less the gaps, and each can be measured.

small = {"x": train.take(200)["x"]}
model, guide = vae(200)
curves, epochs = {"log p(x)": [], "refined ELBO": [], "ELBO": []}, []
for stage in range(4):
    pv.fit(pv.ElboLoss(model, guide), [small], epochs=200, lr=3e-3)
    known = quadrature(model, few, tolerance=1e-2).log_px
    gaps = inference_gaps(model, guide, few, num_particles=100, log_px=known, steps=40)
    epochs.append(200 * (stage + 1))
    for values, value in zip(curves.values(), (gaps.log_px, gaps.refined_elbo, gaps.elbo)):
        values.append(round(value.mean().item(), 2))
    print(f"{epochs[-1]:4d} epochs:", {name: values[-1] for name, values in curves.items()})
overfit = plots.comparison(
    {name: plots.Line(epochs, values) for name, values in curves.items()},
    "epochs",
    "nats per test digit",
)

# %%
# From some point on log p(x) hardly changes: the model gets no worse. What falls is the ELBO, and refined for each datum
# it comes back: the encoder has learned the 200 posteriors by heart. A smaller decoder would mend nothing. Judge the
# model by log p(x), and refine, or regularise, the encoder.
#
# Exercise 1
# ----------
# *The encoder overfits 200 data, but the model can make as many as one likes. Use them.* Fit the encoder alone on draws
# of the model, whose posteriors are those of the model too.

for parameter in model.parameters():
    parameter.requires_grad_(False)
with torch.no_grad():
    dreams = [{"x": model(num=100)["x"]} for _ in range(50)]
pv.fit(pv.ElboLoss(model, guide), dreams, epochs=10, lr=1e-3)
after = inference_gaps(model, guide, few, num_particles=100, log_px=known, steps=40)
print(
    f"test ELBO {gaps.elbo.mean():.2f}, after training the encoder on draws {after.elbo.mean():.2f}"
)

# %%
# Exercise 2
# ----------
# *How many steps of refinement are worth it at test time?* Each costs about as much as a step of training, for these
# data alone. A few gain something, twenty or more regain most of what this encoder lacks.

for steps in (1, 5, 20):
    better = SemiAmortized(guide, model, steps=steps)
    print(
        f"{steps:2d} steps: ELBO {pv.log_evidence(model, better, few, num_particles=100).elbo.mean():.3f}"
    )
