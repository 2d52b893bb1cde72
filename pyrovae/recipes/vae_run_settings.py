"""Training and evaluation of a VAE, and the folder of its run."""

import dataclasses
from typing import Annotated, Literal

from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, FromZero, OutFolder, Positive, Range, Seed, Threads
from pyrovae.recipes.setting_rules import NotWith


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Optimisation, evaluation, hardware and output folder."""

    epochs: Count = 200
    batch_size: Count = 100
    lr: Positive = 1e-3
    """Adam's learning rate."""
    lr_decay_epochs: FromZero = 0
    """Number of final epochs over which the learning rate decays geometrically to lr * lr_decay."""
    lr_decay: Annotated[
        float, Range(0, 1, above=True), NotWith("has no effect", lr_decay_epochs=(0,))
    ] = 0.1
    clip_norm: Positive | None = None
    """Maximum gradient norm."""
    patience: Count | None = None
    """Stop after this many epochs without improvement of the validation ELBO, and keep the best
    weights."""
    eval_particles: Count = 1000
    """K of the log p(x) reported at the end; evaluate.py has a larger default."""
    eval_data: Count = 1000
    """Maximum number of test data for it, chosen at random."""
    seed: Seed = 0
    device: str = "auto"
    """auto (CUDA if available), cpu, cuda, cuda:1, ..."""
    threads: Threads | None = None
    """CPU threads; by default torch's choice, and one for small batches, for which threads cost more
    than they save."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Capture and compile the training step; auto: if more than four minutes remain after the
    first epoch."""
    precision: Literal["32", "tf32", "bf16"] = "32"
    """tf32: GPU matrix products in TensorFloat-32. bf16: networks in bfloat16 under autocast;
    densities and parameters stay in float32."""
    tensorboard: bool = False
    """Also write TensorBoard event files (needs the tensorboard package)."""
    track: Literal["none", "wandb", "mlflow"] = "none"
    """Also send settings, history and figures to Weights & Biases or MLflow (needs that package)."""
    out: OutFolder | None = None
    """Folder of the run; by default runs/DATASET-DATE-TIME."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint; --epochs counts all its epochs."""

    def __post_init__(self) -> None:
        bounds.check(self)
