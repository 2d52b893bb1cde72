r"""
28. From Pyro by hand to pyrovae, and back
==========================================

`Model` and `Guide` are Pyro programs, and a Pyro program of your own is as good a pair as any: this page writes one
VAE twice, by hand and wired, and shows that both are one density. The objective is the same throughout,

.. math:: L = E_{q(z \mid x)}[\log p(x, z) - \log q(z \mid x)],

a sum over the sites of two traces (the records of a run of each program): each `sample` statement of the model adds its
log-probability, each of the guide takes one away.
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import load_digits
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

torch.manual_seed(0)
X, Z = 64, 2
train, _, test = load_digits().batches("dynamic", flatten=True)
encoder, decoder = MLP(X, [64], 2 * Z), MLP(Z, [64], X)

# %%
# By hand
# -------
# All that pyrovae asks: the batch comes as keywords, the plate over data is called "data" and is the rightmost dim.
# These batches hold labels `y` too, which the programs take and do not use.


def model(x: torch.Tensor, y: torch.Tensor | None = None) -> None:
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(x.new_zeros(Z), 1.0).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)


def guide(x: torch.Tensor, y: torch.Tensor | None = None) -> None:
    with pyro.plate("data", len(x), dim=-1):
        loc, log_scale = encoder(x).chunk(2, -1)
        pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


# %%
# The ELBO by two traces: run the guide, replay the model on its draws, sum the log-probabilities.

x = test.take(100)["x"]
guide_trace = poutine.trace(guide).get_trace(x)
model_trace = poutine.trace(poutine.replay(model, guide_trace)).get_trace(x)
by_hand = (model_trace.log_prob_sum() - guide_trace.log_prob_sum()) / len(x)
print(f"ELBO by hand {by_hand:.3f} nats per datum")
print(f"Pyro's Trace_ELBO {-Trace_ELBO().loss(model, guide, x) / len(x):.3f} (other draws)")

# %%
# Wired
# -----
# The same nets in heads, the same sites. On the same draws the densities agree to rounding.

wired_model = pv.Model(z=StandardNormal(Z), x=pv.Node(BernoulliHead(decoder), "z"))
wired_guide = pv.Guide(z=pv.Node(NormalHead(encoder), "x"))
wired_trace = poutine.trace(poutine.replay(wired_model, guide_trace)).get_trace(x=x)
difference = wired_trace.log_prob_sum() - model_trace.log_prob_sum()
print(f"log p(x, z), wired less by hand: {difference:.1e}")

# %%
# The hand-written pair in pyrovae
# --------------------------------
# `fit`, `log_evidence`, `diagnose` and the rest take the functions. The nets that they close over are found and
# trained.

history = pv.fit(pv.ElboLoss(model, guide), train, epochs=20, lr=3e-3)
learning = plots.curves(history)
print(pv.log_evidence(model, guide, test, num_particles=100))

# %%
# The wired pair in Pyro
# ----------------------
# And back: Pyro's SVI, `Predictive`, `poutine` and `render_model` take `Model` and `Guide` as they are. The
# parameters are those that were trained above, since the nets are the same objects; SVI goes on from there.

pyro.clear_param_store()
svi = SVI(wired_model, wired_guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
losses = [sum(svi.step(**batch) for batch in train) / len(train.data) for _ in range(3)]
print("SVI:", [round(loss, 2) for loss in losses], "nats per datum")
draws = Predictive(wired_model, num_samples=1)(num=12)["x"]
pyro.clear_param_store()
figure = plots.image_grid(draws.reshape(-1, 1, 8, 8), columns=12, title="draws by Predictive")

# %%
# What goes wrong by hand
# -----------------------
# Pyro programs fail silently in three ways, each of which is one forgotten word. `check`, which `fit` calls on the
# first batch, turns them into errors before the first step.


def without_to_event(x: torch.Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(x.new_zeros(Z), 1.0).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=decoder(z)), obs=x)


def without_plate(x: torch.Tensor) -> None:
    z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), Z), 1.0).to_event(1))
    pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)


def other_site(x: torch.Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        loc, log_scale = encoder(x).chunk(2, -1)
        pyro.sample("code", dist.Normal(loc, log_scale.exp()).to_event(1))


for name, pair in {
    "no to_event": (without_to_event, guide),
    "no plate": (without_plate, guide),
    "another site": (model, other_site),
}.items():
    try:
        pv.check(*pair, {"x": x})
    except (pv.PairError, ValueError) as error:
        print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:110]}")

# %%
# Exercise 1
# ----------
# *Estimate* :math:`\log p(x)` *by hand from K traces.* Repeat the two traces and take the log-mean-exp of the
# per-datum sums. `log_weights` is exactly this, with all K particles at once.

log_w = []
with torch.no_grad():
    for _ in range(50):
        q = poutine.trace(guide).get_trace(x)
        p = poutine.trace(poutine.replay(model, q)).get_trace(x)
        p.compute_log_prob(), q.compute_log_prob()
        log_w.append(sum(p.nodes[s]["log_prob"] for s in "zx") - q.nodes["z"]["log_prob"])
    many = pv.log_weights(model, guide, {"x": x}, 50)
for name, weights in (("by hand", torch.stack(log_w)), ("log_weights", many)):
    print(f"{name:12s} {(weights.logsumexp(0) - torch.tensor(50.0).log()).mean():.3f}")
