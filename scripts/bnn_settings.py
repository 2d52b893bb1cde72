"""The settings that the scripts for Bayesian neural networks share."""
import dataclasses
from typing import Literal

METHODS = ("map", "bbb", "bbb-mixture", "bbb-hierarchical", "radial", "mc-dropout", "concrete-dropout", "ensemble", "swag",
           "laplace", "sgld", "sghmc", "hmc")

Method = Literal["map", "bbb", "bbb-mixture", "bbb-hierarchical", "radial", "mc-dropout", "concrete-dropout", "ensemble",
                 "swag", "laplace", "sgld", "sghmc", "hmc"]


@dataclasses.dataclass(frozen=True)
class BnnSettings:
    dataset: str = "diabetes"
    """diabetes, digits (both ship with scikit-learn), mnist, gap (a 1-D toy), the name of a UCI set under the data root, or
    a PATH: an .npz with x and y (whole numbers are classes), or a folder in the UCI layout."""
    splits: int | None = None
    """Use the first so many splits of a regression set (all by default; 20 are made where the set has none)."""
    seeds: int = 1
    """Networks with different initialisation and noise for each split; results are averaged over all."""
    seed: int = 0
    hidden: tuple[int, ...] = (50,)
    activation: Literal["relu", "tanh", "silu"] = "relu"
    noise: Literal["shared", "input"] = "shared"
    """Regression noise: one inferred variance for all data, or a second output of the net (input-dependent)."""
    steps: int = 5000
    """Gradient steps of each network (whole epochs, rounded up)."""
    batch_size: int = 64
    lr: float = 1e-2
    """Adam's; it falls to 0 along a cosine."""
    sampler_lr: float | None = None
    """Rate of SGLD and SGHMC, in the units of SGD on the loss per datum; default 0.01 for regression, 0.05 for classes."""
    prior: Literal["fan-in", "normal"] = "normal"
    """fan-in: N(0, scale^2 / inputs) on weights and N(0, scale^2) on biases; normal: N(0, scale^2) on both. bbb-mixture and
    bbb-hierarchical bring their own."""
    prior_scale: float = 1.0
    mixture: tuple[float, float, float] = (0.5, 1.0, 0.0025)
    """pi, wide and narrow scale of the mixture prior."""
    hierarchical: tuple[float, float] = (1.0, 10.0)
    """alpha and beta of the inverse gamma on the variances of bbb-hierarchical."""
    init_scale: float = 0.02
    """Initial standard deviation of variational weights."""
    local_reparameterization: bool = True
    """Draw weight noise (and dropout masks) for each datum in training."""
    temperature: float = 1.0
    """Weight of the KL against the data (below 1: a cold posterior, no Bayesian one)."""
    rate: float = 0.05
    """Probability of dropping an input of a layer."""
    members: int = 5
    """Networks of an ensemble."""
    adversarial: float = 0.0
    """Ensembles: also train on inputs moved by so much (of a feature's standard deviation) along the gradient's sign."""
    swag_rank: int = 20
    laplace: Literal["full", "last-layer", "diagonal"] = "full"
    """Curvature of all weights, of the last layer, or its diagonal."""
    draws: int = 50
    """Draws that sgld, sghmc and hmc keep."""
    hmc_samples: int = 200
    hmc_warmup: int = 300
    hmc_leapfrogs: int = 50
    num_samples: int = 100
    """Draws of the weights in every prediction."""
    valid_fraction: float = 0.0
    """Share of the training part held out, for choosing settings."""
    device: str = "auto"
    threads: int | None = None
    compile: Literal["auto", "on", "off"] = "auto"
    """Capture the training step as one compiled graph; auto: where four minutes lie ahead after one epoch."""
