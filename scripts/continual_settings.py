"""The settings of continual learning."""
import dataclasses
from typing import Literal

from continual_tasks import Problem

from pyrovae import weight_priors


@dataclasses.dataclass(frozen=True)
class ContinualSettings:
    problem: Problem = "permuted-digits"
    """permuted-*: ten classes, pixels in another order each time. split-*: 0 or 1, then 2 or 3, ..., a head for each of five
    tasks. regression-stream: the parts of one set, in turn."""
    tasks: int = 10
    """Tasks, or parts of the regression set (of the split problems at most 5)."""
    dataset: str = "diabetes"
    """The set of the regression stream: diabetes, or the name of a UCI set under the data root."""
    sort_by: int | None = None
    """Let the regression set arrive sorted by this feature (0, 1, ...), not in random order."""
    hidden: tuple[int, ...] = (100, 100)
    epochs: int = 15
    """For each task."""
    batch_size: int = 256
    lr: float = 5e-3
    """Adam's at the start of each task; it falls to 0 along a cosine."""
    coreset: int = 200
    """Random points of each task that vcl-coreset keeps for the end."""
    coreset_epochs: int = 50
    init_scale: float = 1e-2
    """Initial standard deviation of weights that no earlier task has seen."""
    prior_scale: float = 1.0
    """Weights are N(0, scale^2) before the first task."""
    num_samples: int = 10
    """Draws of the weights in every prediction."""
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    compile: Literal["auto", "on", "off"] = "auto"
    """Capture the training step as one compiled graph; auto: where four minutes lie ahead after one epoch."""

    @property
    def weight_prior(self) -> weight_priors.WeightPrior:
        return weight_priors.normal(self.prior_scale)
