r"""
18. Autoencoders of all kinds, and how they relate to the VAE
=============================================================

An autoencoder learns a code :math:`z = e(x)` and a decoder :math:`d(z)` by the error of :math:`d(e(x))`. The kinds
differ in what keeps the code from being a mere copy:

.. math::

   \text{plain} \quad & \|x - d(e(x))\|^2, \\
   \text{denoising} \quad & \|x - d(e(\tilde x))\|^2, \quad \tilde x = x + \text{noise}, \\
   \text{contractive} \quad & \|x - d(e(x))\|^2 + \lambda \|\partial e / \partial x\|_F^2, \\
   \text{Wasserstein} \quad & \|x - d(e(x))\|^2 + \lambda\, \mathrm{MMD}^2(e(x), N(0, I)), \\
   \text{VAE} \quad & E_q \|x - d(z)\|^2 / 2 \sigma^2 + KL(q(z \mid x) \,\|\, N(0, I)).

The first is the last with a point mass for :math:`q` and no prior. Sources: Vincent et al. 2008 (denoising), Rifai et
al. 2011 (contractive), Tolstikhin et al. 2018, arXiv:1711.01558 (Wasserstein), Kingma & Welling 2014,
arXiv:1312.6114.
"""

import torch
from sklearn.mixture import GaussianMixture

import pyrovae as pv
from pyrovae import metrics, plots
from pyrovae.data import load_digits
from pyrovae.heads import DeltaHead, FixedScaleNormalHead, NormalHead
from pyrovae.losses import Penalized, squared_jacobian
from pyrovae.nets import MLP, Corrupted
from pyrovae.priors import Flat, StandardNormal

torch.manual_seed(0)
X, Z, NOISE = 64, 2, 0.2
train, _, test = load_digits().batches(flatten=True)
whole = test.take(359)

# %%
# Five losses
# -----------
# In pyrovae an autoencoder is a pair like any other: `DeltaHead` is the point mass, `Flat` the prior that says nothing.
# `Penalized` adds a function of the batch to a loss. The noise :math:`\sigma` is the same for all.


def mmd(z: torch.Tensor) -> torch.Tensor:
    r"""Squared maximum mean discrepancy of the codes to as many draws of N(0, I), with the kernel 1 / (1 + |a - b|^2 /
    2 Z), without the terms of a point with itself."""
    other = torch.randn_like(z)

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        squares = (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(-1)  # not cdist: its slope at 0
        return 1 / (1 + squares / (2 * Z))

    count = len(z)
    within = (kernel(z, z).sum() + kernel(other, other).sum() - 2 * count) / (count * (count - 1))
    return within - 2 * kernel(z, other).mean()


def fitted(kind: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Encoder net, its first Z outputs the code, and decoder."""
    torch.manual_seed(0)
    net = MLP(X, [100, 100], 2 * Z if kind == "VAE" else Z)
    seen = Corrupted(net, "noise", 0.3) if kind == "denoising" else net
    encoder = NormalHead(net) if kind == "VAE" else DeltaHead(seen)
    decoder = FixedScaleNormalHead(MLP(Z, [100, 100], X), scale=NOISE)
    prior = StandardNormal(Z) if kind == "VAE" else Flat(Z)
    model = pv.Model(z=prior, x=pv.Node(decoder, "z"))
    loss = pv.ElboLoss(model, pv.Guide(z=pv.Node(encoder, "x")))
    if kind == "contractive":
        loss = Penalized(loss, lambda x, y: squared_jacobian(net, x), weight=0.1)
    if kind == "Wasserstein":
        loss = Penalized(loss, lambda x, y: mmd(net(x)), weight=300.0)
    pv.fit(loss, train, epochs=60, lr=3e-3)
    return net, decoder


kinds = {
    name: fitted(name) for name in ("plain", "denoising", "contractive", "Wasserstein", "VAE")
}


@torch.no_grad()
def report(name: str, drawn: torch.Tensor) -> torch.Tensor:
    """Errors on test data, and the distance of decoded draws to the data; the codes."""
    net, decoder = kinds[name]
    codes = net(whole["x"])[:, :Z]
    error = (decoder(codes).mean - whole["x"]).square().mean().sqrt()
    noisy = decoder(net(whole["x"] + 0.3 * torch.randn_like(whole["x"]))[:, :Z]).mean
    distance = metrics.frechet_distance(whole["x"], decoder(drawn).mean)
    print(
        f"{name:12s} rms error {error:.3f}, of noisy input {(noisy - whole['x']).square().mean().sqrt():.3f}; codes "
        f"of sd {codes.std():5.2f}; Frechet distance of draws {distance:6.2f}"
    )
    return codes


codes = {name: report(name, torch.randn(359, Z)) for name in kinds}
spaces = plots.latent_panels(codes, whole["y"])

# %%
# Test errors are much alike, and the denoising code loses least when the input is noisy. The codes of the first three
# lie where training happened to leave them. Those of the last two fill the prior's circles, the Wasserstein codes as
# one crowd, the VAE's because each posterior is held near the prior, and their decoded draws are nearest to the data.
#
# What goes wrong: draws of an autoencoder
# ----------------------------------------
# Nothing tells a plain autoencoder where its codes should lie, so that N(0, I) is as good as any place to draw from:
# most of its draws fall where no code ever was, and the decoder there is what it happens to be.

pictures = []
with torch.no_grad():
    z = torch.randn(12, Z)
    for name in ("plain", "Wasserstein", "VAE"):
        pictures.append(kinds[name][1](z).mean)
drawn = plots.image_grid(
    torch.cat(pictures).reshape(-1, 1, 8, 8),
    columns=12,
    title="decoded draws of N(0, I): plain, Wasserstein, VAE",
)

# %%
# Exercise 1
# ----------
# *Can a plain autoencoder be made to draw after all?* Fit a density to its codes and draw from that (Ghosh et al. 2020,
# arXiv:1903.12436). It is then a latent-variable model trained in two steps.

with torch.no_grad():
    inside = kinds["plain"][0](train.data.tensors["x"])
mixture = GaussianMixture(10, random_state=0).fit(inside.numpy())
report("plain", torch.tensor(mixture.sample(359)[0]).float())

# %%
# Exercise 2
# ----------
# *Where is the contractive penalty in a VAE?* For a narrow :math:`q` of standard deviation s, :math:`E \|x - d(\mu + s
# \epsilon)\|^2 \approx \|x - d(\mu)\|^2 + s^2 \|\partial d / \partial z\|_F^2`: noise of the code is a penalty on the
# *decoder's* slope, with a weight that the model chooses. Check it at s = 0.02:

decoder = kinds["VAE"][1]
with torch.no_grad():
    mu = codes["VAE"]
    clean = (whole["x"] - decoder(mu).mean).square().sum(1).mean()
    moved = [decoder(mu + 0.02 * torch.randn_like(mu)).mean for _ in range(200)]
    added = (
        torch.stack([(whole["x"] - one).square().sum(1).mean() for one in moved]).mean() - clean
    )
slope = squared_jacobian(lambda z: decoder(z).mean, mu, num_draws=200)
print(f"added by noise {added:.4f}, s^2 times the slope {0.02**2 * slope:.4f}")
