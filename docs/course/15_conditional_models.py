r"""
15. Conditional models: one question, many right answers
========================================================

Given the upper half of a digit, :math:`c`, draw its lower half, :math:`x`. A conditional VAE (Sohn, Lee & Yan 2015)
puts latents between the two,

.. math::

   p(x \mid c) = \int p(z \mid c)\, p(x \mid z, c)\, dz, \qquad
   \log p(x \mid c) \ge E_{q(z \mid x, c)}[\log p(x \mid z, c)] - KL(q(z \mid x, c) \,\|\, p(z \mid c)),

so that :math:`z` says which of the possible answers is meant. A net without latents, :math:`p(x \mid c) = \prod_d p(x_d
\mid c)`, can only say for each pixel how often it is dark.
"""

import torch

import pyrovae as pv
from pyrovae import plots
from pyrovae.data import Batches, DictDataset, load_digits
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

torch.manual_seed(0)

# %%
# The data, and three models
# --------------------------
# Names in a batch that are no sites are conditions: any node may look at them. The prior of :math:`z` may, the
# decoder may, and the guide looks at the answer too.


def halves(batches: Batches) -> DictDataset:
    """Upper halves as c, lower halves as x."""
    x = batches.take(len(batches.data))["x"]
    return DictDataset(c=x[:, :32], x=x[:, 32:])


train, _, test = load_digits().batches("threshold", flatten=True)
train, test = Batches(halves(train), 200, shuffle=True), Batches(halves(test), 500)
C = X = 32
Z, H = 8, [100]
net = pv.Model(x=pv.Node(BernoulliHead(MLP(C, H, X)), "c"))


def conditional(prior: torch.nn.Module | pv.Node) -> tuple[pv.Model, pv.Guide]:
    """A conditional VAE with the given prior."""
    model = pv.Model(z=prior, x=pv.Node(BernoulliHead(MLP(Z + C, H, X)), "z", "c"))
    return model, pv.Guide(z=pv.Node(NormalHead(MLP(X + C, H, 2 * Z)), "x", "c"))


pairs = {
    "net without latents": (net, None),
    "z standard normal": conditional(StandardNormal(Z)),
    "z looks at c": conditional(pv.Node(NormalHead(MLP(C, H, 2 * Z)), "c")),
}
found = {}
for name, pair in pairs.items():
    torch.manual_seed(0)
    pv.fit(pv.ElboLoss(*pair), train, epochs=60, lr=3e-3)
    found[name] = pv.log_evidence(*pair, test, num_particles=200)
    gain = found[name].log_px - found["net without latents"].log_px
    print(
        f"{name:20s} {found[name].mean:.2f} nats, over the net {gain.mean():+.2f} +- {gain.std() / len(gain) ** 0.5:.2f}"
    )

# %%
# Both conditional VAEs are ahead of the net by about a nat or more, and the one whose prior looks at c is the better:
# it does not have to send every z of a standard normal to a sensible answer for every c.
#
# Draws
# -----
# All for the same ten upper halves. The mean of the net is a blur of the possible answers, and its draws are speckled:
# given c, its pixels know nothing of each other. Those of the conditional VAE agree within an answer and differ
# between answers.

few = test.take(10)


def whole(lower: torch.Tensor) -> torch.Tensor:
    """Upper halves put on top of lower ones."""
    return torch.cat([few["c"], lower], -1).reshape(-1, 1, 8, 8)


with torch.no_grad():
    answer = net.nodes["x"].conditional(few["c"])
    rows = [few["x"], answer.mean, answer.sample(), answer.sample()]
    model = pairs["z looks at c"][0]
    rows += [model(c=few["c"])["x"] for _ in range(3)]
images = torch.cat([whole(row) for row in rows])
pictures = plots.image_grid(
    images,
    columns=10,
    title="data; mean of the net; two draws of it; three of the conditional VAE",
)

# %%
# What goes wrong: scores that prefer the blur
# --------------------------------------------
# Counting the wrong pixels of one answer rewards the safe guess: where two answers are possible, the guess between them
# is half wrong with both, while a draw of the other answer is all wrong. And the reconstruction term of a conditional VAE
# looks at the answer through the guide: it is no score of anything that can be done without the answer.

batch = test.take(359)
with torch.no_grad():
    p = net.nodes["x"].conditional(batch["c"])
    model, guide = pairs["z looks at c"]
    draws = {"net": p.sample((100,))}
    draws["conditional VAE"] = torch.stack([model(c=batch["c"])["x"] for _ in range(100)])
safe = ((p.mean > 0.5).float() != batch["x"]).float().sum(-1).mean()
wrong = {name: (x != batch["x"]).float().sum(-1) for name, x in draws.items()}  # (100, 359)
print(f"most probable pixels of the net: {safe:.2f} of {X} wrong")
print("one draw:", {name: round(count[0].mean().item(), 2) for name, count in wrong.items()})
cheat, honest = pv.evaluate(pv.ElboLoss(model, guide), test), found["z looks at c"].mean
print(f"reconstruction by the guide {cheat['reconstruction']:.2f}, log p(x given c) {honest:.2f}")

# %%
# By wrong pixels the net's safe guess is better than a draw of either model, though no digit looks like it. log p(x
# given c), the probability of the answer that came, ranks the models the other way round.
#
# Exercise 1
# ----------
# *Allow k draws and count the wrong pixels of the best. How does that depend on k?* With one draw the net is no worse.
# With more, both come nearer by chance, and the conditional VAE sooner: its draws are different answers, those of the net
# one mean with different noise.

counts = (1, 3, 10, 30, 100)
lines = {
    name: plots.Line(counts, [count[:k].amin(0).mean().item() for k in counts])
    for name, count in wrong.items()
}
best = plots.comparison(lines, "draws", "wrong pixels of the best", xlog=True)
print({name: [round(value, 2) for value in line.y] for name, line in lines.items()})

# %%
# Exercise 2
# ----------
# *Given c, are the two conditional VAEs different families of p(x given c)?* Hardly: a decoder that sees c can bend a
# standard normal to any shape. What differs is how easy it is to learn, and the guide: with a prior that knows c, the
# guide has only to tell what the answer adds.
