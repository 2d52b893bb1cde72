"""The pictures of one trained VAE."""
import torch
from matplotlib.figure import Figure
from torch import Tensor

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.data import Batches, Splits
from pyrovae.diagnostics import kl_per_dim

Pair = tuple[pv.Model, pv.Guide]


@torch.no_grad()
def draw_figures(model: pv.Model, guide: pv.Guide, test: Batches, history: pv.History, splits: Splits,
                 device: torch.device) -> dict[str, Figure]:
    """Every picture that the data allow: image pictures for images, the others for vectors too."""
    was_training = model.training, guide.training
    model.eval(), guide.eval()
    data = test.to(device)
    encoded = [guide.nodes["z"](batch).mean for batch in data]
    z = torch.cat(encoded)
    kl = kl_per_dim(model, guide, data)
    most_active = tuple(kl.argsort(descending=True)[:2].tolist())
    figures = {"curves": plots.curves(history.columns()), "kl_per_dim": plots.kl_per_dim(kl, threshold=0.01)}
    if len(most_active) == 2:
        figures["latent_scatter"] = plots.latent_scatter(z[:5000].cpu(), _labels(test, 5000), dims=most_active)
    if len(splits.event_shape) == 3 and splits.event_shape[0] in (1, 3):
        figures |= _images(model, data, z, splits.levels, most_active)
    model.train(was_training[0]), guide.train(was_training[1])
    return figures


def _images(model: pv.Model, data: Batches, z: Tensor, levels: int | None, dims: tuple[int, ...]) -> dict[str, Figure]:
    def decode(z: Tensor) -> Tensor:
        return mean_pixels(model.nodes["x"]({"z": z}), levels).clamp(0, 1).cpu()

    x = data.data.tensors["x"]
    top = (levels - 1) if x.max() > 1 else 1
    prior = model.nodes["z"]({}).expand([64])
    pick = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:20].to(x.device)
    figures = {"reconstructions": plots.reconstructions((x[pick] / top).cpu(), decode(z[pick])),
               "samples": plots.samples(decode(prior.sample()), title="Means of p(x | z) at draws from the prior"),
               "interpolation": plots.interpolation(torch.stack([
                   decode(plots.interpolate(z[a], z[b], 10)) for a, b in pick[:min(10, len(pick) // 2 * 2)].view(-1, 2).tolist()]))}
    if len(dims) == 2:
        dims = (0, 1) if z.shape[-1] == 2 else dims
        grid = plots.prior_grid(15, z.shape[-1], dims=dims).to(z)
        figures["manifold"] = plots.manifold(decode(grid), 15, dims=dims)
    return figures


def mean_pixels(fn: torch.distributions.Distribution, levels: int | None) -> Tensor:
    """E[x | z] as pixels in [0, 1]; a categorical knows no mean, so its levels are averaged here."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    if isinstance(fn, torch.distributions.Categorical):
        return fn.probs @ torch.linspace(0, 1, levels).to(fn.probs)
    return fn.mean


def _labels(test: Batches, count: int) -> Tensor | None:
    return test.data.tensors["y"][:count].cpu() if "y" in test.data.tensors else None
