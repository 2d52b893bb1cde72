"""Graphs written in a format of other programs, each held against the original."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn as nn
from torch import Tensor

import pyrovae
from pyrovae.core.atomic_write import write_atomically
from pyrovae.recipes.graph_formats import Format
from pyrovae.recipes.graphs import Decoder, Encoder, units
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import write_result
from pyrovae.recipes.single_latent import codes_and_draws, refuse_others
from pyrovae.recipes.trained_vae import TrainedVae

TOLERANCE = 1e-5
"""Largest difference from the original, in its unit, or relative where values exceed 1."""
LAYOUTS = {1: "batch", 2: "batch, feature", 4: "batch, channel, height, width"}


@dataclasses.dataclass(frozen=True)
class Graph:
    """A graph to be written. names: of its input, then of its outputs, with the units of each.
    rows: inputs to hold it against the original. expected: what the run gives for them. unit: of
    the outputs, by which differences are divided; without it by values beyond 1."""

    name: str
    module: nn.Module
    names: Mapping[str, str]
    rows: Tensor
    expected: tuple[Tensor, ...]
    unit: Tensor | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(self.names)[1:]

    def difference(self, found: Tensor, expected: Tensor) -> float:
        unit = expected.abs().clamp(min=1) if self.unit is None else self.unit
        return float(((found - expected).abs() / unit).max())


@dataclasses.dataclass(frozen=True)
class Written:
    """A file of a graph, and its largest difference from the original over `num_data` rows."""

    path: Path
    difference: float
    num_data: int


def export(
    run: TrainedVae, file_format: Format, folder: Path, *, max_data: int = 1000
) -> list[Written]:
    """Write `decoder` (z -> means of p(x | z)), `encoder` (x -> mean and scale of q(z | x); left
    out where these have no closed form) and a JSON file named as the format, which says what they
    take and give.

    Each is run on at most `max_data` test data, in batches of several sizes, and nothing is written
    unless all agree with the original to `TOLERANCE`.

    Raises: Refusal for hierarchies, conditional models, a likelihood whose mean has no closed form,
    and where a graph does not agree.
    """
    refuse_others(run)
    return write_graphs(_graphs(run, max_data), _facts(run), file_format, folder)


def write_graphs(
    graphs: Sequence[Graph], facts: Mapping[str, object], file_format: Format, folder: Path
) -> list[Written]:
    """Write the graphs, and a JSON file named as the format with `facts` and what they take and
    give; nothing is written unless all agree with the original.

    Raises: Refusal where one does not.
    """
    contents = [
        file_format.write(
            _frozen(graph.module), torch.zeros_like(graph.rows[:2]), tuple(graph.names)
        )
        for graph in graphs
    ]
    differences = [
        largest_difference(graph, content, file_format)
        for graph, content in zip(graphs, contents, strict=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    written = [
        Written(folder / f"{graph.name}{file_format.suffix}", difference, len(graph.rows))
        for graph, difference in zip(graphs, differences, strict=True)
    ]
    for one, content in zip(written, contents, strict=True):
        write_atomically(one.path, content)
    described = {
        graph.name: _described(graph, one) for graph, one in zip(graphs, written, strict=True)
    }
    write_result(
        folder / f"{file_format.name}.json",
        {**_versions(file_format), **facts, "tolerance": TOLERANCE, "graphs": described},
        files=[one.path for one in written],
    )
    return written


def largest_difference(graph: Graph, content: bytes, file_format: Format) -> float:
    """Of all outputs of the written graph, for all rows, for one row and for three. Raises: Refusal
    beyond `TOLERANCE`."""
    run, worst = file_format.load(content), 0.0
    for rows in (slice(None), slice(1), slice(3)):
        found = run(graph.rows[rows].contiguous())
        for name, one, other in zip(graph.outputs, found, graph.expected, strict=True):
            other = other[rows]
            difference = graph.difference(one, other) if one.shape == other.shape else float("nan")
            if not difference <= TOLERANCE:  # NaN too
                raise Refusal(
                    f"the {graph.name} written as {file_format.suffix} gives {name} of shape {tuple(one.shape)} "
                    f"with a difference of {difference:.1g} from the original, expected {tuple(other.shape)} and "
                    f"at most {TOLERANCE:g}; nothing is written."
                )
            worst = max(worst, difference)
    return worst


def _graphs(run: TrainedVae, max_data: int) -> list[Graph]:
    x = run.layout.to_user(run.data("test").data.tensors["x"][:max_data])
    codes, what = run.encode(x, num_draws=1 if run.is_exact else 20), units(run.layout)
    z = codes_and_draws(run, codes.mean)
    means = "means of p(x | z), in units of the data as stored: images in [0, 1]"
    names = {"z": "latent", "x": means}
    decoder = Graph("decoder", Decoder(run), names, z, (run.decode(z),))
    if not run.is_exact:
        return [decoder]
    expected = codes.mean, codes.scale
    names = {"x": what, "mean": "latent", "scale": "latent"}
    return [Graph("encoder", Encoder(run), names, x, expected), decoder]


def _frozen(module: nn.Module) -> nn.Module:
    """A copy on the CPU, in eval mode, without gradients."""
    return copy.deepcopy(module).cpu().eval().requires_grad_(False)


def _facts(run: TrainedVae) -> dict[str, object]:
    model = run.settings.model
    return {
        "data": run.run["data"]["name"],
        "likelihood": model.likelihood,
        "prior": model.prior,
        "guide": model.guide,
        "latent_dim": model.latent_dim[0],
    }


def _versions(file_format: Format) -> dict[str, object]:
    facts = file_format.facts()
    versions = {"pyrovae": pyrovae.__version__, **facts.pop("versions")}  # type: ignore[dict-item]
    return {**facts, "versions": versions}


def _described(graph: Graph, written: Written) -> dict[str, object]:
    tensors = (graph.rows, *graph.expected)
    ports = [
        {
            "name": name,
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": ["batch", *tensor.shape[1:]],
            "layout": LAYOUTS[tensor.dim()],
            "units": unit,
        }
        for (name, unit), tensor in zip(graph.names.items(), tensors, strict=True)
    ]
    return {
        "file": written.path.name,
        "inputs": ports[:1],
        "outputs": ports[1:],
        "largest_difference": written.difference,
        "num_data": written.num_data,
    }
