r"""
20. GANs beside VAEs: the same decoder without a likelihood
===========================================================

A generative adversarial net trains a generator :math:`x = G(z)` against a critic :math:`f` that tells real from made-up
data (GAN; Goodfellow et al. 2014, arXiv:1406.2661), :math:`\sigma` the sigmoid. The second is the Wasserstein GAN with a
gradient penalty (WGAN-GP; Gulrajani et al. 2017, arXiv:1704.00028), with :math:`\hat x` between real and made-up data:

.. math:: E \log \sigma(f(x)) + E \log \sigma(-f(G(z))), \qquad E f(x) - E f(G(z)) - \lambda E (\|\nabla f(\hat x)\| - 1)^2 .

The critic maximises this, the generator moves its draws to where f is larger. Neither has a likelihood. With a noise
of a stated size on G(z) there is one, which annealed importance sampling (page 10; Wu et al. 2017, arXiv:1611.04273) finds:

.. math:: p(x) = \int N(z; 0, I)\, p_{\text{noise}}(x \mid G(z))\, dz .

Here pixels are bits, and the noise flips a pixel with probability 0.02.
"""

import torch

import pyrovae as pv
from pyrovae import metrics, plots
from pyrovae.data import load_digits
from pyrovae.evidence import annealed_importance
from pyrovae.heads import (
    BernoulliHead,
    FlippedBernoulliHead,
    NormalHead,
    StraightThroughBernoulliHead,
)
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal
from pyrovae.training.adversarial import Game, NonSaturating, Wasserstein, fit_adversarial

torch.manual_seed(0)
X, Z, FLIP = 64, 4, 0.02
train, _, test = load_digits().batches("threshold", flatten=True, batch_size=260)

# %%
# One decoder, three ways to train it
# -----------------------------------
# The VAE's decoder as it is; then the same net as the generator of two games. Its draws are bits with straight-through
# gradients, for the critic would tell grey from black and white at once.


def adversarial(game: Game, critic_steps: int, epochs: int) -> torch.nn.Module:
    decoder, critic = MLP(Z, [100], X), MLP(X, [100], 1, torch.nn.SiLU)
    draws = StraightThroughBernoulliHead(decoder, temperature=1.0)
    fit_adversarial(
        lambda count: draws(torch.randn(count, Z)).rsample(),
        decoder,
        critic,
        train,
        game=game,
        epochs=epochs,
        critic_steps=critic_steps,
        lr=1e-3,
    )
    return decoder


vae = MLP(Z, [100], X)
model = pv.Model(z=StandardNormal(Z), x=pv.Node(BernoulliHead(vae), "z"))
guide = pv.Guide(z=pv.Node(NormalHead(MLP(X, [100], 2 * Z)), "x"))
pv.fit(pv.ElboLoss(model, guide), train, epochs=100, lr=5e-3)
decoders = {
    "VAE": vae,
    "GAN": adversarial(NonSaturating(), critic_steps=1, epochs=200),
    "WGAN-GP": adversarial(Wasserstein(), critic_steps=5, epochs=500),
}

# %%
# log p(x) of all three
# ---------------------
# Under the same noise, by the same chains. The VAE's own likelihood, without noise, is above it: its decoder says how
# sure it is of each pixel.

few = {"x": test.take(30)["x"]}


def annealed(decoder: torch.nn.Module, flip: float, x: dict) -> pv.Evidence:
    head = FlippedBernoulliHead(decoder, flip=flip)
    noisy = pv.Model(z=StandardNormal(Z), x=pv.Node(head, "z"))
    return annealed_importance(noisy, x, num_chains=8, num_steps=60, num_leapfrog=5)


made, at = {}, {}
for name, decoder in decoders.items():
    at[name] = annealed(decoder, FLIP, few)
    with torch.no_grad():
        made[name] = torch.bernoulli(decoder(torch.randn(1_000, Z)).sigmoid())
    real = test.data.tensors["x"]
    precision, recall = (
        metrics.sample_precision(real, made[name]),
        metrics.sample_recall(real, made[name]),
    )
    print(
        f"{name:8s} log p(x) = {at[name].mean:7.2f} +- {at[name].mean_se:.2f} nats; {precision.mean():.2f} of the draws "
        f"look like data, {recall.mean():.2f} of the data are covered"
    )
own = pv.log_evidence(model, guide, few, num_particles=1000)
print(f"the VAE's own log p(x) = {own.mean:.2f} +- {own.mean_se:.2f}")
draws = plots.image_grid(
    torch.cat([one[:12] for one in made.values()]).reshape(-1, 1, 8, 8),
    columns=12,
    title="draws, a row each: VAE, GAN, WGAN-GP",
)

# %%
# Under one noise the decoder of the VAE is ahead, WGAN-GP near, the GAN nats behind. The draws of all three look like
# data about equally often, so that pictures do not tell; the GAN's cover far less of the data.
#
# What goes wrong: modes that are dropped
# ---------------------------------------
# A game says nothing of data that are never drawn. Label the draws by their nearest training digit: which classes are
# there, and what is the worst datum's log p(x)?

x, y = train.data.tensors["x"], train.data.tensors["y"]
for name, one in made.items():
    labels = y[torch.cdist(one, x).argmin(1)]
    shares = torch.bincount(labels, minlength=10) / len(labels)
    covered = metrics.class_coverage(y, labels, classes=10)
    print(
        f"{name:8s} shares of 0 to 9 "
        + " ".join(f"{share:.2f}" for share in shares)
        + f", coverage {covered:.2f}; least log p(x) {at[name].log_px.min():.1f}"
    )

# %%
# All classes are there: what the GAN dropped are kinds of each digit, and its worst datum is the worst by far.
#
# Exercise 1
# ----------
# *How much of the order is due to the noise that was assumed?*

flips, lines = (0.01, 0.03, 0.1), {}
for name, decoder in decoders.items():
    found = [annealed(decoder, flip, {"x": few["x"][:10]}) for flip in flips]
    lines[name] = plots.Line(flips, [one.mean for one in found], [one.mean_se for one in found])
by_noise = plots.comparison(lines, "probability that a pixel is flipped", "log p(x), nats")

# %%
# The numbers move with the noise, the order does not. The GAN wants more noise: it is further from the data.
#
# Exercise 2
# ----------
# *What does the critic of the first game estimate?* For a fixed generator with density :math:`p_G` its loss is least at
# :math:`f = \log p_{\text{data}}(x) - \log p_G(x)`: a ratio of densities without either density. Page 19 used such a
# ratio, and FactorVAE's penalty is one (`losses.DensityRatio`).
