r"""
17. Semi-supervised learning: few labels, many data
===================================================

Give the model a class beside its code (M2; Kingma, Rezende, Mohamed & Welling 2014, arXiv:1406.5298):

.. math:: p(x, y, z) = p(y)\, p(z)\, p(x \mid y, z), \qquad q(y, z \mid x) = q(y \mid x)\, q(z \mid x, y).

The guide's :math:`q(y \mid x)` is a classifier. A datum with a label gives :math:`L(x, y)`, the ELBO of log p(x, y); one
without sums over the classes, exactly:

.. math:: U(x) = \sum_y q(y \mid x)\, [L(x, y) - \log q(y \mid x)] \;\le\; \log p(x).

So a digit without a label teaches the classifier too: it is to say the class under which the decoder can explain the
pixels. In :math:`L(x, y)` the classifier does not occur, which is why a term :math:`\alpha \log q(y \mid x)` is added for
data with labels (:math:`\alpha` is `weight` below).
"""

import torch
from torch.nn import functional

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import Batches, DictDataset, Interleaved, load_digits
from pyrovae.heads import (
    BernoulliHead,
    CategoricalHead,
    NormalHead,
    StraightThroughCategoricalHead,
)
from pyrovae.losses import SemiSupervisedLoss
from pyrovae.nets import MLP, Constant
from pyrovae.priors import StandardNormal

# %%
# Ten, thirty or a hundred labels among 1295 digits
# -------------------------------------------------
# One, three or ten of each class; "labels alone" is the same classifier on those. `Interleaved` alternates the batches.

X, Z, H, CLASSES = 64, 3, [64], 10
train, _, test = load_digits().batches("threshold", flatten=True)
data, test = train.take(1295), test.take(359)


def classifier() -> torch.nn.Module:
    """A net from pixels to the logits of the classes."""
    return torch.nn.Sequential(torch.nn.Dropout(0.5), MLP(X, H, CLASSES))


def chosen(per_class: int) -> DictDataset:
    """The first few data of each class, with their labels one-hot."""
    rows = torch.cat([(data["y"] == c).nonzero()[:per_class, 0] for c in range(CLASSES)])
    return DictDataset(x=data["x"][rows], y=functional.one_hot(data["y"][rows], CLASSES).float())


def m2(labelled: DictDataset, weight: float) -> tuple[SemiSupervisedLoss, pv.Model]:
    """M2 trained on the labelled data and on all without labels."""
    head = BernoulliHead(MLP(Z + CLASSES, H, X))
    prior = StraightThroughCategoricalHead(Constant(CLASSES).requires_grad_(False))
    model = pv.Model(y=prior, z=StandardNormal(Z), x=pv.Node(head, "z", "y"))
    guide = pv.Guide(
        y=pv.Node(StraightThroughCategoricalHead(classifier()), "x"),
        z=pv.Node(NormalHead(MLP(X + CLASSES, H, 2 * Z)), "x", "y"),
    )
    loss = SemiSupervisedLoss(model, guide, weight=weight, bound_weight=len(labelled) / 1295)
    plain = Batches(DictDataset(x=data["x"]), 200, shuffle=True)
    pv.fit(loss, Interleaved(plain, Batches(labelled, 100)), epochs=35, lr=3e-3)
    return loss.eval(), model


def supervised(labelled: DictDataset) -> torch.nn.Module:
    """The same classifier on the labelled data alone."""
    net = classifier()
    batch = {"x": labelled.tensors["x"], "y": labelled.tensors["y"].argmax(-1)}
    model = pv.Model(y=pv.Node(CategoricalHead(net), "x"))
    pv.fit(pv.ElboLoss(model), [batch] * 10, epochs=60, lr=2e-3)
    return net.eval()


def error(guess: torch.Tensor) -> float:
    """Of the test digits, in per cent."""
    return 100 * (guess != test["y"]).float().mean().item()


counts, errors, fits = (1, 3, 10), {"labels alone": [], "M2": []}, {}
for count in counts:
    torch.manual_seed(0)
    labelled = chosen(count)
    fits[count] = m2(labelled, weight=5.0)
    errors["labels alone"].append(error(supervised(labelled)(test["x"]).argmax(-1)))
    errors["M2"].append(error(fits[count][0].classify(x=test["x"])))
    print(f"{count:2d} of each class:", {name: round(e[-1], 1) for name, e in errors.items()}, "%")
learning = plots.comparison(
    {name: plots.Line(counts, values) for name, values in errors.items()},
    "labels of each class",
    "test error, %",
    xlog=True,
)

# %%
# The digits without labels help, and the less the more labels there are. What helps is an assumption: that the classes
# are the clusters which the model finds.
#
# Class and style
# ---------------
# Each row is one :math:`z`, each column a class. A code of three numbers leaves something for the class to say; with
# many latents the code would hold the digit as well, and the columns would look alike.

model = fits[3][1]
with torch.no_grad():
    y = torch.eye(CLASSES).expand(6, CLASSES, CLASSES)
    z = torch.randn(6, 1, Z).expand(6, CLASSES, Z)
    means = model.nodes["x"].conditional(z, y).mean
styles = plots.image_grid(
    means.reshape(-1, 1, 8, 8), columns=CLASSES, title="a row a code, a column a class"
)

# %%
# What goes wrong: a class that means something else
# --------------------------------------------------
# Leave out the term :math:`\alpha \log q(y \mid x)`. The bounds are content with any ten clusters, or with none, since
# :math:`z` can hold the class as well; 30 of 1295 data hardly tell the classifier which cluster is which digit.

torch.manual_seed(0)
blind, _ = m2(chosen(3), weight=0.0)
guess = blind.classify(x=test["x"])
print(f"without the term: error {error(guess):.1f} %, with it {errors['M2'][1]:.1f} %")

# %%
# Exercise 1
# ----------
# *Derive U(x).* It is the ELBO with the guide :math:`q(y \mid x) q(z \mid x, y)`: :math:`E_{q(y \mid x)} E_{q(z \mid x,
# y)}[\log p(x, y, z) - \log q(z \mid x, y) - \log q(y \mid x)]`. The inner mean without the last term is :math:`L(x,
# y)`. The sum over ten classes has no noise; for many classes draw :math:`y` (page 16).
#
# Exercise 2
# ----------
# *The posterior of the class by the model,* :math:`p(y \mid x) \propto p(x, y)`, *needs no classifier. Is it better?*
# Estimate log p(x, y) for each class with the guide's :math:`q(z \mid x, y)`.

loss, model = fits[3]
with torch.no_grad():
    scores = []
    for one_hot in torch.eye(CLASSES):
        batch = {"x": test["x"], "y": one_hot.expand(len(test["x"]), CLASSES)}
        scores.append(pv.log_weights(model, loss.guide, batch, 50).logsumexp(0))
print(
    f"error by p(x, y) {error(torch.stack(scores).argmax(0)):.1f} %, by q(y | x) {errors['M2'][1]:.1f} %"
)
