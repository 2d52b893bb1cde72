"""Data, model, loss and figures of train_deep_vae.py."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import cast

import torch
from matplotlib.figure import Figure
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.data import Batches, Splits, load_path
from pyrovae.data.splits import Binarize
from pyrovae.recipes.data_choice import digest_of_parts, refuse_unknown
from pyrovae.recipes.deep_vae import deep_vae
from pyrovae.recipes.deep_vae_settings import SIZES, DeepSettings
from pyrovae.recipes.image_likelihoods import Bits, ImageLikelihood, Levels, RealPixels
from pyrovae.recipes.new_data import NAMED
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.vae_metrics import scored_rows

PATHS = "the path of an .npy, .npz or IDX file or of a folder of images"


@dataclasses.dataclass(frozen=True)
class Images:
    """Images in the units of the likelihood."""

    splits: Splits
    binarize: Binarize
    likelihood: ImageLikelihood
    train: Batches
    valid: Batches | None
    test: Batches

    def facts(self) -> dict[str, object]:
        """For run.json."""
        splits = self.splits
        return {
            "name": splits.name,
            "source": splits.source,
            "event_shape": list(splits.event_shape),
            "levels": splits.levels,
            "binarize": self.binarize,
            "num_train": len(splits.train),
            "num_valid": 0 if splits.valid is None else len(splits.valid),
            "num_test": len(splits.test),
            "steps_per_epoch": len(self.train),
            "sha256": digest_of_parts(splits.train, splits.valid, splits.test),
        }


def load_images(s: DeepSettings) -> Images:
    """The data of a run. Raises Refusal for what are no images, or not of the likelihood."""
    name, likelihood = s.model.dataset, s.model.likelihood
    refuse_unknown("--dataset", name, NAMED, PATHS)
    splits = NAMED[name]() if name in NAMED else load_path(name)
    if len(splits.event_shape) != 3:
        raise Refusal(
            f"--dataset {name} holds vectors of {tuple(splits.event_shape)}; expected images, {PATHS}."
        )
    if splits.levels is None and likelihood == "logistic-mixture":
        raise Refusal(
            f"--dataset {name} holds real numbers, but --likelihood logistic-mixture scores levels of pixels stored "
            "as uint8; use --likelihood normal."
        )
    binarize: Binarize = "none"
    if likelihood == "logistic-mixture":
        splits = splits.as_levels()
    elif likelihood == "bernoulli" and not splits.is_binary:
        binarize = "threshold" if name == "digits" else "dynamic"
    parts = splits.batches(binarize, batch_size=s.run.batch_size)
    return Images(splits, binarize, likelihood_of(s, splits.levels), *parts)


def likelihood_of(s: DeepSettings, levels: int | None) -> ImageLikelihood:
    if s.model.likelihood == "bernoulli":
        return Bits()
    return RealPixels() if s.model.likelihood == "normal" else Levels(cast(int, levels))


def make_pair(
    s: DeepSettings, event_shape: Sequence[int], likelihood: ImageLikelihood
) -> tuple[pv.Model, pv.Guide]:
    return deep_vae(torch.Size(event_shape), SIZES[s.model.size], likelihood)


def make_loss(
    model: pv.Model, guide: pv.Guide, s: DeepSettings, steps_per_epoch: int
) -> pv.ElboLoss:
    """The ELBO, with the KL of each level by formula, given the draws of those above it.

    The weights lie with their channels last, in which order these small convolutions run faster.
    """
    loss = pv.ElboLoss(
        model,
        guide,
        beta=s.beta(steps_per_epoch),
        free_bits=s.model.free_bits,
        elbo=TraceMeanField_ELBO(),
    )
    return loss.to(memory_format=torch.channels_last)


def estimate(
    model: pv.Model,
    guide: pv.Guide,
    test: Batches,
    s: DeepSettings,
    progress: Callable[[int], object] | None = None,
) -> pv.Evidence:
    """log p(x) as `train_deep_vae.py` reports it; random streams move."""
    torch.manual_seed(s.run.seed)
    return pv.log_evidence(
        model,
        guide,
        scored_rows(test, s),
        num_particles=s.run.eval_particles,
        chunk=100,
        compile=s.run.compile,
        progress=progress,
    )


def decoded_mean(model: pv.Model, values: dict[str, Tensor]) -> Tensor:
    """The mean of p(x | z) at values of all latents, in the units of x."""
    return cast(pv.Node, model.nodes["x"])(values).mean


@torch.no_grad()
def draw_figures(
    model: pv.Model, guide: pv.Guide, images: Images, history: pv.History, device: torch.device
) -> dict[str, Figure]:
    """Curves; and samples and reconstructions, as means of p(x | z), where colours can be shown."""
    figures = {"curves": plots.curves(history.columns())}
    if images.splits.event_shape[0] not in (1, 3):
        return figures
    top = (images.splits.levels or 2) - 1 if isinstance(images.likelihood, Levels) else 1

    def mean(values: dict[str, Tensor]) -> Tensor:
        return (decoded_mean(model, values) / top).cpu()

    model.eval(), guide.eval()
    x = images.test.to(device).take(min(20, len(images.test.data)))["x"]
    figures["samples"] = plots.samples(
        mean(model(num=64)), title="Means of p(x | z), z from the prior"
    )
    figures["reconstructions"] = plots.reconstructions(
        (x / top).cpu(), mean(model(**guide(x=x))), title="Test data above their reconstructions"
    )
    return figures
