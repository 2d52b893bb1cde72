"""What the page knows of a trained VAE."""

import dataclasses
import math
from typing import cast

import torch
from torch import Tensor

from pyrovae.programs import Guide, Node
from pyrovae.recipes.embedding import information_of
from pyrovae.recipes.explorer.layers import Layer
from pyrovae.recipes.explorer.means import mean_layers
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.trained_vae import Codes, TrainedVae

CLASSES, DRAWS, DIGITS = 20, 500, 4
"""Most classes with a direction of their own; draws of a prior that is no N(0, I)."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Test data with their codes. x: as the user has them, `(N, *event_shape)`; y: `(N,)` or None."""

    x: Tensor
    y: Tensor | None
    codes: Codes


def encode_test(run: TrainedVae, max_data: int, seed: int = 0) -> Encoded:
    """At most `max_data` test data of the run, chosen at random, with their codes."""
    tensors = run.data("test").data.tensors
    order = torch.randperm(len(tensors["x"]), generator=torch.Generator().manual_seed(seed))
    rows = order[:max_data]
    x = run.layout.to_user(tensors["x"][rows])
    y = tensors["y"][rows] if "y" in tensors else None
    return Encoded(x, y, run.encode(x, num_draws=20, seed=seed))


def decoder_of(run: TrainedVae) -> list[Layer]:
    """From z to the mean of p(x | z), in the user's units."""
    layers = mean_layers(_conditional(run.model.nodes["x"]), (run.settings.model.latent_dim[0],))
    levels = run.layout.levels
    if run.layout.whole and levels is not None:
        layers.append({"op": "scale", "by": 1 / (levels - 1)})
    return layers


def encoder_of(run: TrainedVae) -> list[Layer] | None:
    """From x, as the likelihood scores it, to the mean of q(z | x); None where that has no closed
    form."""
    if not run.is_exact:
        return None
    shape = tuple(run.run["data"]["x_shape"])
    guide = cast(Guide, run.guide)
    return mean_layers(_conditional(guide.nodes[run.site]), shape)


def content_of(run: TrainedVae, test: Encoded, *, seed: int = 0) -> dict[str, object]:
    """All numbers of the page, tensors among them."""
    means, layout = test.codes.mean, run.layout
    standard = run.settings.model.prior == "standard"
    has_kl = standard and run.settings.model.guide != "point"
    used = information_of(means, test.codes.scale) if has_kl else means.var(0, correction=0)
    is_image = layout.is_image and layout.event_shape[0] in (1, 3)
    low, high = (0.0, 1.0) if is_image else _range(run.decode(means))
    return {
        "size": means.shape[1],
        "event_shape": list(layout.event_shape),
        "image": is_image,
        "range": [low, high],
        "bright": is_image and float(test.x.mean()) > 0.5,
        "binarize": layout.binarize,
        "levels": layout.levels,
        "whole": layout.whole,
        "used": [round(float(value), DIGITS) for value in used],
        "used_means": "Sorted by use; beside each its KL from the prior in nats."
        if has_kl
        else "Sorted by use; beside each the variance of its mean over data.",
        "order": used.argsort(descending=True).tolist(),
        "limit": max(3, math.ceil(float(means.abs().max()))),
        "codes": means,
        "labels": None if test.y is None else test.y.tolist(),
        "principal": _principal(means),
        "samples": run.settings.model.prior != "flat",
        "prior": _draws(run, seed),
        "directions": _directions(run),
        "decoder": decoder_of(run),
        "encoder": encoder_of(run),
    }


def _range(x: Tensor) -> tuple[float, float]:
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    return low, high if high > low else low + 1


def _conditional(node: object) -> torch.nn.Module:
    if not isinstance(node, Node):
        raise Refusal(f"the page cannot compute {type(node).__name__}; expected a Node.")
    return node.conditional


def _principal(codes: Tensor) -> dict[str, object] | None:
    """The plane of the first two principal components; None where it is all of latent space."""
    if codes.shape[1] < 3 or len(codes) < 3:
        return None
    mean = codes.mean(0)
    _, s, v = torch.linalg.svd(codes - mean, full_matrices=False)
    share = float((s[:2] ** 2).sum() / (s**2).sum())
    return {"mean": mean, "axes": v[:2].contiguous(), "share": round(share, DIGITS)}


def _draws(run: TrainedVae, seed: int) -> Tensor | None:
    """Draws of a prior other than N(0, I), which the page draws from itself."""
    if run.settings.model.prior in ("standard", "flat"):
        return None
    with run.evaluation(seed):
        return run.model(num=DRAWS)[run.site].cpu()


def _directions(run: TrainedVae) -> list[dict[str, object]]:
    found = run.attributes()
    if len(found) > CLASSES:
        return []
    return [{"name": name, "direction": direction} for name, direction in found.items()]
