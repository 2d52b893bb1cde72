"""Write the encoder and the decoder of a trained VAE for other programs.

    python scripts/export.py runs/DIR --format onnx --out exported

encoder: x -> mean and scale of q(z | x); decoder: z -> means of p(x | z). Beside them FORMAT.json: names,
shapes, layouts and units of what they take and give. Both take any number of rows, and are held
against the original on test data before they are written.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import command_line
import tyro
from progress import say
from script_context import script_context

import pyrovae as pv
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, OutFolder
from pyrovae.recipes.graph_export import export
from pyrovae.recipes.graph_formats import FORMATS
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.trained_vae import TrainedVae


@dataclasses.dataclass(frozen=True)
class Exporting:
    folder: Annotated[Path, tyro.conf.Positional]
    """The folder of a run of train_vae.py."""
    format: Literal["onnx", "torch-export"] = "onnx"
    """onnx: one .onnx file each, which needs onnx, onnxscript and onnxruntime; torch-export: .pt2
    files for torch.export.load."""
    out: OutFolder = Path("exported")
    """The folder to write to."""
    max_data: Count = 1000
    """At most so many test data to hold the files against the original."""

    def __post_init__(self) -> None:
        bounds.check(self)


def main(e: Exporting) -> Path:
    run = pv.load_run(e.folder)
    if not isinstance(run, TrainedVae):
        raise Refusal(
            f"{e.folder} holds a Bayesian neural network; expected a run of train_vae.py."
        )
    file_format = FORMATS[e.format]()
    for written in export(run, file_format, e.out, max_data=e.max_data):
        size = written.path.stat().st_size / 1e6
        say(
            f"{written.path}: {size:.2f} MB, differs from the original by at most {written.difference:.1g} "
            f"over {written.num_data} rows"
        )
    if not run.is_exact:
        say("no encoder: the mean of q(z | x) of this guide has no closed form")
    say(f"what they take and give: {e.out / file_format.name}.json")
    return e.out


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Exporting, __doc__))
