"""The figures of one trained VAE."""

import contextlib
from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.data import Batches, Splits
from pyrovae.diagnostics.active_units import kl_per_dim
from pyrovae.heads import DeltaHead
from pyrovae.priors import Flat, StandardNormal
from pyrovae.recipes.conditions import Task
from pyrovae.recipes.latent_figures import of_trained
from pyrovae.recipes.vae_means import codes
from pyrovae.recipes.vae_painter import Painter, others

AUTOENCODER = {
    "ELBO": "log p(x | z) + log p(z)",
    "Reconstruction": "log p(x | z)",
    "KL": "-log p(z)",
}


@torch.no_grad()
def draw_figures(
    model: pv.Model,
    guide: pv.Guide,
    test: Batches,
    history: pv.History,
    splits: Splits,
    device: torch.device,
    task: Task | None = None,
) -> dict[str, Figure]:
    """All figures that apply to the data; some are for images only."""
    was_training = model.training, guide.training
    model.eval(), guide.eval()
    data = test.to(device)
    parts = [codes(guide, batch) for batch in data]
    z = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    name = "z" if "z" in z else "z1"
    lowest, prior = z[name], model.nodes[name]
    figures = {"curves": _curves(history.columns(), guide.nodes[name], prior)}
    information = lowest.var(0, correction=0)
    with contextlib.suppress(pv.PairError):  # defined only if guide and prior factorise
        kl = kl_per_dim(model, guide, data, site=name)
        figures["kl_per_dim"] = plots.kl_per_dim(kl, threshold=0.01)
        information = kl
    dims = tuple(sorted(information.argsort(descending=True)[:2].tolist()))
    if len(dims) == 2:
        standard = isinstance(prior, pv.Node) and isinstance(prior.conditional, StandardNormal)
        shown = lowest[:5000].cpu()
        figures["latent_scatter"] = plots.latent_scatter(
            shown,
            _labels(test, 5000),
            dims=dims,
            standard_prior=standard,
            title=f"{_kind(guide.nodes[name])} of {name}, {len(shown)} test data".capitalize()
            + others(lowest.shape[1], "\n", "not shown"),
        )
    is_image = len(splits.event_shape) == 3 and splits.event_shape[0] in (1, 3)
    painter = Painter(model, splits, task, _kind(guide.nodes[name]))
    if is_image:
        figures |= painter.answers(data, z, task) if task else painter.images(data, z, dims)
    if len(z) == 1:
        decode = (lambda codes: painter.decode({name: codes})) if is_image and not task else None
        figures |= of_trained(model, guide, data, lowest, information, decode)
    model.train(was_training[0]), guide.train(was_training[1])
    return figures


def _kind(node: object) -> str:
    """What a guide makes of a datum."""
    is_point = isinstance(node, pv.Node) and isinstance(node.conditional, DeltaHead)
    return "codes" if is_point else "posterior means"


def _curves(columns: Mapping[str, Sequence[float]], node: object, prior: object) -> Figure:
    """Of an autoencoder the objective is no ELBO, and what its prior costs no KL."""
    if _kind(node) != "codes":
        return plots.curves(columns)
    if isinstance(prior, pv.Node) and isinstance(prior.conditional, Flat):
        columns = {
            name: each for name, each in columns.items() if not name.endswith(("elbo", "kl"))
        }
    return plots.curves(columns, names=AUTOENCODER)


def _labels(test: Batches, count: int) -> Tensor | None:
    return test.data.tensors["y"][:count].cpu() if "y" in test.data.tensors else None
