"""The settings that the scripts for Bayesian neural networks share."""
import dataclasses
from typing import ClassVar, Literal

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
EXPLAINED = "\n".join(f"{name}: {words}" for name, words in METHODS.items())


@dataclasses.dataclass(frozen=True)
class BnnSettings:
    GROUPS: ClassVar[dict[str, str]] = {"dataset": "data", "hidden": "model", "init_scale": "method", "steps": "run"}

    dataset: str = "diabetes"
    """diabetes, digits (both ship with scikit-learn), mnist, fashion-mnist, kmnist, gap (a 1-D toy), the name of a UCI set
    under the data root, or a PATH: an .npz with x and y (whole numbers are classes), a folder of images in one subfolder a
    class, a folder of IDX files named as MNIST's, or a folder in the UCI layout."""
    splits: int | None = None
    """Use the first so many splits of a regression set (all by default; 20 are made where the set has none)."""
    valid_fraction: float = 0.0
    """Share of the training part held out, for choosing settings."""

    hidden: tuple[int, ...] = (50,)
    """Widths of the hidden layers."""
    activation: Literal["relu", "tanh", "silu"] = "relu"
    noise: Literal["shared", "input"] = "shared"
    """Regression noise: one inferred variance for all data, or a second output of the net (input-dependent)."""
    prior: Literal["fan-in", "normal"] = "normal"
    """fan-in: N(0, scale^2 / inputs) on weights and N(0, scale^2) on biases; normal: N(0, scale^2) on both. bbb-mixture and
    bbb-hierarchical bring their own."""
    prior_scale: float = 1.0
    """The scale in --prior."""
    mixture: tuple[float, float, float] = (0.5, 1.0, 0.0025)
    """bbb-mixture: pi, wide and narrow scale of the prior."""
    hierarchical: tuple[float, float] = (1.0, 10.0)
    """bbb-hierarchical: alpha and beta of the inverse gamma on the prior's variances."""

    init_scale: float = 0.02
    """bbb*, radial: initial standard deviation of the weights."""
    local_reparameterization: bool = True
    """bbb*, *-dropout: draw weight noise (and dropout masks) for each datum in training."""
    temperature: float = 1.0
    """Weight of the KL against the data (below 1: a cold posterior, no Bayesian one)."""
    rate: float = 0.05
    """mc-dropout: probability of dropping an input of a layer; concrete-dropout: where it starts."""
    members: int = 5
    """ensemble: number of networks."""
    adversarial: float = 0.0
    """ensemble: also train on inputs moved by so much (of a feature's standard deviation) along the gradient's sign."""
    swag_rank: int = 20
    """swag: rank of the low-rank part of the covariance."""
    laplace: Literal["full", "last-layer", "diagonal"] = "full"
    """laplace: curvature of all weights, of the last layer, or its diagonal."""
    sampler_lr: float | None = None
    """sgld, sghmc: rate, in the units of SGD on the loss per datum; by default 0.01 for regression, 0.05 for classes."""
    draws: int = 50
    """sgld, sghmc, hmc: draws that are kept."""
    hmc_samples: int = 200
    """hmc: trajectories after the warm-up."""
    hmc_warmup: int = 300
    """hmc: trajectories that only find the step size."""
    hmc_leapfrogs: int = 50
    """hmc: gradient steps in a trajectory."""

    steps: int = 5000
    """Gradient steps of each network (whole epochs, rounded up)."""
    batch_size: int = 64
    lr: float = 1e-2
    """Adam's; it falls to 0 along a cosine."""
    seeds: int = 1
    """Networks with different initialisation and noise for each split; results are averaged over all."""
    seed: int = 0
    num_samples: int = 100
    """Draws of the weights in every prediction."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""
    threads: int | None = None
    """CPU threads; one by default."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Capture the training step as one compiled graph; auto: where four minutes lie ahead after one epoch."""
