r"""
30. Several processes and GPUs
==============================

Data-parallel training gives each of :math:`P` processes a part of every batch and averages their gradients before the
update, so that all hold the same weights. With :math:`B/P` data in each, the mean of means is the mean of all,

.. math::

   \frac1P \sum_{p=1}^P \frac{P}{B} \sum_{i \in \mathrm{part}\, p} \nabla L_i = \frac1B \sum_{i=1}^B \nabla L_i ,

the step of one process on the whole batch: nothing else changes, neither the learning rate nor the number of steps.
For a Bayesian neural network the objective has one more term, the KL of the weights, which no process may count for itself
alone:

.. math:: L = -\frac1B \sum_i \log p(y_i \mid x_i, w) + \frac1N KL(q(w) \,\|\, p(w)), \qquad N \text{ of all data.}
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import pyrovae as pv
from pyrovae import plots
from pyrovae.bnn.guides import MeanField, PointEstimate
from pyrovae.heads import CategoricalHead
from pyrovae.nets import MLP

torch.manual_seed(0)

# %%
# The identity, by hand
# ---------------------
# A batch in four parts: losses per datum, so that the mean of the parts' gradients is the gradient of the whole.

x, y, N = torch.randn(80, 8), torch.arange(80) % 3, 1000
net = pv.Bayesian(MLP(8, [16], 3))
model = pv.Model(y=pv.Node(CategoricalHead(net), "x"))
guide = PointEstimate(net)
loss = pv.ElboLoss(model, guide, num_data=N)


def gradient(loss: torch.nn.Module, part: slice) -> torch.Tensor:
    """Of all that is trained, on a part of the data."""
    trained = [p for p in loss.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss(x=x[part], y=y[part]), trained)
    return torch.cat([one.flatten() for one in found])


parts = [slice(20 * k, 20 * (k + 1)) for k in range(4)]
whole = gradient(loss, slice(None))
averaged = torch.stack([gradient(loss, part) for part in parts]).mean(0)
print(f"mean of the four gradients: {(averaged - whole).norm() / whole.norm():.1e} off the whole")

# %%
# What goes wrong: N of a process's own share
# -------------------------------------------
# A process that sees a quarter of the data set and takes *that* for N counts the prior four times: the mean of the four
# gradients belongs to another posterior, too close to the prior. `num_data` is always the number of all data.

found = {}
for name, count in {"N of all data": N, "N of one process's data": N // 4}.items():
    wrong = pv.ElboLoss(model, guide, num_data=count)
    mean = torch.stack([gradient(wrong, part) for part in parts]).mean(0)
    found[name] = (mean - whole).norm().item() / whole.norm().item()
    print(f"{name}: {found[name]:.1e} off")

# %%
# Draws make the gradients differ, and should: each process has noise of its own, so that :math:`P` processes average
# :math:`P` draws. The noise of the mean falls with their number, at the same batch.

noisy = pv.ElboLoss(model, MeanField(net, init_scale=0.1), num_data=N)
sizes, spread = (1, 2, 4, 8), []
for count in sizes:
    draws = [
        torch.stack([gradient(noisy, slice(k, None, count)) for k in range(count)]).mean(0)
        for _ in range(30)
    ]
    spread.append(torch.stack(draws).var(0).sum().log10().item())
noise = plots.comparison(
    {"mean-field net": plots.Line(sizes, torch.tensor(spread))},
    "processes",
    "log10 of the gradient's variance",
)

# %%
# Two processes
# -------------
# The same program runs in one process and in many: `Ranks` reads what `torchrun` says, and is one process where it says
# nothing. `shard` gives each its part of every batch; `gather` collects rows. Only the first prints and saves.

program = """
import torch, pyrovae as pv
from pyrovae.data import load_digits
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

torch.manual_seed(0)
ranks = pv.Ranks()
train, _, test = load_digits().batches("threshold", flatten=True, batch_size=100)
model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [32], 64)), "z"))
guide = pv.Guide(z=pv.Node(NormalHead(MLP(64, [32], 4)), "x"))
loss = pv.ElboLoss(model, guide)
pv.fit(loss, ranks.shard(train), epochs=20, lr=3e-3, fabric=ranks)
weights = torch.cat([p.detach().flatten() for p in loss.parameters()])
sums = ranks.all_reduce(weights.clone())
if ranks.first:
    print(f"{ranks.size} process(es), weights apart by {(sums - ranks.size * weights).abs().max():.0e},", end=" ")
    print(f"ELBO {pv.evaluate(loss, test)['elbo']:.2f}")
ranks.close()
"""
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "program.py"
    path.write_text(program)
    alone = [sys.executable, str(path)]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    together = [sys.executable, *launcher, str(path)]
    for command in (alone, together):
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        print(done.stdout or done.stderr[-400:], end="")

# %%
# On GPUs the launch is the same, with one process for each: in a program `loss.to(ranks.device)`, with a script
#
# .. code-block:: bash
#
#    torchrun --standalone --nproc-per-node 8 scripts/train_vae.py --dataset mnist --batch-size 1024 --out runs/eight
#
# Exercise 1
# ----------
# *Eight GPUs, the same rate, the batch per GPU as before. What has changed?* The batch is eight times larger, so that an
# epoch has an eighth of the steps, each with less noise: another training, for which rates are often scaled. With the
# batch of all kept, it is the same one.
#
# Exercise 2
# ----------
# *The test data are scored in parts of unequal size, and each process reports its mean. Why is the mean of means
# wrong?* Parts count alike, not data. Gather the rows, then average:

rows = torch.randn(90).exp()
pieces = rows.split([40, 40, 10])
means = torch.stack([piece.mean() for piece in pieces])
print(f"{means.mean():.3f}, of all data {rows.mean():.3f}")
