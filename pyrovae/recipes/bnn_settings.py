"""The settings of the scripts for Bayesian neural networks."""

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
from pyrovae.recipes.setting_rules import OnlyWith

Probability = Annotated[float, Range(0, 1, above=True, below=True)]


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """The data set and its splits."""

    dataset: str = "diabetes"
    """diabetes, digits (both ship with scikit-learn), mnist, fashion-mnist, kmnist, gap (a 1-D
    toy), the name of a UCI set under the data root, or a PATH: an .npz with x and y (whole numbers
    are classes), a folder of images in one subfolder a class, a folder of IDX files named as
    MNIST's, a folder in the UCI layout, or a table, .csv or .tsv, with --target."""
    target: str | None = None
    """The column of a table to predict from the others."""
    task: Literal["auto", "regression", "classification"] = "auto"
    """Of a table; auto: whole numbers with at most 20 distinct values are classes."""
    splits: Networks | None = None
    """Number of splits of a regression set to use (default: all; 20 random ones if the set defines
    none)."""
    valid_fraction: Share = 0.0
    """Fraction of the training data held out for validation."""

    def __post_init__(self) -> None:
        bounds.check(self)


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """The network, its likelihood and the prior of its weights."""

    net: Literal["mlp", "lenet", "resnet8", "resnet20"] = "mlp"
    """mlp: linear layers of --hidden; lenet and resnet, for images, convolutions, the latter with group
    norms in place of batch norms."""
    hidden: Annotated[tuple[Count, ...], OnlyWith(net=("mlp",))] = (50,)
    """Widths of the hidden layers of mlp."""
    activation: Literal["relu", "tanh", "silu"] = "relu"
    noise: Literal["shared", "input"] = "shared"
    """Regression noise: one inferred variance for all data (shared), or a second output of the
    network (input)."""
    prior: Literal["fan-in", "normal"] = "normal"
    """fan-in: N(0, scale^2 / inputs) on weights and N(0, scale^2) on biases; normal: N(0, scale^2)
    on both. bbb-mixture and bbb-hierarchical have priors of their own."""
    prior_scale: Scale = 1.0
    """The scale in --prior."""
    mixture: tuple[Probability, Scale, Scale] = (
        0.5,
        1.0,
        0.0025,
    )
    """pi, wide scale and narrow scale of the mixture prior."""
    hierarchical: tuple[Scale, Scale] = (1.0, 10.0)
    """alpha and beta of the inverse-gamma hyperprior of the weight variances."""

    def __post_init__(self) -> None:
        bounds.check(self)


@dataclasses.dataclass(frozen=True)
class InferenceSettings:
    """Settings of the methods."""

    init_scale: Scale = 0.02
    """Initial posterior standard deviation of the weights."""
    local_reparameterization: bool = True
    """Sample weight noise (or dropout masks) for each datum in training."""
    temperature: NotNegative = 1.0
    """Weight of the KL; below 1: a cold posterior, which is not the Bayesian one. Not for
    samplers and laplace."""
    rate: Probability | None = None
    """Dropout probability of the inputs of each layer, its initial value if it is learned; by default
    0.01 for regression, 0.05 for classification."""
    members: Networks = 5
    """Number of networks in the ensemble."""
    adversarial: NotNegative = 0.0
    """Size of the adversarial perturbation (fast gradient sign) of additional training inputs, in
    standard deviations of a feature."""
    swag_rank: Annotated[int, Range(2)] = 20
    """Rank of the low-rank part of the covariance."""
    laplace: Literal["full", "kron", "low-rank", "last-layer", "last-layer-kron", "diagonal"] = (
        "kron"
    )
    """Curvature: kron, a Kronecker product for each layer (nets of any size); full, of all weights
    together (up to some thousands); low-rank, the --laplace-rank leading directions; diagonal;
    last-layer and last-layer-kron, full and kron of the last layer alone."""
    laplace_rank: Count = 50
    """Directions of --laplace low-rank."""
    prior_fit: Literal["none", "after", "during", "held-out"] = "after"
    """Precision of the prior and noise by Laplace's evidence: after training, the weights being
    fixed; during, also in the course of training, which goes on under that prior; held-out, after
    training, the precisions then times one factor by log p of the data of --valid-fraction; none,
    as --prior-scale says."""
    prior_groups: Literal["one", "layer"] = "layer"
    """Precisions that --prior-fit fits: one, or one for each layer."""
    sampler_lr: Positive | None = None
    """Learning rate of the sampler, in units of SGD on the loss per datum; by default 0.01 for
    regression, 0.3 for classification."""
    draws: Count = 50
    """Number of weight samples to keep, of each chain."""
    chains: Networks = 1
    """Number of Markov chains of each network, each from an optimum of its own; of several, R-hat and
    the effective sample size (ESS) of log p of the test data are reported."""
    hmc_samples: Count = 200
    """Number of trajectories after the warm-up; of fewer than --draws, each is kept."""
    hmc_warmup: FromZero = 300
    """Number of warm-up trajectories, which adapt the step size."""
    hmc_leapfrogs: Count = 50
    """Leapfrog steps in each trajectory."""
    nuts_depth: Annotated[int, Range(1, 12)] = 7
    """Maximum depth of a tree of NUTS, of up to 2^depth - 1 leapfrog steps."""
    random_walk_steps: Count = 20_000
    """Steps after a warm-up of half as many."""

    def __post_init__(self) -> None:
        bounds.check(self)


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Optimisation, prediction and hardware."""

    steps: Count = 5000
    """Gradient steps of each network, rounded up to full epochs."""
    batch_size: Count = 64
    lr: Positive = 1e-2
    """Learning rate of Adam, with cosine decay to 0."""
    seeds: Networks = 1
    """Number of networks with different initialisation and noise for each split; results are
    averaged over all of them."""
    seed: Seed = 0
    num_samples: Count = 100
    """Weight samples in every prediction."""
    device: str = "auto"
    """auto (CUDA if available), cpu, cuda, cuda:1, ..."""
    threads: Threads | None = None
    """CPU threads; 1 by default."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Capture and compile the training step; auto: if more than four minutes remain after the
    first epoch."""

    def __post_init__(self) -> None:
        bounds.check(self)


@dataclasses.dataclass(frozen=True)
class BnnSettings:
    """All settings except the method. Names are unique across the parts, so that flags and
    `nesting.build` use them without a prefix."""

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
