r"""
27. Continual learning: the posterior becomes the prior
=======================================================

Tasks come one after another, and the data of earlier ones are gone. Bayes' rule has no difficulty with that,

.. math:: p(w \mid D_1, \dots, D_t) \propto p(w \mid D_1, \dots, D_{t-1})\, p(D_t \mid w) ,

the posterior of yesterday is the prior of today, and the order does not matter. With an approximate posterior,
variational continual learning (Nguyen et al. 2018, arXiv:1710.10628) fits

.. math:: q_t = \arg\min_q \; -E_q[\log p(D_t \mid w)] + KL(q \,\|\, q_{t-1}) ,

and every error of :math:`q_{t-1}` is kept for ever.
"""

import torch

import pyrovae as pv
from pyrovae import metrics, plots
from pyrovae.bnn.guides import MeanField, PointEstimate
from pyrovae.bnn.priors import Previous, WeightPrior, normal
from pyrovae.data import Batches, DictDataset, load_digits
from pyrovae.heads import CategoricalHead
from pyrovae.nets import MLP
from pyrovae.recipes.variational.weights import NOISE, exact, line_data

torch.manual_seed(0)

# %%
# Where it is exact
# -----------------
# The line of page 25: ten data at a time, the posterior of each part the prior of the next, against all thirty at once.

x, y = line_data(30, seed=0)
parts, (at_once, _) = list(zip(x.split(10), y.split(10))), exact(x, y)


def add(mean: torch.Tensor, precision: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> tuple:
    """The posterior of a line by more data, from the mean and precision so far."""
    design = torch.cat([torch.ones_like(x), x], 1)
    more = precision + design.T @ design / NOISE**2
    return torch.linalg.solve(more, precision @ mean + design.T @ y.squeeze(1) / NOISE**2), more


mean, precision = torch.zeros(2), torch.eye(2)
for part in parts:
    mean, precision = add(mean, precision, *part)
print("in turn", mean.numpy().round(4), "at once", at_once.mean.numpy().round(4))

# %%
# Four permutations of the digits
# -------------------------------
# Each task is the digits with the 64 pixels in another order; one net for all. `Previous(guide)` is the prior that a
# fitted guide gives, and `start_at` lets the next guide begin there. "All data" sees every task so far.

TASKS, X = 4, 64
splits = load_digits(valid_size=0)
train_rows, test_rows = splits.train.tensors, splits.test.tensors
orders = [torch.arange(X)] + [torch.randperm(X) for _ in range(TASKS - 1)]


def task(rows: dict, order: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"x": rows["x"].flatten(1)[:, order], "y": rows["y"]}


trains, tests = ([task(rows, order) for order in orders] for rows in (train_rows, test_rows))
plain = MLP(X, [100], 10)


def model_of(prior: WeightPrior) -> pv.Model:
    return pv.Model(y=pv.Node(CategoricalHead(pv.Bayesian(plain, prior)), "x"))


def learn(model: pv.Model, guide: torch.nn.Module, data: dict[str, torch.Tensor]) -> None:
    loss = pv.ElboLoss(model, guide, num_data=len(data["y"]))
    rows = Batches(DictDataset(**data), 200, shuffle=True)
    pv.fit(loss, rows, epochs=30, lr=1e-2, context=pv.LocalReparameterization)


def accuracies(model: pv.Model, guide: torch.nn.Module, seen: int) -> list[float]:
    found = (pv.predict_moments(model, guide, one, num_samples=20).mean for one in tests[:seen])
    return [metrics.accuracy(p, one["y"]).mean().item() for p, one in zip(found, tests)]


def variational() -> list[list[float]]:
    prior, moments, found = normal(1.0), {}, []
    for index, data in enumerate(trains):
        model = model_of(prior)
        guide = MeanField(model, init_scale=1e-2).start_at(moments)
        learn(model, guide, data)
        found.append(accuracies(model, guide, index + 1))
        prior, moments = Previous(guide), guide.moments()
    return found


def points(kept: int) -> list[list[float]]:
    """A point estimate, trained on; `kept`: data of each earlier task that are seen again."""
    model, found = model_of(normal(1.0)), []
    guide = PointEstimate(model)
    for index, data in enumerate(trains):
        old = [{name: value[:kept] for name, value in one.items()} for one in trains[:index]]
        together = {name: torch.cat([one[name] for one in (*old, data)]) for name in data}
        learn(model, guide, together)
        found.append(accuracies(model, guide, index + 1))
    return found


runs = {"variational": variational(), "all data": points(kept=2_000)}

# %%
# What goes wrong: training on
# ----------------------------
# A point estimate that is trained on the next task moves to where the next task wants it. Nothing holds the weights that
# the earlier tasks need.

runs["trained on"], lines = points(kept=0), {}
for name, found in runs.items():
    shown = " ".join(f"{value:.2f}" for value in found[-1])
    print(f"{name:11s} accuracy on tasks 1 to {TASKS} at the end: {shown}")
    lines[name] = plots.Line(range(1, TASKS + 1), [sum(row) / len(row) for row in found])
forgetting = plots.comparison(lines, "tasks seen", "mean accuracy on them")

# %%
# The variational posterior keeps a good part of what training on loses, and pays for it in the newest task: weights that
# are held for old tasks are not free for new ones. All data at once are far better than both, so that the loss is one
# of the approximation, and not of the net.
#
# Exercise 1
# ----------
# *What does mean field lose on the line?* The correlation, which the next part needs, is thrown away each time:

mean, precision = torch.zeros(2), torch.eye(2)
for part in parts:
    mean, precision = add(mean, precision, *part)
    precision = torch.diag(precision.diagonal())
error = (mean - at_once.mean) * precision.diagonal().sqrt()
print("mean field in turn", mean.numpy().round(4), "off by", error.numpy().round(2), "deviations")

# %%
# Exercise 2
# ----------
# *How many data of each earlier task make training on as good?* Between ten and forty here, seen again with each task:

for kept in (10, 40):
    print(f"{kept} kept of each: mean accuracy {sum(points(kept)[-1]) / TASKS:.3f} at the end")
