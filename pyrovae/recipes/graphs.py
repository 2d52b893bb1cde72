"""Encoder and decoder of a trained VAE as functions of tensors, for other programs to run."""

from typing import cast

import torch.nn as nn
from torch import Tensor

import pyrovae as pv
from pyrovae.heads import LowRankNormalHead
from pyrovae.posteriors import NonReparameterized
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.trained_vae import TrainedVae
from pyrovae.recipes.vae_layout import VaeLayout
from pyrovae.recipes.vae_means import mean_of


class Encoder(nn.Module):
    """Data `(N, *event_shape)` in the user's units -> mean and scale of q(z | x), `(N, D)` each.

    Rounding to grey levels and the threshold of binary pixels are a part of it; random binarisation
    is not. Raises: Refusal where q(z | x) has no mean in closed form.
    """

    def __init__(self, run: TrainedVae) -> None:
        super().__init__()
        if not run.is_exact:
            raise Refusal("the mean of q(z | x) of this guide has no closed form.")
        self.posterior = cast(pv.Node, cast(pv.Guide, run.guide).nodes[run.site]).conditional
        self.layout, self.shape = run.layout, tuple(run.run["data"]["x_shape"])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = _moments(self.posterior, _scored(x, self.layout).reshape(-1, *self.shape))
        return mean, variance.sqrt()


class Decoder(nn.Module):
    """z `(N, D)` -> means of p(x | z), `(N, *event_shape)`, in the user's units."""

    def __init__(self, run: TrainedVae) -> None:
        super().__init__()
        likelihood = run.settings.model.likelihood
        if likelihood == "autoregressive-bernoulli":
            raise Refusal(f"the mean of p(x | z) of --likelihood {likelihood} has no closed form.")
        self.likelihood = cast(pv.Node, run.model.nodes["x"]).conditional
        self.layout = run.layout

    def forward(self, z: Tensor) -> Tensor:
        low_rank = isinstance(self.likelihood, LowRankNormalHead)
        mean = _moments(self.likelihood, z)[0] if low_rank else mean_of(self.likelihood(z))
        x = mean.reshape(-1, *self.layout.event_shape)
        levels = self.layout.levels
        return x / (levels - 1) if self.layout.whole and levels is not None else x


def _moments(head: nn.Module, parent: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(head, NonReparameterized):
        return _moments(head.conditional, parent)
    if isinstance(head, LowRankNormalHead):
        return head.moments(parent)
    fn = head(parent)
    return fn.mean, fn.variance


def _scored(x: Tensor, layout: VaeLayout) -> Tensor:
    """What `VaeLayout.to_model` does without drawing."""
    if layout.whole and layout.levels is not None:
        return (x * (layout.levels - 1)).round()
    return (x > 0.5).to(x.dtype) if layout.binarize == "threshold" else x


def units(layout: VaeLayout) -> str:
    """What x is, in words."""
    if not layout.is_image and layout.levels is None:
        return "numbers as in the data of the run"
    pixels = (
        "pixels in [0, 1] (uint8 divided by 255)" if layout.levels == 256 else "pixels in [0, 1]"
    )
    if layout.whole and layout.levels is not None:
        return f"{pixels}; the graph rounds them to {layout.levels} grey levels"
    if layout.binarize == "threshold":
        return f"{pixels}; the graph sets those above 0.5 to 1, the others to 0"
    if layout.binarize in ("dynamic", "static"):
        return "pixels of 0 or 1; draw grey pixels p in [0, 1] before, as 1 with probability p"
    return pixels
