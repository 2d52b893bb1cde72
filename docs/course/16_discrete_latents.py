r"""
16. Discrete latents: four ways to a gradient
=============================================

Bits and categories as latents have no pathwise gradient: a small change of a probability changes no draw, or changes it by
a jump. For :math:`\nabla_\phi E_{q_\phi(z)}[f(z)]` there remain

* the sum itself, :math:`\sum_z q_\phi(z) f(z)`, where there are few states;
* the score function :math:`f(z) \nabla_\phi \log q_\phi(z)`, unbiased and noisy, with the mean of the other draws as
  baseline (Kool, van Hoof & Welling 2019; Mnih & Rezende 2016, arXiv:1602.06725);
* a relaxation: the draw is :math:`\arg\max` of logits plus Gumbel noise :math:`-\log(-\log u)`, u uniform, and the
  gradient passed back is that of a softmax with temperature :math:`\tau` ("straight through"; Jang, Gu & Poole 2017,
  arXiv:1611.01144; Maddison, Mnih & Teh 2017, arXiv:1611.00712), less noisy and biased;
* no draw at all: the nearest vector of a codebook, and a gradient copied past it (VQ-VAE; van den Oord, Vinyals &
  Kavukcuoglu 2017, arXiv:1711.00937).
"""

import torch

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import load_digits
from pyrovae.diagnostics.gradient_variance import gradient_moments
from pyrovae.heads import (
    AutoregressiveCategoricalHead,
    BernoulliHead,
    StraightThroughBernoulliHead,
)
from pyrovae.losses import LeaveOneOutLoss, VectorQuantizedLoss
from pyrovae.nets import MLP, Codebook, Constant
from pyrovae.posteriors import VectorQuantized
from pyrovae.priors import Mixing

torch.manual_seed(0)

# %%
# Bias and noise, against the exact gradient
# ------------------------------------------
# Eight bits have 256 states, so that the ELBO and its gradient can be summed. The pair is trained for a little first.

X, BITS, H = 64, 8, [100]
train, _, test = load_digits().batches("threshold", batch_size=200, flatten=True)
net = MLP(X, H, BITS)
model = pv.Model(z=BernoulliHead(Constant(BITS)), x=pv.Node(BernoulliHead(MLP(BITS, H, X)), "z"))
scored = pv.Guide(z=pv.Node(BernoulliHead(net), "x"))
pv.fit(LeaveOneOutLoss(model, scored, num_particles=4), train, epochs=10, lr=3e-3)
batch = train.take(100)
states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * BITS).unsqueeze(1)
log_q = BernoulliHead(net)(batch["x"]).log_prob(states)
log_p = model.nodes["z"].conditional().log_prob(states)
log_p = log_p + model.nodes["x"].conditional(states).log_prob(batch["x"])
elbo = (log_q.exp() * (log_p - log_q)).sum(0).mean()
exact = torch.cat([g.flatten() for g in torch.autograd.grad(-elbo, list(net.parameters()))])

taus = (0.1, 0.3, 1.0, 3.0)
losses = {"score function": pv.ElboLoss(model, scored)}
losses |= {
    f"leave one out, {k} draws": LeaveOneOutLoss(model, scored, num_particles=k) for k in (2, 8)
}
for tau in taus:
    relaxed = StraightThroughBernoulliHead(net, temperature=tau)
    losses[f"relaxed, {tau}"] = pv.ElboLoss(model, pv.Guide(z=pv.Node(relaxed, "x")))
found = {}
for name, loss in losses.items():
    moments = gradient_moments(loss, batch, num_draws=200).items()
    moments = [pair for parameter, pair in moments if parameter.startswith("guide.")]
    error = torch.cat([mean.flatten() for mean, _ in moments]) - exact
    noise = sum(variance.sum() for _, variance in moments)
    bias = (error.square().sum() - noise / 200).clamp(min=0).sqrt()  # less what 200 draws leave
    found[name] = (bias / exact.norm()).item(), (noise.sqrt() / exact.norm()).item()
    print(f"{name:23s} bias {found[name][0]:.2f}, noise {found[name][1]:.2f} of the gradient")
pairs = zip(*(found[f"relaxed, {tau}"] for tau in taus))
temperatures = plots.comparison(
    {name: plots.Line(taus, values) for name, values in zip(("bias", "noise"), pairs)},
    "temperature",
    "in units of the exact gradient's norm",
    xlog=True,
)

