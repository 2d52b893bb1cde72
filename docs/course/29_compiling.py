r"""
29. Compiling: the same numbers in less time
============================================

A step of stochastic variational inference on a small net spends most of its time outside arithmetic: in Python, in
the handlers of Pyro, in the dispatch of some hundred small operations. For a step of :math:`n` operations,

.. math::

   T \approx n\, (t_{\mathrm{Python}} + t_{\mathrm{dispatch}}) + \frac{\mathrm{operations}}{\mathrm{speed}}
     + \frac{\mathrm{bytes}}{\mathrm{bandwidth}} ,

and only the last two grow with the batch. A compiler removes the first, and by joining operations so that intermediate
results stay in the cache some of the last. `fit(..., compile="on")` records one step as a flat graph of tensor
operations, checks it against the program, compiles it and replays it. The programs are not written otherwise for it.
"""

import logging
import math
import time

import pyro
import pyro.distributions as dist
import torch

import pyrovae as pv
from pyrovae import plots
from pyrovae.capture import Captured
from pyrovae.data import load_digits
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

X, Z = 64, 4
train, _, test = load_digits().batches("dynamic", flatten=True, batch_size=100)

# %%
# One program, run two ways
# -------------------------
# What was captured is said in the log, not on the screen; this handler keeps it for us.

said = []
log = logging.getLogger("pyrovae")
log.setLevel(logging.INFO)
log.addHandler(handler := logging.Handler())
handler.emit = lambda record: said.append(record.getMessage())


def trained(mode: str) -> tuple[pv.ElboLoss, list[float]]:
    """A VAE from one seed, and the seconds of its epochs."""
    torch.manual_seed(0)
    model = pv.Model(z=StandardNormal(Z), x=pv.Node(BernoulliHead(MLP(Z, [64], X)), "z"))
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(X, [64], 2 * Z)), "x"))
    loss = pv.ElboLoss(model, guide)
    history = pv.fit(loss, train, epochs=12, lr=3e-3, compile=mode)
    return loss, list(history["seconds"])


seconds, losses = {}, {}
for mode in ("off", "on"):
    losses[mode], seconds[mode] = trained(mode)
for line in said:
    print(line[:100])
later = {mode: sorted(values[1:])[len(values[1:]) // 2] for mode, values in seconds.items()}
print(f"an epoch: {1e3 * later['off']:.0f} ms, compiled {1e3 * later['on']:.0f} ms")
epochs = torch.arange(1, len(seconds["on"]) + 1)
times = plots.comparison(
    {
        name: plots.Line(epochs, torch.tensor(seconds[mode]).log10())
        for name, mode in (("as it is", "off"), ("compiled", "on"))
    },
    "epoch",
    "log10 of its seconds",
)

# %%
# The first epoch of the second line compiles. Afterwards an epoch is several times shorter.
#
# The same numbers
# ----------------
# Noise is drawn by the same generator in the same order, so that the two runs are one run up to rounding. Rounding
# errors grow during training, as they do between two machines, but no estimate may tell the two apart.

gap = max(
    (a - b).abs().max().item()
    for a, b in zip(losses["off"].parameters(), losses["on"].parameters())
)
print(f"largest difference of a weight after training: {gap:.1e}")
for mode, loss in losses.items():
    torch.manual_seed(1)
    print(f"{mode:3s}", pv.log_evidence(loss.model, loss.guide, test, num_particles=100))

# %%
# What goes wrong: a stopwatch on the first call
# ----------------------------------------------
# The naive benchmark times one short fit of each, and finds that compiling is slower: it has measured the compiler.
# Time steps that are alike, in turns, and take medians, as `scripts/benchmark.py` does. With `compile="auto"`, the default,
# `fit` compiles only where several minutes lie ahead.

for mode in ("off", "on"):
    print(f"{mode:3s} first epoch {seconds[mode][0]:.2f} s, all {sum(seconds[mode]):.2f} s")

# %%
# What goes wrong, too: a step that is Python
# -------------------------------------------
# A graph of tensor operations cannot hold a decision on the value of a tensor, nor a counter in Python. Such a program
# runs as it is, at its own speed; the log says why, and the numbers are right in any case.


def model(x: torch.Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), Z), 1).to_event(1))
        scale = 2.0 if z.mean() > 0 else 1.0  # a decision on a value
        fn = dist.Normal(z.sum(-1, keepdim=True), scale).expand([len(x), X]).to_event(1)
        pyro.sample("x", fn, obs=x)


said.clear()
guide = pv.Guide(z=pv.Node(NormalHead(MLP(X, [8], 2 * Z)), "x"))
pv.fit(pv.ElboLoss(model, guide), {"x": torch.rand(32, X)}, epochs=2, compile="on")
print(*(line[:160] for line in said), sep="\n")
log.removeHandler(handler)

# %%
# Exercise 1
# ----------
# *From how many epochs on does compiling pay?* The compiler's seconds, over what an epoch saves:

cost, saved = seconds["on"][0] - later["on"], later["off"] - later["on"]
print(f"{cost:.1f} s / {1e3 * saved:.0f} ms: {cost / saved:.0f} epochs of this data set")

# %%
# Exercise 2
# ----------
# *Capture a function of your own.* `Captured` takes any function of a dict of tensors; the graph alone leaves out Python,
# the compiled graph dispatch too. Here a density of many small operations, a mixture of 20 normals:

centres = torch.linspace(-3, 3, 20)


def log_density(given: dict[str, torch.Tensor]) -> torch.Tensor:
    parts = [-0.5 * (given["x"] - centre).square() - 0.92 for centre in centres]
    return torch.logsumexp(torch.stack(parts), 0) - math.log(len(centres))


batch = {"x": torch.randn(100)}
captured, compiled = (Captured(log_density, batch, compiled=mode) for mode in (False, True))
for name, call in {"as it is": log_density, "graph": captured, "compiled": compiled}.items():
    call(batch)
    begun = time.perf_counter()
    for _ in range(500):
        call(batch)
    print(f"{name}: {2e3 * (time.perf_counter() - begun):.0f} microseconds a call")
