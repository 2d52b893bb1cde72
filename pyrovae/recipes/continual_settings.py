"""The settings of continual learning."""

import dataclasses
from typing import Annotated, Literal

from pyrovae.bnn import priors as weight_priors
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, FromZero, Positive, Range, Scale, Seed, Threads, Widths
from pyrovae.recipes.continual_tasks import PAIRS, Problem
from pyrovae.recipes.uses import Naming, NotWith, Only

PAIRED = NotWith(
    f"is more than there are: ten classes make {PAIRS} tasks",
    of=Range(PAIRS + 1),
    problem=("split-mnist", "split-digits"),
)
STREAM = Only(problem="regression-stream")
CORESET = Only(methods=Naming("vcl-coreset"))


@dataclasses.dataclass(frozen=True)
class ContinualSettings:
    problem: Problem = "permuted-digits"
    """permuted-*: ten classes, pixels in another order each time. split-*: 0 or 1, then 2 or 3,
    ..., a head for each of five tasks. regression-stream: the parts of one set, in turn."""
    tasks: Annotated[int, Range(1, 1000), PAIRED] = 10
    """Tasks, or parts of the regression set (of the split problems at most 5)."""
    dataset: Annotated[str, STREAM] = "diabetes"
    """The set: diabetes, gap (a 1-D toy), the name of a UCI set under the data root, or a PATH: an
    .npz with x and y, or a folder in the UCI layout."""
    sort_by: Annotated[FromZero | None, STREAM] = None
    """Let the set arrive sorted by this feature (0, 1, ...), not in random order."""
    hidden: Widths = (100, 100)
    epochs: Count = 15
    """For each task."""
    batch_size: Count = 256
    lr: Positive = 5e-3
    """Adam's at the start of each task; it falls to 0 along a cosine."""
    coreset: Annotated[Count | None, CORESET] = None
    """Random points of each task that it keeps for the end; by default 200, or a quarter of the
    smallest task where that is less."""
    coreset_epochs: Annotated[Count, CORESET] = 50
    init_scale: Scale = 1e-2
    """Initial standard deviation of weights that no earlier task has seen."""
    prior_scale: Scale = 1.0
    """Weights are N(0, scale^2) before the first task."""
    num_samples: Count = 10
    """Draws of the weights in every prediction."""
    seed: Seed = 0
    device: str = "auto"
    threads: Threads | None = None
    compile: Literal["auto", "on", "off"] = "auto"
    """Capture the training step as one compiled graph; auto: where four minutes lie ahead after
    one epoch."""

    def __post_init__(self) -> None:
        bounds.check(self)

    @property
    def weight_prior(self) -> weight_priors.WeightPrior:
        return weight_priors.normal(self.prior_scale)
