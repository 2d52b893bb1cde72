"""The settings of continual learning."""

import dataclasses
from typing import Annotated, Literal

from pyrovae.bnn import priors as weight_priors
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, FromZero, Positive, Range, Scale, Seed, Threads, Widths
from pyrovae.recipes.continual_tasks import PAIRS, Problem
from pyrovae.recipes.setting_rules import Naming, NotWith, OnlyWith

PAIRED = NotWith(
    f"exceeds the number of tasks: ten classes make {PAIRS} tasks",
    of=Range(PAIRS + 1),
    problem=("split-mnist", "split-digits"),
)
STREAM = OnlyWith(problem="regression-stream")
CORESET = OnlyWith(methods=Naming("vcl-coreset"))


@dataclasses.dataclass(frozen=True)
class ContinualSettings:
    problem: Problem = "permuted-digits"
    """permuted-*: ten classes, with another permutation of the pixels in each task. split-*: 0 or
    1, then 2 or 3, ..., five tasks with a head each. regression-stream: consecutive parts of one
    data set."""
    tasks: Annotated[int, Range(1, 1000), PAIRED] = 10
    """Number of tasks, or of parts of the regression set (at most 5 for the split problems)."""
    dataset: Annotated[str, STREAM] = "diabetes"
    """The set: diabetes, gap (a 1-D toy), the name of a UCI set under the data root, or a PATH: an
    .npz with x and y, or a folder in the UCI layout."""
    sort_by: Annotated[FromZero | None, STREAM] = None
    """Sort the data by this feature (0, 1, ...) instead of shuffling them."""
    hidden: Widths = (100, 100)
    epochs: Count = 15
    """Epochs for each task."""
    batch_size: Count = 256
    lr: Positive = 5e-3
    """Adam's learning rate at the start of each task; cosine decay to 0."""
    coreset: Annotated[Count | None, CORESET] = None
    """Size of the random coreset of each task; by default 200, or a quarter of the smallest task if
    that is less."""
    coreset_epochs: Annotated[Count, CORESET] = 50
    init_scale: Scale = 1e-2
    """Initial standard deviation of weights that are new in a task."""
    prior_scale: Scale = 1.0
    """The prior of the first task is N(0, scale^2)."""
    num_samples: Count = 10
    """Weight samples in every prediction."""
    seed: Seed = 0
    device: str = "auto"
    threads: Threads | None = None
    compile: Literal["auto", "on", "off"] = "auto"
    """Capture and compile the training step; auto: if more than four minutes remain after the
    first epoch."""

    def __post_init__(self) -> None:
        bounds.check(self)

    @property
    def weight_prior(self) -> weight_priors.WeightPrior:
        return weight_priors.normal(self.prior_scale)
