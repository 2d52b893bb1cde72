r"""
29. Captured and compiled steps
===============================

A training step of a Pyro program is some hundred small tensor operations, and between each two of them Python decides
what comes next. For small nets this takes most of the time:

.. math:: \text{seconds a step} \approx \text{operations} \times \text{overhead} + \text{arithmetic} .

`fit(..., compile="on")` runs the step once and records it as one graph: the loss, all of Pyro's handlers, and the
gradients. The graph is compared with the program, compiled, and from then on replayed. The default, `"auto"`, does so
after the first epoch where four minutes or more lie ahead; `"off"` never. Numbers must not change: the same random
numbers, and gradients that agree within rounding.
"""

import logging
import os
import shutil
import time

import torch

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import load_digits
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

torch.manual_seed(0)
X, Z, B = 64, 2, 100
train, _, test = load_digits().batches("dynamic", flatten=True, batch_size=B)

# %%
# The same fit twice
# ------------------
# Compiling needs a C++ compiler on the machine. Without one this page runs with `compile="off"`, and its ratio is then
# about 1; so do your programs, with a line in the log.

compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++")), None)
MODE = "on" if compiler else "off"


def pair() -> tuple[pv.Model, pv.Guide]:
    torch.manual_seed(0)
    model = pv.Model(z=StandardNormal(Z), x=pv.Node(BernoulliHead(MLP(Z, [64], X)), "z"))
    return model, pv.Guide(z=pv.Node(NormalHead(MLP(X, [64], 2 * Z)), "x"))


runs, models = {}, {}
for mode in ("off", MODE):
    models[mode] = pair()
    torch.manual_seed(1)
    runs[mode] = pv.fit(pv.ElboLoss(*models[mode]), train, epochs=30, lr=3e-3, compile=mode)
steps = len(train)
for mode, history in runs.items():
    seconds = sorted(history["seconds"][1:] or history["seconds"])
    typical = seconds[len(seconds) // 2]
    print(
        f'compile="{mode}": first epoch {history["seconds"][0]:.1f} s, then {1000 * typical / steps:.2f} ms a step; '
        f"last ELBO {history['elbo'][-1]:.4f}"
    )
largest = max(
    (a - b).abs().max()
    for a, b in zip(models["off"][0].parameters(), models[MODE][0].parameters())
)
print(f"largest difference of a weight after 30 epochs: {largest:.1e}")
times = plots.comparison(
    {
        f'compile="{mode}"': plots.Line(
            history["epoch"], torch.tensor(history["seconds"]).cumsum(0)
        )
        for mode, history in runs.items()
    },
    "epochs",
    "seconds so far",
)

# %%
# A compiled step takes a fraction of the time, and after thirty epochs the weights agree to the last digits that they
# have. Compiling took longer than it saves in so short a fit; `"auto"` would have left this one alone.
#
# What goes wrong: programs with a life of their own
# --------------------------------------------------
# A recorded step does not run your Python again. A program that prints, counts or appends would do so once and no
# more, and a number that it reads would stay what it was. pyrovae notices such a program and runs it as it is; without
# a look at the log one would only see that it is slow. (`check` and the try to record it make a few calls more.)

messages = []


class Keep(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        messages.append(record.getMessage())


class Counting(torch.nn.Module):
    """A net that counts its calls in a Python number."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = MLP(Z, [64], X), 0

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.net(z)


logging.getLogger("pyrovae").addHandler(keep := Keep())
counting = Counting()
model, guide = pair()
model = pv.Model(z=StandardNormal(Z), x=pv.Node(BernoulliHead(counting), "z"))
pv.fit(pv.ElboLoss(model, guide), train, epochs=2, compile=MODE)
logging.getLogger("pyrovae").removeHandler(keep)
print(f"{counting.calls} calls counted in two epochs of {steps} steps")
print("the log:", *(message[:150] for message in messages), sep="\n    ")

# %%
# Let such a number be a buffer, or drop it. `Captured(program, batch)` of `pyrovae.capture.graph` does the same for any
# function of a dict of tensors, and `log_evidence`, `predict_moments` and `mcmc` take `compile=` too.
#
# Exercise 1
# ----------
# *How much of an eager step (not recorded) is overhead?* If it were arithmetic, ten times the data would take ten times
# as long.

for size in (10, 100, 1_000):
    rows = load_digits().batches("threshold", flatten=True, batch_size=size)[0]
    loss, batch = pv.ElboLoss(*pair()), rows.take(size)
    loss(**batch).backward()  # the first call sets up what later ones find
    start = time.perf_counter()
    for _ in range(20):
        loss(**batch).backward()
    print(
        f"B = {size:4d}: {1000 * (time.perf_counter() - start) / 20:.2f} ms for a loss and its gradient"
    )

# %%
# Exercise 2
# ----------
# *When is compiling not worth it?* It takes some seconds to a minute, once. With a gain of :math:`g` seconds a step it
# is paid back after (seconds to compile) :math:`/ g` steps: read both off the lines above. `"auto"` estimates the same
# after the first epoch.
