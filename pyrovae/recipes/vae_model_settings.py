"""The model and the guide of a VAE."""

import dataclasses
from typing import Annotated, Literal

from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, Range, Scale, Widths
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.setting_rules import OnlyWith, Several

Prior = Literal["standard", "mixture", "vamp", "flow", "conditional", "laplace", "flat"]
Guide = Literal[
    "diagonal",
    "full-rank",
    "low-rank",
    "mixture",
    "iaf",
    "maf",
    "spline",
    "coupling",
    "planar",
    "point",
]
NETS_OF_FLOWS = ("iaf", "spline", "maf", "coupling")
SCALED = ("normal", "normal-learned", "normal-predicted", "low-rank-normal", "student-t")


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """Likelihood, prior, guide and networks."""

    likelihood: Literal[
        "bernoulli",
        "autoregressive-bernoulli",
        "continuous-bernoulli",
        "beta",
        "normal",
        "normal-learned",
        "normal-predicted",
        "low-rank-normal",
        "student-t",
        "categorical",
        "logistic-mixture",
        "poisson",
        "negative-binomial",
    ] = "bernoulli"
    """p(x | z). bernoulli: pixels in {0, 1}; autoregressive-bernoulli: each given the ones before it.
    continuous-bernoulli and beta: densities on [0, 1] and (0, 1). normal: one fixed scale;
    -learned: one learned scale; -predicted: a scale for each pixel; low-rank-normal: correlated
    pixels. categorical: a probability for each grey level; logistic-mixture: the same by a
    discretised mixture. poisson, negative-binomial: counts."""
    scale: Annotated[Scale, OnlyWith(likelihood=SCALED)] = 0.1
    """Standard deviation of the normal likelihood, in units of the data; the lower bound for
    normal-predicted, low-rank-normal and student-t (on constant pixels densities are unbounded),
    and the initial value for normal-learned."""
    likelihood_components: Annotated[
        Count, OnlyWith(likelihood=("logistic-mixture", "low-rank-normal"))
    ] = 5
    """Components of the mixture; factors of the covariance."""

    prior: Prior = "standard"
    """p(z). standard: N(0, I). mixture: of normals, learned. vamp: of the encoder's posteriors at
    pseudo-inputs. flow: a normalising flow. conditional: a normal whose mean and scale are
    predicted from --condition. laplace: sparse codes. flat: no prior (with --guide point alone:
    reconstruction is all that counts)."""
    laplace_scale: Annotated[Scale, OnlyWith(prior="laplace")] = 1.0
    """Scale of the Laplace prior; with --guide point 1 / scale is the weight of the L1 penalty."""
    prior_components: Annotated[Count, OnlyWith(prior=("mixture", "vamp"))] = 500
    """Number of components."""
    vamp_inputs: Annotated[Literal["learned", "fixed"], OnlyWith(prior="vamp")] = "learned"
    """Pseudo-inputs are initialised at training data; learned: trained; fixed: kept."""
    vamp_weights: Annotated[bool, OnlyWith(prior="vamp")] = False
    """Also learn the weights of the components."""
    prior_flow: Annotated[
        Literal["coupling", "autoregressive", "spline"], OnlyWith(prior="flow")
    ] = "coupling"
    """Affine coupling (RealNVP), affine autoregressive (MAF), or rational-quadratic splines,
    autoregressive (NSF)."""
    prior_transforms: Annotated[Count, OnlyWith(prior="flow")] = 4
    """Number of steps."""
    prior_hidden: Annotated[tuple[Count, ...], OnlyWith(prior="flow")] = (128, 128)
    """Hidden widths of the network of each step."""

    guide: Guide = "diagonal"
    """q(z | x): a normal (diagonal, full-rank, low-rank), a mixture of diagonal normals, or a flow
    on the diagonal normal: iaf (inverse autoregressive, affine), spline (the same with splines),
    maf (autoregressive: slow draws), coupling, planar. point: a deterministic code, which makes an
    autoencoder; its objective is no bound on log p(x)."""
    guide_components: Annotated[Count, OnlyWith(guide=("mixture", "low-rank"))] = 5
    """Number of components, or of factors."""
    guide_transforms: Annotated[Count, OnlyWith(guide=(*NETS_OF_FLOWS, "planar"))] = 2
    """Number of steps."""
    guide_hidden: Annotated[tuple[Count, ...], OnlyWith(guide=NETS_OF_FLOWS)] = (64, 64)
    """Hidden widths of the network of each step."""
    guide_context: Annotated[Count, OnlyWith(guide=NETS_OF_FLOWS)] = 64
    """Size of the context vector of x that conditions the flow steps."""

    corrupt: Literal["none", "noise", "mask"] = "none"
    """In training the encoder sees x with normal noise, or with elements set to 0 (denoising
    autoencoders); the likelihood scores the clean x."""
    corrupt_level: Annotated[
        float, Range(0, 1, above=True), OnlyWith(corrupt=("noise", "mask"))
    ] = 0.3
    """Standard deviation of the noise in units of the data, or the probability of a 0."""

    net: Literal["mlp", "gated", "conv"] = "mlp"
    """Fully connected, the same with gates, or stride-2 convolutions (images only)."""
    latent_dim: Widths = (2,)
    """Dimension of z. Several numbers make a hierarchy, starting with the layer next to the data:
    --latent-dim 100 50."""
    hidden: tuple[Count, ...] = (256, 256)
    """Widths of the encoder's hidden layers (channels for conv); the decoder mirrors them."""
    upper_hidden: Annotated[
        tuple[Count, ...], OnlyWith(latent_dim=Several(), prior="conditional")
    ] = (
        100,
        100,
    )
    """Hidden widths of the networks between the latent layers of a hierarchy, and of the network
    of the conditional prior."""
    ladder: bool = False
    """For hierarchies: top-down inference that combines the bottom-up posterior with the
    generative one by precision weighting (ladder VAE); otherwise bottom-up inference."""
    activation: Literal["tanh", "relu", "silu", "elu"] = "tanh"

    def __post_init__(self) -> None:
        bounds.check(self)
        if not self.hidden and self.net == "conv":
            raise Refusal("--hidden takes at least one number with --net conv.")
        if not self.upper_hidden and self.ladder:
            raise Refusal("--upper-hidden takes at least one number with --ladder.")

    @property
    def layers(self) -> list[str]:
        """Names of the latent sites, starting with the one next to the data."""
        count = len(self.latent_dim)
        return ["z"] if count == 1 else [f"z{i + 1}" for i in range(count)]

    @property
    def hierarchical(self) -> bool:
        return len(self.latent_dim) > 1