# %%
# The score function alone drowns the gradient in noise. The mean of the other draws as a baseline costs nothing and
# removes nearly all of it. Relaxed draws have less bias at low temperatures and less noise at high ones; two draws
# with a baseline, at twice the cost, are here better in both.
#
# Trained by each
# ---------------
# 20 bits, the same nets and number of steps, log p(x) by importance sampling from the discrete guide. Then one
# category of 64 values, which `Marginal` sums out: neither guide nor noise, and log p(x) is exact.


def trained(name: str, loss: torch.nn.Module, model: pv.Model, guide: pv.Guide | None) -> None:
    """Fit, and print log p(x) of the test digits."""
    pv.fit(loss, train, epochs=60, lr=3e-3)
    found = pv.log_evidence(model, guide, test, num_particles=200)
    print(f"{name:14s} log p(x) {found.mean:.2f} +- {found.mean_se:.2f} nats")


for name, head in (("leave one out", BernoulliHead), ("relaxed", StraightThroughBernoulliHead)):
    torch.manual_seed(0)
    bits = pv.Model(z=BernoulliHead(Constant(20)), x=pv.Node(BernoulliHead(MLP(20, H, X)), "z"))
    guide = pv.Guide(z=pv.Node(head(MLP(X, H, 20)), "x"))
    unbiased = LeaveOneOutLoss(bits, guide, num_particles=4)
    trained(name, pv.ElboLoss(bits, guide) if name == "relaxed" else unbiased, bits, guide)

rows = torch.nn.Sequential(torch.nn.Embedding(64, 32), MLP(32, H, X))
category = pv.Model(
    k=pv.Node(Mixing(64), infer={"enumerate": "parallel"}), x=pv.Node(BernoulliHead(rows), "k")
)
trained("one category", pv.ElboLoss(pv.Marginal(category)), category, None)

# %%
# The unbiased gradient is ahead of the relaxed one by most of a nat, and the sum over a mere 64 states is ahead of both
# with 20 bits: noise and bias of a gradient can cost more than a rich code is worth.
#
# What goes wrong: a codebook that nobody uses
# --------------------------------------------
# Each digit gets four codes, each one of 16. Only vectors that are nearest to some output of the encoder get a gradient.
# Where the codebook starts far away, the shortest vector wins all data, and the others are never used. Start it from
# outputs. "Codes in use" is exp of the entropy of their shares: 16 if all are used equally often, 1 if one alone is.

for start in ("far", "near"):
    torch.manual_seed(0)
    book = Codebook(16, 8)
    quantised = VectorQuantized(MLP(X, H, (4, 8)), book)
    outputs = quantised.net(batch["x"]).detach().flatten(0, 1)
    book.vectors.data = 10 * book.vectors.data if start == "far" else outputs[:16]
    decoder = MLP((4, 8), H, X)
    pv.fit(VectorQuantizedLoss(BernoulliHead(decoder), quantised), train, epochs=60, lr=3e-3)
    codes = quantised(train.take(1000)["x"])()
    shares = codes.flatten().bincount(minlength=16) / codes.numel()
    found = BernoulliHead(decoder)(book(codes)).log_prob(train.take(1000)["x"]).mean()
    used = torch.special.entr(shares).sum().exp()
    print(f"codebook {start}: {used:.1f} codes in use, reconstruction {found:.2f} nats")

# %%
# Exercise 1
# ----------
# *Why is the leave-one-out baseline unbiased?* :math:`E[b \nabla \log q(z_k)] = E[b]\, E[\nabla \log q(z_k)] = 0` for
# any b that is independent of :math:`z_k`, and the mean over the *other* draws is. The mean over all draws is not.
#
# Exercise 2
# ----------
# *The reconstruction of the VQ-VAE is no log p(x). What is missing, and what is the bound?* A prior of the codes, fitted
# afterwards. :math:`p(x) = \sum_c p(x, c)` is at least its term at the codes of x: log p(x, codes) is a bound.

prior = AutoregressiveCategoricalHead(4, 16, [64])
pv.fit(pv.ElboLoss(pv.Model(c=prior)), [{"c": part} for part in codes.split(200)], epochs=60)
whole = pv.Model(c=prior, x=pv.Node(BernoulliHead(torch.nn.Sequential(book, decoder)), "c"))
bound = pv.log_weights(whole, pv.Guide(c=pv.Node(quantised, "x")), test.take(359), 1).mean()
print(f"log p(x, codes) of test digits {bound:.2f} nats")
