"""Images that a trained VAE decodes, for its figures."""

from collections.abc import Mapping
from typing import cast

import torch
from matplotlib.figure import Figure
from torch import Tensor

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.data import Batches, Splits
from pyrovae.priors import Flat
from pyrovae.recipes.conditions import Task
from pyrovae.recipes.vae_means import Values, mean_pixels


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
        pairs, names = pairs_of(
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
                title=f"Means of p(x | z) over a plane of z{others(z[top].shape[-1], '; ', 'at 0')}",
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


def others(num_latents: int, joint: str, fate: str) -> str:
    """What becomes of the dims that a picture of two leaves out; empty where there are none."""
    return f"{joint}other dimensions {fate}" if num_latents > 2 else ""


def pairs_of(classes: list[int | None]) -> tuple[list[tuple[int, int]], list[str] | None]:
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
