r"""
30. Several processes and GPUs
==============================

Let :math:`\ell_i` be the loss of datum i. The gradient of a mean over a batch is the mean of the gradients over its
parts, if the parts are of equal size. So R processes take a part of each batch each, compute their own gradient,
average all gradients, and make the same step:

.. math:: \nabla \frac1B \sum_{i=1}^{B} \ell_i = \frac1R \sum_{r=1}^{R} \nabla \frac{1}{B / R} \sum_{i \in r} \ell_i .

This is what `DistributedDataParallel` of torch does, and `pv.Ranks`, which `fit` takes as its `fabric`. B is the batch
of all R processes together, and a process sees :math:`B / R`; `num_data`, the number of data that share the weights of a
Bayesian net, stays that of the whole training set, and the learning rate what it was.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import pyrovae as pv
from pyrovae import plots
from pyrovae.bnn.guides import MeanField
from pyrovae.data import gap1d
from pyrovae.heads import FixedScaleNormalHead
from pyrovae.nets import MLP

# %%
# The identity by hand
# --------------------
# A Bayesian net whose weights are drawn once for a batch. To use the same draw, all calls start from one seed.

split = gap1d(num_data=200, noise=0.2).split(0)
data, N = split.train[:], len(split.train)
batch = {name: value[:100] for name, value in data.items()}
parts = [{"x": x, "y": y} for x, y in zip(*(value.split(50) for value in batch.values()))]


def make(beta: float = 1.0) -> pv.ElboLoss:
    torch.manual_seed(0)
    net = pv.Bayesian(MLP(1, [20], 1))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.2), "x"))
    return pv.ElboLoss(model, MeanField(net, init_scale=0.1), num_data=N, beta=beta)


def gradient(loss: pv.ElboLoss, part: dict, seed: int = 1) -> torch.Tensor:
    torch.manual_seed(seed)
    gradients = torch.autograd.grad(loss(**part), list(loss.guide.parameters()))
    return torch.cat([value.flatten() for value in gradients])


loss = make()
whole = gradient(loss, batch)
average = sum(gradient(loss, part) for part in parts) / 2
print(f"largest difference of a gradient: {(whole - average).abs().max():.1e}")

# %%
# What goes wrong: N divided among the processes
# ----------------------------------------------
# It is tempting to tell each process the number of data that it sees. The KL of the weights is then paid R times, as by a
# `beta` of R, and what comes out is another posterior. Here for 1 and for 8 processes:

for count in (1, 8):
    history = pv.fit(make(count), [data] * 10, epochs=60, lr=1e-2)
    print(
        f"KL paid {count} times: ELBO {history['elbo'][-1]:.3f}, of which KL {history['kl'][-1]:.3f}"
    )

# %%
# Two processes
# -------------
# The same program for any number of processes: `Ranks` finds those that `torchrun` started, `shard` gives each its part
# of every batch, and process 0 alone writes. Here with a point estimate, which draws nothing, so that the weights of
# one and of two processes can be compared.

PROGRAM = """
import json, sys, torch
import pyrovae as pv
from pyrovae.bnn.guides import PointEstimate
from pyrovae.data import Batches, gap1d
from pyrovae.heads import FixedScaleNormalHead
from pyrovae.nets import MLP

torch.set_num_threads(1)
torch.manual_seed(0)
ranks = pv.Ranks()
train = gap1d(num_data=200, noise=0.2).split(0).train
net = pv.Bayesian(MLP(1, [20], 1))
model, guide = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.2), "x")), PointEstimate(net)
loss, batches = pv.ElboLoss(model, guide, num_data=len(train)), Batches(train, 100, shuffle=True)
history = pv.fit(loss, ranks.shard(batches), epochs=60, lr=1e-2, fabric=ranks)
if ranks.first:
    weights = torch.cat([value.flatten() for value in guide.values().values()])
    found = {"processes": ranks.size, "elbo": history["elbo"], "weights": weights.tolist()}
    with open(sys.argv[1], "w") as file:
        json.dump(found, file)
ranks.close()
"""


def launch(processes: int) -> dict | None:
    """What process 0 found; None where processes cannot be started."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        program, result = Path(folder, "program.py"), Path(folder, "result.json")
        program.write_text(PROGRAM)
        command = [sys.executable, *(torchrun if processes > 1 else ()), str(program), str(result)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return json.loads(result.read_text())
    print(f"{processes} processes could not run here:", done.stderr.strip()[-200:])
    return None


runs, lines = [run for run in map(launch, (1, 2)) if run is not None], {}
for run in runs:
    name, elbo = f"processes: {run['processes']}", run["elbo"]
    print(f"{name}, ELBO {elbo[0]:.4f}, then {elbo[-1]:.4f} nats per datum")
    lines[name] = plots.Line(range(1, len(elbo) + 1), elbo)
if len(runs) == 2:
    one, two = (torch.tensor(run["weights"]) for run in runs)
    print(f"largest difference of a weight: {(one - two).abs().max():.1e}")
learning = plots.comparison(lines, "epoch", "ELBO, nats per datum")

# %%
# On GPUs, with `loss.to(ranks.device)`, each process takes the GPU with its own number on the machine. ::
#
#     torchrun --standalone --nproc-per-node 8 program.py result.json
#     torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 program.py result.json
#
# Exercise 1
# ----------
# *With R processes you also take batches R times as large. What else should change?* The noise of a step is smaller, and
# a learning rate R times as large is a common rule for SGD (Goyal et al. 2017, arXiv:1706.02677). `num_data` stays.
#
# Exercise 2
# ----------
# *In a Bayesian net each process draws weights of its own. Is the averaged gradient then still that of one process?* Both
# are unbiased, and R draws, each on its part of the batch, have less variance than one:

noise = {1: [], 2: []}
for seed in range(100):
    noise[1].append(gradient(loss, batch, seed))
    noise[2].append(sum(gradient(loss, part, 2 * seed + r) for r, part in enumerate(parts)) / 2)
for count, draws in noise.items():
    spread = torch.stack(draws).var(0).sum()
    print(f"draws of the weights {count}: variance of the gradient {spread:.2f}")
