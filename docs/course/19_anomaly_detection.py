r"""
19. Anomaly detection, and why log p(x) is not enough
=====================================================

A datum is unusual if a model of the usual data gives it a low :math:`\log p(x)`: so goes the plan. But a density is not
a degree of membership. Where p is high there may be little volume, and so no data: a typical set has :math:`\log p(x)`
near its *mean*, the negative entropy, and an atypical datum can lie above as well as below. Three other scores are

.. math::

   \text{typicality} \quad & |\log p(x) - E \log p| \quad \text{(Nalisnick et al. 2019, arXiv:1906.02994)}, \\
   \text{ratio} \quad & -[\log p(x) - \log p_0(x)] \quad \text{(Ren et al. 2019, arXiv:1906.02845)}, \\
   \text{regret} \quad & L(x; q^*_x) - L(x; q_\phi) \quad \text{(Xiao et al. 2020, arXiv:2003.02977)},

with :math:`p_0` a model of what is common to all images, L the ELBO and :math:`q^*_x` its best guide for this datum. AUROC,
the chance that an unusual datum scores above a usual one, is 1/2 for a useless score.
"""

import torch
from sklearn.datasets import load_sample_images

import pyrovae as pv
from pyrovae import metrics, plots
from pyrovae.data import Batches, DictDataset, dynamic, load_digits
from pyrovae.evidence import inference_gaps
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

torch.manual_seed(0)
X, Z, LEFT_OUT = 64, 4, 1

# %%
# A VAE of nine digits
# --------------------
# The digit 1 is left out, to be found, as are noise, patches of photographs, and digits that were mostly wiped out.

splits = load_digits()
rows, y = splits.train.tensors["x"].flatten(1), splits.train.tensors["y"]
seen = DictDataset(x=rows[y != LEFT_OUT])
train = Batches(seen, 100, shuffle=True, transform=dynamic)
model = pv.Model(z=StandardNormal(Z), x=pv.Node(BernoulliHead(MLP(Z, [100], X)), "z"))
guide = pv.Guide(z=pv.Node(NormalHead(MLP(X, [100], 2 * Z)), "x"))
pv.fit(pv.ElboLoss(model, guide), train, epochs=100, lr=3e-3)

_, _, test = splits.batches("dynamic", flatten=True)
x, y = test.data.tensors["x"], test.data.tensors["y"]
usual, count = x[y != LEFT_OUT], int((y != LEFT_OUT).sum())
grey = [torch.tensor(image).float().mean(-1) / 255 for image in load_sample_images().images]
patches = torch.cat([one.unfold(0, 8, 8).unfold(1, 8, 8).reshape(-1, 64) for one in grey])
others = {
    "the digit 1": x[y == LEFT_OUT],
    "noise": torch.bernoulli(torch.full((count, X), 0.5)),
    "photographs": (patches[torch.randperm(len(patches))[:count]] > 0.5).float(),
    "wiped digits": usual * torch.bernoulli(torch.full_like(usual, 0.3)),
}
images = [usual, *others.values()]
shown = plots.image_grid(torch.cat([one[:10] for one in images]).reshape(-1, 1, 8, 8), columns=10)

# %%
# Four scores
# -----------
# The background model is the simplest one, independent pixels with the means of the data. The regret is the
# amortisation gap of page 11.

mean = train.take(len(seen))["x"].mean(0).clamp(0.01, 0.99)
background = torch.distributions.Bernoulli(mean)


def log_px(x: torch.Tensor) -> torch.Tensor:
    return pv.log_evidence(model, guide, {"x": x}, num_particles=300).log_px


typical = log_px(train.take(500)["x"]).mean()


def scores(x: torch.Tensor) -> dict[str, torch.Tensor]:
    found = log_px(x)
    gaps = inference_gaps(model, guide, {"x": x}, num_particles=50, log_px=found, steps=50)
    return {
        "-log p(x)": -found,
        "typicality": (found - typical).abs(),
        "ratio": background.log_prob(x).sum(1) - found,
        "regret": gaps.amortization,
    }


base = scores(usual)
print(f"digits seen   mean log p(x) {-base['-log p(x)'].mean():7.2f}")
panels = {}
for name, rows in others.items():
    found = scores(rows)
    areas = {kind: metrics.auroc(base[kind].double(), found[kind].double()) for kind in base}
    panels[name] = {"digits seen": -base["-log p(x)"], name: -found["-log p(x)"]}
    print(
        f"{name:13s} mean log p(x) {-found['-log p(x)'].mean():7.2f}; AUROC: "
        + ", ".join(f"{kind} {area:.2f}" for kind, area in areas.items())
    )
histograms = plots.score_histograms(panels, unit="log p(x), nats")

# %%
# What is far away is found by the first three scores. The digit that the model never saw is not: its log p(x) is that of
# the others. The regret finds it best, and hardly, and fails on photographs: no score is best everywhere.
#
# What goes wrong: the most probable image
# ----------------------------------------
# Is an image with a high density a good digit? Climb :math:`\log p(x)` by turning single pixels, from a test digit on.

with torch.no_grad():
    best = usual[:1].clone()
    for _ in range(40):
        turned = (best - torch.eye(X)).abs()
        values = log_px(turned)
        if values.max() <= log_px(best).max():
            break
        best = turned[values.argmax()][None]
top = log_px(best)
share = 100 * (-base["-log p(x)"] < top).double().mean()
print(f"log p(x): a digit {log_px(usual[:1])[0]:.2f}, after the climb {top[0]:.2f}", end=", ")
print(f"higher than {share:.0f} % of the test digits")
climb = plots.image_grid(torch.cat([usual[:1], best]).reshape(-1, 1, 8, 8), columns=2)

# %%
# The climb leaves what many digits share. Data lie near the mean of log p(x), not at its top.
#
# Exercise 1
# ----------
# *Where is the typical set of N(0, I) in D dims?* :math:`\log p` at the mode is D/2 above its mean, and its standard
# deviation is :math:`\sqrt{D/2}`: the point 0, the most probable of all, lies :math:`\sqrt{D/2}` deviations outside.

for dims in (2, 100):
    normal = torch.distributions.Normal(torch.zeros(dims), 1.0)
    lp = normal.log_prob(normal.sample((2_000,))).sum(1)
    mode = normal.log_prob(torch.zeros(dims)).sum()
    print(f"D = {dims:3d}: log p {lp.mean():.1f} +- {lp.std():.1f} of draws, {mode:.1f} at 0")

# %%
# Exercise 2
# ----------
# *Ten data are known to be of one kind, all usual or all not. Does that help?* The mean of ten :math:`\log p(x)` has a
# third of the spread, so that a small shift shows (Nalisnick et al. 2019).


def tens(x: torch.Tensor) -> torch.Tensor:
    draws = torch.randint(len(x), (200, 10))
    return (-scores(x)["-log p(x)"][draws].mean(1) - typical).abs()


area = metrics.auroc(tens(usual), tens(others["the digit 1"]))
print(f"AUROC of the digit 1 by the typicality of ten: {area:.2f}")
