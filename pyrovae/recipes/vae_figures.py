"""The figures of one trained VAE."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from matplotlib.figure import Figure
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.core.types import base_of
from pyrovae.data import Batches, Splits
from pyrovae.diagnostics.active_units import kl_per_dim
from pyrovae.heads import DeltaHead
from pyrovae.priors import Flat, StandardNormal
from pyrovae.recipes.conditions import Task
from pyrovae.recipes.latent_figures import of_trained

Values = dict[str, Tensor]
AUTOENCODER = {
    "ELBO": "log p(x | z) + log p(z)",
    "Reconstruction": "log p(x | z)",
    "KL": "-log p(z)",
}
DRAWS = 50
"""Samples whose average replaces the mean of a distribution without one in closed form."""


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
            + _others(lowest.shape[1], "\n", "not shown"),
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


def codes(guide: pv.Guide, batch: Values) -> Values:
    """Posterior means of the latent variables, each conditioned on the means of its parents."""
    values = dict(batch)
    for name, node in guide.nodes.items():
        result = node(values)
        values[name] = mean_of(result) if isinstance(node, pv.Node) else result
    return {name: values[name] for name, node in guide.nodes.items() if isinstance(node, pv.Node)}


def mean_of(fn: torch.distributions.Distribution) -> Tensor:
    """The mean (of a categorical, that of its levels), or else the average of samples."""
    base = _base_of(fn)
    if isinstance(base, torch.distributions.Categorical):
        return base.probs @ torch.arange(base.probs.shape[-1]).to(base.probs)
    try:
        return fn.mean
    except (AttributeError, NotImplementedError):
        return torch.stack([cast(TorchDistributionMixin, fn)() for _ in range(DRAWS)]).mean(0)


def _base_of(fn: torch.distributions.Distribution) -> torch.distributions.Distribution:
    """The distribution of single elements."""
    while (inner := base_of(fn)) is not None:
        fn = inner
    return fn


class Painter:
    """Decodes latent variables into pixels for figures."""

    def __init__(
        self,
        model: pv.Model,
        splits: Splits,
        task: Task | None,
        kind: str = "posterior means",
    ) -> None:
        """kind: what stands for a datum in latent space."""
        self.kind = kind
        self.model, self.task, self.levels, self.event_shape = (
            model,
            task,
            splits.levels,
            tuple(splits.event_shape),
        )
        self.top = (
            float(splits.levels - 1)
            if splits.levels and splits.test.tensors["x"].max() > 1
            else 1.0
        )

    def decode(self, given: Mapping[str, Tensor], num: int | None = None) -> Tensor:
        """Mean pixels `(..., C, H, W)`; latent variables that are not given are sampled from the model."""
        values = dict(given)
        for name, node in self.model.nodes.items():
            if name not in values and isinstance(node, pv.Node) and name != "x":
                fn = node(values)
                values[name] = fn(
                    torch.Size([num]) if num is not None and not fn.batch_shape else torch.Size()
                )
        x = mean_pixels(self.model.nodes["x"](values), self.levels, self.top)
        if self.task:
            x = self.task.image(x, values["c"])
        elif x.shape[-len(self.event_shape) :] != self.event_shape:  # a likelihood of vectors
            x = x.unflatten(-1, self.event_shape)
        return x.clamp(0, 1).cpu()

    def images(self, data: Batches, z: Values, dims: tuple[int, ...]) -> dict[str, Figure]:
        x = data.data.tensors["x"]
        x = x.reshape(len(x), *self.event_shape)
        pick = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:20].to(x.device)
        chosen = {name: value[pick] for name, value in z.items()}
        pairs, names = _pairs(
            data.data.tensors["y"][pick].tolist()
            if "y" in data.data.tensors
            else [None] * len(pick)
        )
        top = list(self.model.nodes)[0]
        figures = {
            "reconstructions": plots.reconstructions(
                (x[pick] / self.top).cpu(),
                self.decode(chosen),
                title=f"Test data, and the mean of p(x | z) at their {self.kind}",
            ),
        }
        flat = isinstance(cast(pv.Node, self.model.nodes[top]).conditional, Flat)
        if not flat:
            figures["samples"] = plots.samples(
                self.decode({}, num=64), title="Means of p(x | z) at draws from the prior"
            )
        if pairs:
            figures["interpolation"] = plots.interpolation(
                torch.stack(
                    [
                        self.decode(
                            {
                                name: plots.interpolate(value[a], value[b], 10)
                                for name, value in chosen.items()
                            }
                        )
                        for a, b in pairs
                    ]
                ),
                labels=names,
                title=f"Means of p(x | z) on straight lines between {self.kind} of test data",
            )
        if "y" in data.data.tensors and len(z) == 1:
            figures |= self.arithmetic(z[top], data.data.tensors["y"])
        if len(dims) == 2 and len(z) == 1 and not flat:
            dims = (0, 1) if z[top].shape[-1] == 2 else dims
            grid = plots.prior_grid(15, z[top].shape[-1], dims=dims).to(z[top])
            figures["manifold"] = plots.manifold(
                self.decode({top: grid}),
                15,
                dims=dims,
                title=f"Means of p(x | z) over a plane of z{_others(z[top].shape[-1], '; ', 'at 0')}",
            )
        return figures

    def arithmetic(self, z: Tensor, y: Tensor) -> dict[str, Figure]:
        """Each row decodes z + t (mean of class b - mean of class a) for one datum of class a."""
        classes = y.unique().tolist()
        if len(classes) < 2:
            return {}
        rows, names = [], []
        for a, b in list(zip(classes, classes[1:] + classes[:1]))[:6]:
            step = z[y == b].mean(0) - z[y == a].mean(0)
            start = z[y == a][0]
            rows.append(
                self.decode({"z": start + torch.linspace(0, 1.25, 10).to(z)[:, None] * step})
            )
            names.append(f"{a} to {b}")
        return {
            "label_arithmetic": plots.interpolation(
                torch.stack(rows),
                labels=names,
                title="Means of p(x | z) from a test datum on, by up to 1.25 times the difference of class means",
            )
        }

    def answers(self, data: Batches, z: Values, task: Task, count: int = 10) -> dict[str, Figure]:
        """Several samples for each condition: a row for each class, or for each condition c with
        the true image at its end."""
        if task.name == "label":
            classes = task.num_classes
            c = torch.eye(classes).to(z["z"]).repeat_interleave(count, 0)
            title, given = "Means of p(x | z, c) at draws of z, one class a row", {}
            prior = cast(pv.Node, self.model.nodes["z"])
            if "c" not in prior.parents:
                given = {"z": prior({})(torch.Size([count])).repeat(classes, 1)}
                title = "Means of p(x | z, c), one class a row, one draw of z a column"
            return {
                "classes": plots.image_grid(
                    self.decode({"c": c, **given}, num=len(c)), columns=count, title=title
                )
            }
        x, c = (data.data.tensors[name][:count] for name in ("x", "c"))
        truths = (task.image(x, c) / self.top).cpu()
        # conditions of the user's own are no images
        own = task.name == "own"
        questions = [] if own else [(task.question(c) / self.top).cpu().unsqueeze(1)]
        draws = 8
        answers = self.decode({"c": c.repeat_interleave(draws, 0)}, num=len(c) * draws).reshape(
            len(c), draws, *self.event_shape
        )
        columns = [*questions, answers, truths.unsqueeze(1)]
        shown = "Given, " if questions else "In each row for one c: "
        return {
            "answers": plots.image_grid(
                torch.cat(columns, dim=1).flatten(0, 1),
                columns=draws + len(columns) - 1,
                title=f"{shown}{draws} answers p(x | z, c) at draws of z, the truth",
            )
        }


def mean_pixels(fn: torch.distributions.Distribution, levels: int | None, top: float) -> Tensor:
    """E[x | z] as pixels in [0, 1]; for a categorical, the mean of its levels."""
    base = _base_of(fn)
    if isinstance(base, torch.distributions.Categorical):
        return base.probs @ torch.linspace(0, 1, levels).to(base.probs)
    return mean_of(fn) / top


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


def _others(num_latents: int, joint: str, fate: str) -> str:
    return f"{joint}other dimensions {fate}" if num_latents > 2 else ""


def _pairs(classes: list[int | None]) -> tuple[list[tuple[int, int]], list[str] | None]:
    """At most five pairs of data to interpolate between, of different classes if these are known,
    and their labels."""
    left = list(range(len(classes)))
    pairs: list[tuple[int, int]] = []
    while len(left) > 1 and len(pairs) < 5:
        first = left.pop(0)
        second = next(
            (other for other in left if None in classes or classes[other] != classes[first]), None
        )
        if second is not None:
            left.remove(second)
            pairs.append((first, second))
    if not pairs and len(classes) > 1:  # all data are of one class
        return [(0, 1)], None
    return pairs, None if None in classes else [f"{classes[a]} to {classes[b]}" for a, b in pairs]


def _labels(test: Batches, count: int) -> Tensor | None:
    return test.data.tensors["y"][:count].cpu() if "y" in test.data.tensors else None
