"""Explore a trained VAE in the browser: one HTML file that needs no network and no library.

    python scripts/explore.py runs/DIR --out explorer.html

Sliders for the latent dims, a map of test data to press on, draws from the prior, walks, directions
of classes, and the reconstruction of a drawing, all computed in the page from the run's weights.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import command_line
import tyro
from progress import say
from script_context import script_context

import pyrovae as pv
from pyrovae.core.atomic_write import write_atomically
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, HtmlFile, Seed
from pyrovae.recipes.explorer.page import page_of
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.trained_vae import TrainedVae


@dataclasses.dataclass(frozen=True)
class Exploration:
    folder: Annotated[Path, tyro.conf.Positional]
    """The folder of a run of train_vae.py."""
    out: HtmlFile = Path("explorer.html")
    """The .html file to write."""
    max_data: Count = 1000
    """At most so many test data on the map, chosen at random."""
    seed: Seed = 0

    def __post_init__(self) -> None:
        bounds.check(self)


def main(e: Exploration) -> Path:
    run = pv.load_run(e.folder)
    if not isinstance(run, TrainedVae):
        raise Refusal(f"{e.folder} holds a Bayesian neural network, which has no latent code.")
    page = page_of(run, max_data=e.max_data, seed=e.seed)
    write_atomically(e.out, page.text.encode())
    say(f"{e.out}: {page.size / 1e6:.2f} MB, weights as {page.numbers.name}")
    if page.numbers.bits < 32:
        say(
            f"rounding changes decoded values by at most {page.decoded:.1g}, codes by {page.encoded:.1g}"
        )
    if not run.is_exact:
        say("no drawing: the mean of q(z | x) of this guide has no closed form")
    return e.out


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Exploration, __doc__))
