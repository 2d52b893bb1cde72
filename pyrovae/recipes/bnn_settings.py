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
from pyrovae.recipes.uses import NotWith, Only

METHODS = {
    "map": "the most probable weights, a point estimate",
    "bbb": "Bayes by backprop, a normal for each weight",
    "bbb-mixture": "the same under a prior that mixes a wide and a narrow normal (Blundell et al.)",
    "bbb-hierarchical": "the same with prior variances that are inferred too",
    "radial": "bbb with weights at a random distance along a random direction",
    "mc-dropout": "inputs of layers dropped at random, in prediction too",
    "concrete-dropout": "the same at rates that are learned",
    "ensemble": "--members networks, each a map of its own",
    "swag": "a normal fitted to the weights that SGD visits",
    "laplace": "a normal at the mode, by the curvature there",
    "sgld": "Langevin dynamics on minibatches",
    "sghmc": "the same with momentum",
    "hmc": "Hamiltonian Monte Carlo on all data: slow, and the nearest to exact",
}
"""Method -> what it is, in the words of `--help`."""

Method = Literal[tuple(METHODS)]
Probability = Annotated[float, Range(0, 1, above=True, below=True)]
BBB = ("bbb", "bbb-mixture", "bbb-hierarchical")
DROPOUT = ("mc-dropout", "concrete-dropout")
SAMPLERS = ("sgld", "sghmc")
OWN_PRIOR = NotWith("says nothing: that method brings a prior of its own", method=BBB[1:])
OWN_RATE = NotWith("says nothing: samplers take --sampler-lr", method=SAMPLERS)
EXPLAINED = "\n".join(f"{name}: {words}" for name, words in METHODS.items())


@dataclasses.dataclass(frozen=True)
class BnnSettings:
    GROUPS: ClassVar[dict[str, str]] = {
        "dataset": "data",
        "hidden": "model",
        "init_scale": "method",
        "steps": "run",
    }

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

    hidden: tuple[Count, ...] = (50,)
    """Widths of the hidden layers."""
    activation: Literal["relu", "tanh", "silu"] = "relu"
    noise: Literal["shared", "input"] = "shared"
    """Regression noise: one inferred variance for all data, or a second output of the net
    (input-dependent)."""
    prior: Annotated[Literal["fan-in", "normal"], OWN_PRIOR] = "normal"
    """fan-in: N(0, scale^2 / inputs) on weights and N(0, scale^2) on biases; normal: N(0, scale^2)
    on both. bbb-mixture and bbb-hierarchical bring their own."""
    prior_scale: Annotated[Scale, OWN_PRIOR] = 1.0
    """The scale in --prior."""
    mixture: Annotated[tuple[Probability, Scale, Scale], Only(method="bbb-mixture")] = (
        0.5,
        1.0,
        0.0025,
    )
    """pi, wide and narrow scale of the prior."""
    hierarchical: Annotated[tuple[Scale, Scale], Only(method="bbb-hierarchical")] = (1.0, 10.0)
    """alpha and beta of the inverse gamma on the prior's variances."""

    init_scale: Annotated[Scale, Only(method=(*BBB, "radial"))] = 0.02
    """Initial standard deviation of the weights."""
    local_reparameterization: Annotated[bool, Only(method=(*BBB, *DROPOUT))] = True
    """Draw weight noise (and dropout masks) for each datum in training."""
    temperature: NotNegative = 1.0
    """Weight of the KL against the data (below 1: a cold posterior, no Bayesian one)."""
    rate: Annotated[Probability, Only(method=DROPOUT)] = 0.05
    """Probability of dropping an input of a layer, or where it starts."""
    members: Annotated[Networks, Only(method="ensemble")] = 5
    """Number of networks."""
    adversarial: Annotated[NotNegative, Only(method="ensemble")] = 0.0
    """Also train on inputs moved by so much (of a feature's standard deviation) along the
    gradient's sign."""
    swag_rank: Annotated[Count, Only(method="swag")] = 20
    """Rank of the low-rank part of the covariance."""
    laplace: Annotated[Literal["full", "last-layer", "diagonal"], Only(method="laplace")] = "full"
    """Curvature of all weights, of the last layer, or its diagonal."""
    sampler_lr: Annotated[Positive | None, Only(method=SAMPLERS)] = None
    """Rate, in the units of SGD on the loss per datum; by default 0.01 for regression, 0.05 for
    classes."""
    draws: Annotated[Count, Only(method=(*SAMPLERS, "hmc", "swag"))] = 50
    """Draws that are kept."""
    hmc_samples: Annotated[Count, Only(method="hmc")] = 200
    """Trajectories after the warm-up."""
    hmc_warmup: Annotated[FromZero, Only(method="hmc")] = 300
    """Trajectories that only find the step size."""
    hmc_leapfrogs: Annotated[Count, Only(method="hmc")] = 50
    """Gradient steps in a trajectory."""

    steps: Count = 5000
    """Gradient steps of each network (whole epochs, rounded up)."""
    batch_size: Count = 64
    lr: Annotated[Positive, OWN_RATE] = 1e-2
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
