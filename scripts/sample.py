"""Draw from a trained VAE: an .npz with an array x, and a sheet of pictures where x are images.

python scripts/sample.py runs/DIR --num 1000 --out samples.npz
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import command_line
import numpy as np
import torch
import tyro
from progress import say
from script_context import script_context

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.data.csv_table import is_csv, read_text_table
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, FromZero, NpzFile, Seed
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import read_arrays, write_arrays
from pyrovae.recipes.trained_deep_vae import TrainedDeepVae
from pyrovae.recipes.trained_vae import Kind, TrainedVae

SHEET = 100


@dataclasses.dataclass(frozen=True)
class Sampling:
    folder: Annotated[Path, tyro.conf.Positional]
    """The folder of a run of train_vae.py or train_deep_vae.py."""
    num: Count = 100
    """How many samples."""
    out: NpzFile = Path("samples.npz")
    """The .npz file to write; the sheet has its name with .png."""
    means: bool = False
    """The means of p(x | z) at draws of z, in place of draws of x."""
    label: FromZero | None = None
    """For models of --condition label: the class to draw."""
    given: str | None = None
    """For models of --condition own: an .npz with c, and for columns of a table a .csv or .tsv file with
    them; sample i is given row i, and the first row again after the last."""
    seed: Seed = 0
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""

    def __post_init__(self) -> None:
        bounds.check(self)


def main(s: Sampling) -> Path:
    run = pv.load_run(s.folder, device=s.device)
    kind: Kind = "mean" if s.means else "draw"
    c = None
    if isinstance(run, TrainedVae):
        c = _given(s, run)
        x = run.sample(s.num, kind=kind, c=c, seed=s.seed)
        is_image = run.layout.is_image
    elif isinstance(run, TrainedDeepVae):
        if s.label is not None or s.given is not None:
            raise Refusal("a deep VAE takes no condition; leave out --label and --given.")
        x, is_image = run.sample(s.num, kind=kind, seed=s.seed), True
    else:
        raise Refusal(f"{s.folder} holds a Bayesian neural network, which generates no x.")
    arrays = {"x": x.numpy()} | ({} if c is None else {"c" if s.label is None else "y": c})
    write_arrays(s.out, arrays)
    written = str(s.out)
    if is_image and x.shape[1] in (1, 3):
        sheet = s.out.with_suffix(".png")
        what = "Means of p(x | z) at draws from the prior" if s.means else "Draws from p(x)"
        figure = plots.samples(x[:SHEET].clamp(0, 1), title=what)
        plots.save({sheet.stem: figure}, sheet.parent)
        written += f" and {sheet}"
    say(
        f"{s.num} samples x {tuple(x.shape[1:])} of {run.path}, range {_range(x)}; written to {written}"
    )
    return s.out


def _given(s: Sampling, run: TrainedVae) -> np.ndarray | None:
    """What each sample is given."""
    if s.label is not None and s.given is not None:
        raise Refusal("--label and --given are for models of different kinds; give one.")
    if s.given is None:
        return None if s.label is None else np.full(s.num, s.label)
    path = Path(s.given).expanduser()
    if run.columns is not None and is_csv(path):
        return _repeated(run.columns.read_given(read_text_table(path)), s.num)
    wrong = f"--given {s.given}: expected an .npz with rows c, (N, C)."
    try:
        arrays = read_arrays(path)
    except Refusal as error:
        raise Refusal(wrong) from error
    if "c" not in arrays or arrays["c"].ndim not in (1, 2) or not len(arrays["c"]):
        raise Refusal(wrong)
    return _repeated(arrays["c"].reshape(len(arrays["c"]), -1), s.num)


def _repeated(rows: np.ndarray, num: int) -> np.ndarray:
    return rows[np.arange(num) % len(rows)]


def _range(x: torch.Tensor) -> str:
    return f"[{float(x.min()):.4g}, {float(x.max()):.4g}]"


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Sampling, __doc__))
