"""Figures of the latent space of one layer, for training and for embed.py: posteriors against the
prior, and traversals."""

from collections.abc import Callable
from typing import cast

import torch
from matplotlib.figure import Figure
from torch import Tensor

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.core.preserve_state import preserve_state
from pyrovae.data import Batches
from pyrovae.priors import Flat

SHOWN, CURVES, POSTERIOR_DRAWS = 20, 10, 1000
"""Data whose posteriors are drawn, as ellipses and as curves, and draws from each."""
PANELS, GRID, PRIOR_DRAWS = 6, 201, 10_000
"""Dims with a panel; points of a grid along one dim; draws for the density of a prior."""
ROWS, STEPS, FARTHEST = 10, 9, 2.5
"""Dims and steps of traversals, and how far they go, in standard deviations of the prior."""
Decode = Callable[[Tensor], Tensor]
"""Codes `(M, D)` -> images `(M, C, H, W)`."""


def of_trained(
    model: pv.Model,
    guide: pv.Guide,
    test: Batches,
    codes: Tensor,
    information: Tensor,
    decode: Decode | None,
) -> dict[str, Figure]:
    """`posteriors` of some test data and, where z can be decoded into images, `traversals`, of a
    model with one latent site z. codes: `(N, D)`, means of all test data."""
    rows = torch.randperm(len(test.data), generator=torch.Generator().manual_seed(0))[:SHOWN]
    tensors = test.data.tensors
    batch = {name: value[rows.to(value.device)] for name, value in tensors.items()}
    with preserve_state([model, guide], training=False, seed=0):
        drawn = pv.predict(model, guide, batch, num_samples=POSTERIOR_DRAWS, sites=["z"])["z"]
    y = batch["y"].cpu() if "y" in batch else None
    figures = posteriors(model.nodes["z"], drawn, information.cpu(), y, what="test data")
    if decode is not None:
        is_point = not bool(drawn.std(0).any())
        figures["traversals"] = traversals(
            decode, codes[rows[0]], information, codes, own_scale=is_point
        )
    return figures


def posteriors(
    prior: object, draws: Tensor, information: Tensor, y: Tensor | None, *, what: str
) -> dict[str, Figure]:
    """{"posteriors": a figure} of q(z | x) of data by `draws` from it, `(K, N, D)`: for two dims
    ellipses of its mean and covariance, else normals of mean and scale in the dims of most
    `information`, `(D,)`. Nothing for codes without spread, and where the prior has no density
    or depends on other variables.

    what: the kind of data, in words. No random stream moves.
    """
    if not isinstance(prior, pv.Node) or prior.parents or isinstance(prior.conditional, Flat):
        return {}
    draws = draws.detach().cpu()
    mean, scale = draws.mean(0), draws.std(0)
    if len(draws) < 2 or not (scale > 0).all():
        return {}
    if mean.shape[1] == 2:
        return {"posteriors": _ellipses(prior, draws, y, what)}
    dims = information.argsort(descending=True)[:PANELS].tolist()
    mean, scale, y = mean[:CURVES], scale[:CURVES], None if y is None else y[:CURVES]
    reach = max(3.5, float((mean[:, dims].abs() + 2 * scale[:, dims]).max()))
    grid = torch.linspace(-reach, reach, GRID)
    figure = plots.posterior_densities(
        mean[:, dims],
        scale[:, dims],
        y,
        prior=_marginals(prior, dims, grid),
        grid=grid,
        dims=dims,
        title=f"q(z | x) of {len(mean)} {what} and the prior, {_some(dims, mean.shape[1])}",
    )
    return {"posteriors": figure}


def traversals(
    decode: Decode, start: Tensor, information: Tensor, codes: Tensor, *, own_scale: bool
) -> Figure:
    """Means of p(x | z) from the code of a datum, `start` `(D,)`, with one dim changed at a time, the
    dims of most `information` first: each from -2.5 to 2.5 or, for `own_scale` (an autoencoder's
    codes), over 2.5 standard deviations of `codes` `(N, D)` about their mean."""
    dims = information.argsort(descending=True)[:ROWS].tolist()
    steps = torch.linspace(-FARTHEST, FARTHEST, STEPS).to(start)
    centre, spread = torch.zeros_like(start), torch.ones_like(start)
    ways = f"from -{FARTHEST} to {FARTHEST}"
    if own_scale:
        centre, spread = codes.mean(0), codes.std(0, correction=0)
        ways = f"over {FARTHEST} standard deviations of the codes"
    paths = [_moved(start, dim, centre[dim] + spread[dim] * steps) for dim in dims]
    return plots.image_grid(
        decode(torch.stack(paths).flatten(0, 1)),
        columns=STEPS,
        title=f"Each row: one dim {ways}, the others fixed; dims {', '.join(map(str, dims))}",
    )


def _ellipses(prior: pv.Node, draws: Tensor, y: Tensor | None, what: str) -> Figure:
    mean, centred = draws.mean(0), draws - draws.mean(0)
    covariance = torch.einsum("kni,knj->nij", centred, centred) / (len(draws) - 1)
    reach = max(3.0, float((mean.abs() + 2.2 * draws.std(0)).max()))
    line = torch.linspace(-reach, reach, GRID)
    second, first = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack([first, second], -1).reshape(-1, 2)
    with torch.no_grad():
        log_density = prior({}).log_prob(points.to(_device(prior))).reshape(GRID, GRID).cpu()
    return plots.posterior_ellipses(
        mean,
        covariance,
        y,
        prior=log_density.exp(),
        reach=reach,
        title=f"q(z | x) of {len(mean)} {what}, 1 and 2 standard deviations",
    )


def _marginals(prior: pv.Node, dims: list[int], grid: Tensor) -> Tensor:
    """Densities of single dims, `(len(dims), G)`: exact for a standard normal, else a kernel
    estimate by draws."""
    if isinstance(prior.conditional, pv.priors.StandardNormal):
        return torch.exp(-0.5 * grid**2).div((2 * torch.pi) ** 0.5).expand(len(dims), -1)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        draws = prior({})(torch.Size([PRIOR_DRAWS])).cpu()[:, dims]
    width = 1.06 * draws.std(0) * PRIOR_DRAWS**-0.2
    each = torch.distributions.Normal(draws.T.unsqueeze(-1), width[:, None, None])
    return each.log_prob(grid).exp().mean(1)


def _device(prior: pv.Node) -> torch.device:
    tensors = (*prior.parameters(), *prior.buffers())
    return cast(Tensor, tensors[0]).device if tensors else torch.device("cpu")


def _some(dims: list[int], size: int) -> str:
    return "all dims" if len(dims) == size else f"the {len(dims)} most used of {size} dims"


def _moved(start: Tensor, dim: int, values: Tensor) -> Tensor:
    path = start.repeat(len(values), 1)
    path[:, dim] = values
    return path
