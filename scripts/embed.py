"""Encode data with a trained VAE: an .npz of codes, what can be read off them, and pictures.

    python scripts/embed.py runs/DIR DATA --out codes.npz

DATA is a named set (its test part), or a file or folder of rows as the run's own. Writes mean and
scale of q(z | x), the nearest neighbours of each datum in latent space and, where there are labels,
y; prints how well they can be predicted from the codes. Pictures beside it: map, posteriors of some
data against the prior, traversals, neighbours, and a walk along each --attribute.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import command_line
import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from progress import say
from script_context import script_context

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, NpzFile, Seed
from pyrovae.recipes.embedding import Map, information_of, nearest, plane, probe
from pyrovae.recipes.latent_figures import (
    POSTERIOR_DRAWS,
    ROWS,
    SHOWN,
    STEPS,
    posteriors,
    traversals,
)
from pyrovae.recipes.new_data import NewData, Split, read_data, split_of
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import write_arrays
from pyrovae.recipes.trained_vae import Codes, TrainedVae


@dataclasses.dataclass(frozen=True)
class Embedding:
    folder: Annotated[Path, tyro.conf.Positional]
    """The folder of a run of train_vae.py."""
    data: Annotated[str, tyro.conf.Positional]
    """A named set (digits, mnist, fashion-mnist, kmnist, binarized-mnist), or the path of an .npy,
    .npz, .csv or IDX file, or of a folder of images."""
    split: Split | None = None
    """Of a named set: the part to encode, by default test."""
    out: NpzFile = Path("codes.npz")
    """The .npz file to write; pictures have its name with -map.png and so on."""
    neighbours: Count = 10
    """Nearest neighbours of each datum."""
    map: Map = "active"
    """Of more than two latent dims, what the map shows: the two of largest KL, the first two
    principal components, or t-SNE."""
    attribute: tuple[str, ...] = ()
    """Labels of the training data, such as y=3: the direction in latent space towards them, walked
    from data without it."""
    max_data: Count | None = None
    """At most so many data, chosen at random."""
    seed: Seed = 0
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""

    def __post_init__(self) -> None:
        bounds.check(self)


def main(e: Embedding) -> Path:
    run = pv.load_run(e.folder, device=e.device)
    if not isinstance(run, TrainedVae):
        raise Refusal(f"{e.folder} holds no run of train_vae.py, whose latent codes it embeds.")
    directions = {name: run.attribute(name) for name in e.attribute}
    data = read_data(e.data, split=split_of(e.split, e.data), columns=run.columns).sample(
        e.max_data, e.seed
    )
    codes = run.encode(data.x, c=_given(run, data), num_draws=20, seed=e.seed)
    order = nearest(codes.mean, e.neighbours) if len(data) > 1 else None
    arrays = {"mean": codes.mean, "scale": codes.scale}
    arrays |= {} if order is None else {"neighbours": order}
    arrays |= {f"attribute_{name}": direction for name, direction in directions.items()}
    labels = {} if data.y is None else {"y": data.y}
    write_arrays(e.out, {name: value.numpy() for name, value in arrays.items()} | labels)
    say(f"{len(data)} data of {data.name}, {codes.mean.shape[1]} latent dims; codes in {e.out}")
    if data.y is not None:
        for kind, name in (("knn", "5 nearest neighbours"), ("linear", "linear probe")):
            found = probe(codes.mean, torch.from_numpy(data.y), kind=kind, seed=e.seed)
            say(f"{name}: accuracy {found or 'unknown, some class has less than 5 data'}")
    figures = _figures(e, run, data, codes, order, directions)
    named = {f"{e.out.stem}-{name}": figure for name, figure in figures.items()}
    say("pictures: " + ", ".join(map(str, plots.save(named, e.out.parent).values())))
    return e.out


def _figures(
    e: Embedding,
    run: TrainedVae,
    data: NewData,
    codes: Codes,
    order: torch.Tensor | None,
    directions: dict[str, torch.Tensor],
) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    information = information_of(codes.mean, codes.scale)
    if codes.mean.shape[1] >= 2 and len(data) >= 5:
        places, axes, what = plane(codes.mean[:5000], information, e.map, seed=e.seed)
        figures["map"] = plots.latent_scatter(
            places,
            None if data.y is None else data.y[:5000],
            standard_prior=run.settings.model.prior == "standard" and e.map == "active",
            title=f"Means of q(z | x) of {len(places)} data of {data.name}:\n{what}",
        )
        figures["map"].axes[0].set(xlabel=axes[0], ylabel=axes[1])
    order_of_data = torch.randperm(len(data), generator=torch.Generator().manual_seed(e.seed))
    figures |= _posteriors(e, run, data.rows(order_of_data[:SHOWN].numpy()), information)
    if not (run.layout.is_image and run.layout.event_shape[0] in (1, 3)) or run.task is not None:
        return figures
    chosen = order_of_data[:ROWS]
    if order is not None:
        rows = torch.cat([chosen[:, None], order[chosen]], dim=1)
        seen = run.layout.to_user(run.layout.to_model(data.rows(rows.flatten().numpy()).x))
        figures["neighbours"] = plots.image_grid(
            seen,
            columns=rows.shape[1],
            title="Each row: a datum, and the data whose codes are nearest to its own",
        )
    figures["traversals"] = traversals(
        run.decode,
        codes.mean[chosen[0]],
        information,
        codes.mean,
        own_scale=run.settings.model.guide == "point",
    )
    for name, direction in directions.items():
        without = codes.mean[_without(name, data)][:ROWS]
        ends = torch.linspace(0, 1.5, STEPS)[:, None] * direction
        figures[f"attribute-{name.replace('=', '-')}"] = plots.image_grid(
            run.decode(without[:, None] + ends).flatten(0, 1),
            columns=STEPS,
            title=f"Codes of data without {name}, plus 0 to 1.5 times its direction",
        )
    return figures


def _posteriors(
    e: Embedding, run: TrainedVae, data: NewData, information: torch.Tensor
) -> dict[str, Figure]:
    draws = run.encode(data.x, c=_given(run, data), num_draws=POSTERIOR_DRAWS, seed=e.seed).draws
    y = None if data.y is None else torch.from_numpy(data.y)
    prior = run.model.nodes[run.site]
    return posteriors(prior, draws, information, y, what=f"data of {data.name}")


def _given(run: TrainedVae, data: NewData) -> np.ndarray | None:
    return data.y if run.settings.data.condition == "label" else data.c


def _without(name: str, data: NewData) -> np.ndarray:
    key, _, value = name.partition("=")
    if key != "y" or data.y is None:
        return np.arange(len(data))
    return np.flatnonzero(data.y != int(value))


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Embedding, __doc__))
