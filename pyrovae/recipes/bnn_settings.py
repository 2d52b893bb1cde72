"""The settings that the scripts for Bayesian neural networks share."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import (
    Count,
    FromZero,
    Networks,
    NotNegative,
    Positive,
    Range,
    Scale,
    Seed,
    Share,
    Threads,
)

Probability = Annotated[float, Range(0, 1, above=True, below=True)]


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """What is learned from."""

    dataset: str = "diabetes"
    """diabetes, digits (both ship with scikit-learn), mnist, fashion-mnist, kmnist, gap (a 1-D
    toy), the name of a UCI set under the data root, or a PATH: an .npz with x and y (whole numbers
    are classes), a folder of images in one subfolder a class, a folder of IDX files named as
    MNIST's, or a folder in the UCI layout."""
    splits: Networks | None = None
    """Use the first so many splits of a regression set (all by default; 20 are made where the set
    has none)."""
    valid_fraction: Share = 0.0
    """Share of the training part held out, for choosing settings."""

    def __post_init__(self) -> None:
        bounds.check(self)


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """The net, its likelihood and the prior of its weights."""

    hidden: tuple[Count, ...] = (50,)
    """Widths of the hidden layers."""
    activation: Literal["relu", "tanh", "silu"] = "relu"
    noise: Literal["shared", "input"] = "shared"
    """Regression noise: one inferred variance for all data, or a second output of the net
    (input-dependent)."""
    prior: Literal["fan-in", "normal"] = "normal"
    """fan-in: N(0, scale^2 / inputs) on weights and N(0, scale^2) on biases; normal: N(0, scale^2)
    on both. bbb-mixture and bbb-hierarchical bring their own."""
    prior_scale: Scale = 1.0
    """The scale in --prior."""
    mixture: tuple[Probability, Scale, Scale] = (
        0.5,
        1.0,
        0.0025,
    )
    """pi, wide and narrow scale of the prior."""
    hierarchical: tuple[Scale, Scale] = (1.0, 10.0)
    """alpha and beta of the inverse gamma on the prior's variances."""

    def __post_init__(self) -> None:
        bounds.check(self)


@dataclasses.dataclass(frozen=True)
class InferenceSettings:
    """What single methods take."""

    init_scale: Scale = 0.02
    """Initial standard deviation of the weights."""
    local_reparameterization: bool = True
    """Draw weight noise (and dropout masks) for each datum in training."""
    temperature: NotNegative = 1.0
    """Weight of the KL against the data (below 1: a cold posterior, no Bayesian one)."""
    rate: Probability = 0.05
    """Probability of dropping an input of a layer, or where it starts."""
    members: Networks = 5
    """Number of networks."""
    adversarial: NotNegative = 0.0
    """Also train on inputs moved by so much (of a feature's standard deviation) along the
    gradient's sign."""
    swag_rank: Count = 20
    """Rank of the low-rank part of the covariance."""
    laplace: Literal["full", "last-layer", "diagonal"] = "full"
    """Curvature of all weights, of the last layer, or its diagonal."""
    sampler_lr: Positive | None = None
    """Rate, in the units of SGD on the loss per datum; by default 0.01 for regression, 0.05 for
    classes."""
    draws: Count = 50
    """Draws that are kept."""
    hmc_samples: Count = 200
    """Trajectories after the warm-up."""
    hmc_warmup: FromZero = 300
    """Trajectories that only find the step size."""
    hmc_leapfrogs: Count = 50
    """Gradient steps in a trajectory."""

    def __post_init__(self) -> None:
        bounds.check(self)


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Optimisation, prediction and machine."""

    steps: Count = 5000
    """Gradient steps of each network (whole epochs, rounded up)."""
    batch_size: Count = 64
    lr: Positive = 1e-2
    """Adam's; it falls to 0 along a cosine."""
    seeds: Networks = 1
    """Networks with different initialisation and noise for each split; results are averaged over
    all."""
    seed: Seed = 0
    num_samples: Count = 100
    """Draws of the weights in every prediction."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""
    threads: Threads | None = None
    """CPU threads; one by default."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Capture the training step as one compiled graph; auto: where four minutes lie ahead after
    one epoch."""

    def __post_init__(self) -> None:
        bounds.check(self)


@dataclasses.dataclass(frozen=True)
class BnnSettings:
    """All settings but the method. No two parts have a name in common, so that flags and
    `nesting.build` go by the names alone."""

    GROUPS: ClassVar[dict[str, str]] = {
        "data": "data",
        "model": "model",
        "inference": "method",
        "run": "run",
    }

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    inference: InferenceSettings = InferenceSettings()
    run: RunSettings = RunSettings()
