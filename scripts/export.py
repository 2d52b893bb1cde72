"""Write the encoder and the decoder of a trained VAE, or the prediction of a Bayesian net, for other
programs.

    python scripts/export.py runs/DIR --format onnx --out exported

encoder: x -> mean and scale of q(z | x); decoder: z -> means of p(x | z); predictor: rows in their own
units -> mean and standard deviations, or class probabilities and entropies, as predict.py gives them,
with all draws of the weights in the graph. Beside them FORMAT.json: names, shapes, layouts and units of
what they take and give. All take any number of rows, and are held against the original on test data
before they are written.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal, cast

import command_line
import tyro
from progress import say
from script_context import script_context

import pyrovae as pv
from pyrovae.recipes import bounds
from pyrovae.recipes.bnn_export import export_predictor
from pyrovae.recipes.bounds import Count, OutFolder, Seed
from pyrovae.recipes.graph_export import Written, export
from pyrovae.recipes.graph_formats import FORMATS, Format
from pyrovae.recipes.loaded_run import LoadedRun
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.trained_bnn import TrainedBnn
from pyrovae.recipes.trained_deep_vae import TrainedDeepVae
from pyrovae.recipes.trained_vae import TrainedVae


@dataclasses.dataclass(frozen=True)
class Exporting:
    folder: Annotated[Path, tyro.conf.Positional]
    """The folder of a run of train_vae.py or train_bnn.py."""
    format: Literal["onnx", "torch-export"] = "onnx"
    """onnx: one .onnx file each, which needs onnx, onnxscript and onnxruntime; torch-export: .pt2
    files for torch.export.load."""
    out: OutFolder = Path("exported")
    """The folder to write to."""
    max_data: Count = 1000
    """At most so many test data to hold the files against the original."""
    num_samples: Count | None = None
    """Of Bayesian nets: draws of the weights in the graph; by default as many as predict.py takes."""
    seed: Seed = 0
    """Of the draws of the weights."""

    def __post_init__(self) -> None:
        bounds.check(self)


def main(e: Exporting) -> Path:
    run = pv.load_run(e.folder)
    if isinstance(run, TrainedVae) and (e.num_samples is not None or e.seed):
        raise Refusal(
            "--num-samples and --seed are for Bayesian nets: a VAE is exported without draws."
        )
    file_format = FORMATS[e.format]()
    for written in _export(e, run, file_format):
        size = written.path.stat().st_size / 1e6
        say(
            f"{written.path}: {size:.2f} MB, differs from the original by at most {written.difference:.1g} "
            f"over {written.num_data} rows"
        )
    if isinstance(run, TrainedVae) and not run.is_exact:
        say("no encoder: the mean of q(z | x) of this guide has no closed form")
    say(f"what is taken and given: {e.out / file_format.name}.json")
    return e.out


def _export(e: Exporting, run: LoadedRun, file_format: Format) -> list[Written]:
    if isinstance(run, TrainedDeepVae):
        raise Refusal(f"{e.folder} holds a deep VAE, which is not exported; use pv.load_run.")
    if isinstance(run, TrainedVae):
        return export(run, file_format, e.out, max_data=e.max_data)
    return export_predictor(
        cast(TrainedBnn, run),
        file_format,
        e.out,
        num_samples=e.num_samples,
        seed=e.seed,
        max_data=e.max_data,
    )


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Exporting, __doc__))
