"""Families of bits without real latents, whose log p(x) is exact."""

import torch
from torch import nn

import pyrovae as pv
from pyrovae.core.progress import progress_bar
from pyrovae.heads import AutoregressiveBernoulliHead, BernoulliHead
from pyrovae.nets import Constant
from pyrovae.priors import Mixing
from pyrovae.recipes.landscape.family import Budget, Family, Images
from pyrovae.recipes.landscape.pairs import Pair, train
from pyrovae.training.expectation_maximization import expectation_maximization, maximize_bernoulli

SUMMED = {"enumerate": "parallel"}
TOGETHER = 2**22
"""Numbers in the largest tensor of an enumeration: 16 MiB in single precision, which caches hold."""
PRIOR_COUNT = 0.1
"""Pixels of each value added to each component, without which a test pixel can have probability 0."""


def fit_bernoulli(images: Images, budget: Budget) -> Pair:
    """Independent pixels: their means, by formula."""
    logits = Constant(images.features)
    count = images.train.sum(0) + PRIOR_COUNT
    with torch.no_grad():
        logits.value.copy_((count / (len(images.train) + 2 * PRIOR_COUNT)).logit())
    return Pair(pv.Model(x=BernoulliHead(logits)), None, 1)


def mixture(images: Images, budget: Budget) -> tuple[pv.Model, Mixing, nn.Embedding]:
    """Components that start from the pixel means, with noise that tells them apart."""
    mixing, parts = Mixing(budget.components), nn.Embedding(budget.components, images.features)
    means = images.train.mean(0).clamp(0.05, 0.95).logit()
    with torch.no_grad():
        parts.weight.copy_(means + parts.weight)
    model = pv.Model(k=pv.Node(mixing, infer=SUMMED), x=pv.Node(BernoulliHead(parts), "k"))
    return model, mixing, parts


def rows_together(images: Images, budget: Budget) -> int:
    """Data whose components are enumerated together."""
    return max(1, TOGETHER // (budget.components * images.features))


def fit_mixture_em(images: Images, budget: Budget) -> Pair:
    model, mixing, parts = mixture(images, budget)
    x = images.train
    with progress_bar(total=budget.epochs, unit="step") as bar:
        expectation_maximization(
            model,
            {"x": x},
            lambda r: maximize_bernoulli(mixing, parts, x, r, prior_count=PRIOR_COUNT),
            steps=budget.epochs,
            chunk_size=rows_together(images, budget),
            progress=bar.update,
        )
    return Pair(model, None, 1)


def fit_mixture_svi(images: Images, budget: Budget) -> Pair:
    model, _, _ = mixture(images, budget)
    train(pv.ElboLoss(pv.Marginal(model)), images, budget, faster=20.0)
    return Pair(model, None, 1)


def fit_autoregressive(images: Images, budget: Budget) -> Pair:
    head = AutoregressiveBernoulliHead(images.features, 0, budget.hidden)
    model = pv.Model(x=head)
    train(pv.ElboLoss(model), images, budget)
    return Pair(model, None, 1)


DENSITIES = (
    Family("bernoulli", "binary", fit_bernoulli, is_exact=True, any_query=True),
    Family(
        "bernoulli-mixture-em",
        "binary",
        fit_mixture_em,
        is_exact=True,
        has_code=True,
        any_query=True,
        note="the code is a component",
    ),
    Family(
        "bernoulli-mixture-svi",
        "binary",
        fit_mixture_svi,
        is_exact=True,
        has_code=True,
        any_query=True,
        note="the same program, by gradients",
    ),
    Family(
        "autoregressive",
        "binary",
        fit_autoregressive,
        is_exact=True,
        one_pass=False,
        note="MADE in raster order; conditionals of later pixels only",
    ),
)
