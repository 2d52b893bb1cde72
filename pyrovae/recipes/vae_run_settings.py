"""Training of a VAE, and where its run is kept."""

import dataclasses
from typing import Annotated, Literal

from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, FromZero, OutFolder, Positive, Range, Seed, Threads
from pyrovae.recipes.uses import NotWith


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Optimisation, scoring, machine and folder."""

    epochs: Count = 200
    batch_size: Count = 100
    lr: Positive = 1e-3
    """Adam's learning rate."""
    lr_decay_epochs: FromZero = 0
    """Over how many last epochs the learning rate falls to lr * lr_decay, geometrically."""
    lr_decay: Annotated[
        float, Range(0, 1, above=True), NotWith("says nothing", lr_decay_epochs=(0,))
    ] = 0.1
    clip_norm: Positive | None = None
    """Largest gradient norm."""
    patience: Count | None = None
    """Stop after so many epochs without a better validation ELBO, and keep the best weights."""
    eval_particles: Count = 1000
    """K for the log p(x) reported at the end; evaluate.py takes more."""
    eval_data: Count = 1000
    """At most so many test data for it, chosen at random."""
    seed: Seed = 0
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""
    threads: Threads | None = None
    """CPU threads; by default torch's choice, but one for batches so small that threads cost more
    than they save."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Capture the training step as one compiled graph; auto: where four minutes lie ahead after
    one epoch."""
    precision: Literal["32", "tf32", "bf16"] = "32"
    """tf32: matrix products of a GPU in TensorFloat-32. bf16: nets in bfloat16 under autocast
    (CUDA), densities and weights in float32."""
    tensorboard: bool = False
    """Also write TensorBoard event files (needs the tensorboard package)."""
    out: OutFolder | None = None
    """The run's folder; by default runs/DATASET-DATE-TIME."""
    resume: bool = False
    """Go on with the run in --out from its last checkpoint; --epochs counts from its beginning."""

    def __post_init__(self) -> None:
        bounds.check(self)
