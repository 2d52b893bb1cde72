r"""
26. Is the predictive uncertainty right?
========================================

A classifier says :math:`p(y \mid x)`, and one can check what it says. A **proper score** is best, on average, for the
one who reports what they believe: the negative log-likelihood and the Brier score,

.. math:: -\log p_y, \qquad \sum_c (p_c - [c = y])^2 , \qquad [c = y] \text{ being 1 or 0}.

**Calibration**: of the predictions made with confidence 0.8, eight in ten are right. The expected calibration error
sorts the N predictions into bins, :math:`n_m` in bin m (Guo et al. 2017, arXiv:1706.04599),

.. math:: \mathrm{ECE} = \sum_m \frac{n_m}{N} \left| \mathrm{accuracy}_m - \mathrm{confidence}_m \right| .

Of Bayesian predictions the entropy H has two parts, noise and what more data would remove, the mutual information I:

.. math:: H[E_w\, p(y \mid w)] = E_w\, H[p(y \mid w)] + I(y; w) .
"""

from collections.abc import Callable

import torch
from pyro.infer import Trace_ELBO
from sklearn.datasets import load_sample_images

import pyrovae as pv
from pyrovae import metrics, plots
from pyrovae.bnn.guides import Ensemble, MeanField, PointEstimate
from pyrovae.bnn.priors import normal
from pyrovae.data import Batches, DictDataset, load_digits
from pyrovae.heads import CategoricalHead
from pyrovae.nets import MLP
from pyrovae.recipes.image_shifts import rotated

torch.manual_seed(0)
MEMBERS = 5

# %%
# Three posteriors of one net
# ---------------------------
# Few digits to train on; some are held out for the temperature.

splits = load_digits(valid_size=400)
rows = splits.train.tensors
few = DictDataset(x=rows["x"][:300].flatten(1), y=rows["y"][:300])
train = Batches(few, 50, shuffle=True)
_, valid, test = splits.batches(flatten=True)
labels, held_labels = test.data.tensors["y"], valid.data.tensors["y"]


def classifier(guide_of: Callable, scale: float) -> tuple[pv.Model, torch.nn.Module]:
    net = pv.Bayesian(MLP(64, [50], 10), normal(scale))
    return pv.Model(y=pv.Node(CategoricalHead(net), "x")), guide_of(net)


members = [MLP(64, [50], 10) for _ in range(MEMBERS)]
pairs = {
    "maximum likelihood": classifier(PointEstimate, 100.0),
    "mean field": classifier(MeanField, 1.0),
    "ensemble": classifier(lambda net: Ensemble(net, members), 100.0),
}
for name, (model, guide) in pairs.items():
    count = MEMBERS if name == "ensemble" else 1
    elbo = Trace_ELBO(num_particles=count, vectorize_particles=True)
    loss = pv.ElboLoss(model, guide, num_data=len(few), elbo=elbo)
    pv.fit(loss, train, epochs=150, lr=3e-3, context=pv.LocalReparameterization)


def probabilities(pair: tuple, x: torch.Tensor) -> pv.Moments:
    return pv.predict_moments(*pair, {"x": x}, num_samples=100)


held = {name: probabilities(pair, valid.data.tensors["x"]).mean for name, pair in pairs.items()}
known = {name: probabilities(pair, test.data.tensors["x"]) for name, pair in pairs.items()}


def report(name: str, probs: torch.Tensor) -> None:
    nll, se, _ = metrics.mean_and_error(metrics.nll(probs, labels))
    print(
        f"{name:31s} accuracy {metrics.accuracy(probs, labels).mean():.3f}, NLL {nll:.3f} +- {se:.3f}, "
        f"Brier {metrics.brier(probs, labels).mean():.3f}, ECE {metrics.calibration_error(probs, labels):.3f}"
    )


for name, moments in known.items():
    report(name, moments.mean)
diagrams = plots.reliability_diagram(
    {name: metrics.reliability(moments.mean, labels, bins=10) for name, moments in known.items()}
)

# %%
# All three are right equally often. The point and the ensemble are nearly calibrated; mean field is too modest: few data do
# not pay for its KL, and its weights stay near the prior.
#
# What goes wrong: the temperature of the training data
# -----------------------------------------------------
# Dividing all logits by a temperature T, fitted on held-out labels, mends that and changes no decision. Yet trained to
# the end a net is right on all of its training data, and there no confidence is too high.

for name, pair in pairs.items():
    on_train = metrics.fit_temperature(
        probabilities(pair, few.tensors["x"]).mean, few.tensors["y"]
    )
    right = metrics.fit_temperature(held[name], held_labels)
    for place, value in (("held-out", right), ("training", on_train)):
        report(f"{name}, T = {value:.2f} ({place})", metrics.temper(known[name].mean, value))

# %%
# Nor is the ECE alone a score: the shares of the classes, told of every datum, are calibrated and worthless.

shares = torch.bincount(labels, minlength=10) / len(labels)
report("shares of the classes", shares.expand(len(labels), 10))

# %%
# Foreign data and shift
# ----------------------
# Patches of photographs are no digits: is the entropy of their predictions higher? AUROC is the share of pairs of a
# digit and a patch in the right order. Turned digits are still digits, told less and less well.

grey = [torch.tensor(image).float().mean(-1) / 255 for image in load_sample_images().images]
patches = torch.cat([one.unfold(0, 8, 8).unfold(1, 8, 8).reshape(-1, 64) for one in grey])
patches = patches[torch.randperm(len(patches))[:1_000]]
angles, scores, panels = (0, 15, 30, 45, 60, 75), {}, {}
for name, pair in pairs.items():
    foreign = probabilities(pair, patches)
    panels[name] = (known[name].total, foreign.total)
    areas = f"{metrics.auroc(known[name].total, foreign.total):.3f} by entropy"
    if name != "maximum likelihood":  # one net has no mutual information
        by_part = metrics.auroc(known[name].epistemic, foreign.epistemic)
        areas += f", {by_part:.3f} by mutual information"
    print(f"{name:18s} AUROC of patches: {areas}")
    turned = [rotated(splits.test.tensors["x"], angle / 15).flatten(1) for angle in angles]
    losses = [metrics.nll(probabilities(pair, x).mean, labels).mean() for x in turned]
    scores[name] = plots.Line(angles, torch.stack(losses))
entropies = plots.entropy_histograms(panels, num_classes=10)
shift = plots.comparison(scores, "angle (degrees)", "NLL, nats")

# %%
# Mean field, the worst by NLL at home, tells patches apart best and loses least on turned digits: calibration on known
# data says little of unknown ones. Mutual information is a little better than entropy for the ensemble, far worse for it.
#
# Exercise 1
# ----------
# *How large is the ECE of a perfectly calibrated classifier on as few data?* Not zero: draw labels from the
# predictions themselves.

probs = known["mean field"].mean
fake = [torch.multinomial(probs, 1).squeeze(1) for _ in range(100)]
errors = torch.stack([metrics.calibration_error(probs, y) for y in fake])
print(f"ECE of labels drawn from the predictions: {errors.mean():.3f} +- {errors.std():.3f}")
