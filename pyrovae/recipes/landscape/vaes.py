"""VAEs of bits: one wiring, with one part changed in each."""

import zuko
from torch import nn

import pyrovae as pv
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP, ConvDecoder, ConvEncoder
from pyrovae.posteriors import PrecisionWeighted
from pyrovae.priors import StandardNormal
from pyrovae.recipes.landscape.family import Budget, Family, Images
from pyrovae.recipes.landscape.pairs import Pair, train

IWAE_PARTICLES = 10
WARMUP = 20
"""Epochs in which the weight of the hierarchy's KL rises to 1."""


def mlps(images: Images, budget: Budget) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder."""
    encoder = MLP(images.features, budget.hidden, 2 * budget.latent_size)
    return encoder, MLP(budget.latent_size, budget.hidden[::-1], images.features)


def convolutions(images: Images, budget: Budget) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder of rows by convolutions over their images."""
    channels = (32, 64)
    encoder = ConvEncoder(images.shape, channels, 2 * budget.latent_size)
    decoder = ConvDecoder(budget.latent_size, channels[::-1], images.shape)
    rows = nn.Unflatten(-1, images.shape)
    return nn.Sequential(rows, encoder), nn.Sequential(decoder, nn.Flatten(-3))


def vae(encoder: nn.Module, decoder: nn.Module, prior: nn.Module) -> tuple[pv.Model, pv.Guide]:
    model = pv.Model(z=prior, x=pv.Node(BernoulliHead(decoder), "z"))
    return model, pv.Guide(z=pv.Node(NormalHead(encoder), "x"))


def fit_vae(images: Images, budget: Budget) -> Pair:
    pair = vae(*mlps(images, budget), StandardNormal(budget.latent_size))
    train(pv.ElboLoss(*pair), images, budget)
    return Pair(*pair, budget.num_particles)


def fit_iwae(images: Images, budget: Budget) -> Pair:
    pair = vae(*mlps(images, budget), StandardNormal(budget.latent_size))
    loss = pv.IwaeLoss(*pair, num_particles=IWAE_PARTICLES, gradient="dreg")
    train(loss, images, budget)
    return Pair(*pair, budget.num_particles)


def fit_flow_prior(images: Images, budget: Budget) -> Pair:
    prior = zuko.flows.RealNVP(budget.latent_size, transforms=4, hidden_features=(64, 64))
    pair = vae(*mlps(images, budget), prior)
    train(pv.ElboLoss(*pair), images, budget)
    return Pair(*pair, budget.num_particles)


def fit_conv(images: Images, budget: Budget) -> Pair:
    pair = vae(*convolutions(images, budget), StandardNormal(budget.latent_size))
    train(pv.ElboLoss(*pair), images, budget)
    return Pair(*pair, budget.num_particles)


def fit_hierarchical(images: Images, budget: Budget) -> Pair:
    """Two layers of latents, the upper one half as wide; the guide goes from the top down."""
    lower, upper, width = budget.latent_size, max(1, budget.latent_size // 2), budget.hidden[-1]
    generative = NormalHead(MLP(upper, [width], 2 * lower))
    model = pv.Model(
        z2=StandardNormal(upper),
        z1=pv.Node(generative, "z2"),
        x=pv.Node(BernoulliHead(MLP(lower, budget.hidden[::-1], images.features)), "z1"),
    )
    precise = PrecisionWeighted(NormalHead(MLP(width, [], 2 * lower)), generative)
    guide = pv.Guide(
        h=pv.Value(MLP(images.features, budget.hidden[:-1], width), "x"),
        z2=pv.Node(NormalHead(MLP(width, [width], 2 * upper)), "h"),
        z1=pv.Node(precise, "h", "z2"),
    )
    steps = WARMUP * -(-len(images.train) // budget.batch_size)
    train(pv.ElboLoss(model, guide, beta=pv.LinearWarmup(steps)), images, budget)
    return Pair(model, guide, budget.num_particles)


VAES = (
    Family("vae", "binary", fit_vae, has_code=True),
    Family(
        "iwae",
        "binary",
        fit_iwae,
        has_code=True,
        note=f"trained with K = {IWAE_PARTICLES} and DReG gradients",
    ),
    Family("vae-flow-prior", "binary", fit_flow_prior, has_code=True, note="RealNVP prior"),
    Family(
        "vae-conv", "binary", fit_conv, has_code=True, note="32 and 64 channels in place of MLPs"
    ),
    Family(
        "hierarchical",
        "binary",
        fit_hierarchical,
        has_code=True,
        note=f"two layers of latents, guide from the top down, KL warm-up of {WARMUP} epochs",
    ),
)
