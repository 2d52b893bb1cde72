"""What can be set about a VAE and its training: the command line of train_vae.py."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import (
    Count,
    FromZero,
    NotNegative,
    OutFolder,
    Positive,
    Range,
    Scale,
    Seed,
    Threads,
    Widths,
)
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.uses import NotWith, Only, Several

Prior = Literal["standard", "mixture", "vamp", "flow", "conditional"]
Guide = Literal[
    "diagonal", "full-rank", "low-rank", "mixture", "iaf", "maf", "spline", "coupling", "planar"
]
Objective = Literal[
    "elbo", "analytic-kl", "score-function", "capacity", "iwae", "stl", "dreg", "renyi"
]
Condition = Literal[
    "none", "label", "quadrants-1", "quadrants-2", "quadrants-3", "noise", "low-resolution"
]

OF_ONE_ELBO = ("elbo", "analytic-kl", "score-function")
NETS_OF_FLOWS = ("iaf", "spline", "maf", "coupling")
SCALED = ("normal", "normal-learned", "normal-predicted", "low-rank-normal", "student-t")
ALONE = NotWith(
    "is the ELBO; give --particles 5, say, or leave --objective out",
    of=("iwae", "renyi"),
    particles=(1,),
)
ONE_DREG = NotWith(
    "is the ELBO without the score of q; give --particles 5, say, or use --objective stl",
    of=("dreg",),
    particles=(1,),
)


@dataclasses.dataclass(frozen=True)
class Settings:
    GROUPS: ClassVar[dict[str, str]] = {
        "dataset": "data",
        "likelihood": "model",
        "objective": "objective",
        "epochs": "run",
    }

    dataset: str = "digits"
    """digits (ships with scikit-learn), mnist, fashion-mnist, kmnist, binarized-mnist
    (Larochelle's fixed binarisation), or a path: .npy, .npz (x, optional y, x_test, y_test,
    x_valid), IDX (MNIST's format, also .gz; one file or a folder named as MNIST's) or a folder of
    images. Tables of numbers go with --likelihood normal-learned. Sets are looked for in
    $PYROVAE_DATA, else in the cache folder, and downloaded there."""
    binarize: Literal["dynamic", "static", "threshold", "none"] | None = None
    """How grey pixels become 0 or 1: drawn anew at each visit, drawn once, cut at 0.5, not at all.
    By default dynamic for the Bernoulli (threshold for the digits, whose pixels count inked cells)
    and none for the other likelihoods. Validation and test data are always drawn once."""
    valid_size: Annotated[
        FromZero | None,
        NotWith(
            "says nothing: that set brings its own validation data", dataset=("binarized-mnist",)
        ),
    ] = None
    """Training data held out for validation; by default a tenth, at most 1000. 0 for none."""
    condition: Condition = "none"
    """Model p(x | c): c is the label, one to three quadrants of the image (x is the rest), the
    image with a fifth of its pixels replaced by noise, or the image at half its resolution. Adds a
    picture of many answers to each question and compares with a net without latent variables."""

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
    """p(x | z). bernoulli: pixels in {0, 1}; autoregressive-bernoulli: each given those before it.
    continuous-bernoulli and beta: densities on [0, 1] and (0, 1). normal: one fixed scale;
    -learned: one learned scale; -predicted: a scale for each pixel; low-rank-normal: correlated
    pixels. categorical: a probability for each grey level; logistic-mixture: the same by a
    discretised mixture. poisson, negative-binomial: counts."""
    scale: Annotated[Scale, Only(likelihood=SCALED)] = 0.1
    """Standard deviation of the normal likelihood in units of the data; the least one of
    normal-predicted, low-rank-normal and student-t (densities grow without bound on constant
    pixels) and the first one of normal-learned."""
    likelihood_components: Annotated[
        Count, Only(likelihood=("logistic-mixture", "low-rank-normal"))
    ] = 5
    """Components of the mixture; factors of the covariance."""

    prior: Prior = "standard"
    """p(z). standard: N(0, I). mixture: of normals, learned. vamp: of the encoder's posteriors at
    pseudo-inputs. flow: a normalising flow. conditional: a normal whose mean and scale a net reads
    off --condition."""
    prior_components: Annotated[Count, Only(prior=("mixture", "vamp"))] = 500
    """Number of components."""
    vamp_inputs: Annotated[Literal["learned", "fixed"], Only(prior="vamp")] = "learned"
    """Pseudo-inputs start at training data and are learned, or stay there."""
    vamp_weights: Annotated[bool, Only(prior="vamp")] = False
    """Learn the weights of the components too."""
    prior_flow: Annotated[Literal["coupling", "autoregressive", "spline"], Only(prior="flow")] = (
        "coupling"
    )
    """Affine coupling (RealNVP), affine autoregressive (MAF), or rational-quadratic splines,
    autoregressive (NSF)."""
    prior_transforms: Annotated[Count, Only(prior="flow")] = 4
    """Number of steps."""
    prior_hidden: Annotated[tuple[Count, ...], Only(prior="flow")] = (128, 128)
    """Hidden layers of each step's net."""

    guide: Guide = "diagonal"
    """q(z | x): a normal (diagonal, full-rank, low-rank), a mixture of diagonal normals, or a flow
    on the diagonal normal: iaf (inverse autoregressive, affine), spline (the same with splines),
    maf (autoregressive: slow draws), coupling, planar."""
    guide_components: Annotated[Count, Only(guide=("mixture", "low-rank"))] = 5
    """Number of components, or of factors."""
    guide_transforms: Annotated[Count, Only(guide=(*NETS_OF_FLOWS, "planar"))] = 2
    """Number of steps."""
    guide_hidden: Annotated[tuple[Count, ...], Only(guide=NETS_OF_FLOWS)] = (64, 64)
    """Hidden layers of each step's net."""
    guide_context: Annotated[Count, Only(guide=NETS_OF_FLOWS)] = 64
    """Length of the vector that tells the steps about x."""

    net: Literal["mlp", "gated", "conv"] = "mlp"
    """Fully connected, the same with gates, or stride-2 convolutions (images only)."""
    latent_dim: Widths = (2,)
    """Size of z. Several numbers make a hierarchy, the one next to the data first: --latent-dim
    100 50."""
    hidden: tuple[Count, ...] = (256, 256)
    """Widths of the encoder's hidden layers (channels for conv); the decoder mirrors them."""
    upper_hidden: Annotated[tuple[Count, ...], Only(latent_dim=Several(), prior="conditional")] = (
        100,
        100,
    )
    """Hidden layers of the nets between the latent layers of a hierarchy, and of the conditional
    prior's."""
    ladder: bool = False
    """Hierarchies: infer from the top down, weighing what the data and what the model above say (a
    ladder network); otherwise from the data up."""
    activation: Literal["tanh", "relu", "silu", "elu"] = "tanh"

    objective: Annotated[Objective, ALONE, ONE_DREG] = "elbo"
    """elbo: Trace_ELBO on K draws; analytic-kl: with the KL in closed form where there is one;
    score-function: without reparameterisation (for comparison: it is noisy); capacity: the KL held
    at --capacity. Importance-weighted bounds: iwae, dreg (iwae with doubly reparameterised
    gradients), renyi (of order --alpha). stl: the ELBO of K draws without the score of q."""
    particles: Count = 1
    """K, the draws of z for each datum and step."""
    alpha: Annotated[float, Only(objective="renyi")] = 0.5
    """0 is the IWAE bound, 1 the ELBO."""
    beta: NotNegative = 1.0
    """elbo, analytic-kl: weight of the KL; everything reported is at beta = 1."""
    kl_warmup: FromZero = 0
    """elbo, analytic-kl: epochs over which beta rises from 0. capacity: epochs over which the
    capacity does."""
    free_bits: NotNegative = 0.0
    """elbo, analytic-kl: nats of KL per datum that cost nothing."""
    capacity: Annotated[NotNegative, Only(objective="capacity")] = 25.0
    """Nats of KL per datum."""
    gamma: Annotated[NotNegative, Only(objective="capacity")] = 30.0
    """The pull towards it."""
    guide_steps: Count = 1
    """Steps of the guide for each of the model, so that it does not lag behind."""

    refine_steps: FromZero = 0
    """Gradient steps by which the guide's proposal is refined for each datum (semi-amortised), in
    training and in scoring."""

    epochs: Count = 200
    batch_size: Count = 100
    lr: Positive = 1e-3
    """Adam's learning rate."""
    lr_decay_epochs: FromZero = 0
    """Over how many last epochs the learning rate falls to lr * lr_decay, geometrically."""
    lr_decay: Annotated[
        float, Range(0, 1, above=True), NotWith("says nothing", lr_decay_epochs=(0,))
    ] = 0.1
    clip_norm: Positive | None = None
    """Largest gradient norm."""
    patience: Count | None = None
    """Stop after so many epochs without a better validation ELBO, and keep the best weights."""
    eval_particles: Count = 1000
    """K for the log p(x) reported at the end; evaluate.py takes more."""
    eval_data: Count = 1000
    """At most so many test data for it, chosen at random."""
    seed: Seed = 0
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""
    threads: Threads | None = None
    """CPU threads; by default torch's choice, but one for batches so small that threads cost more
    than they save."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Capture the training step as one compiled graph; auto: where four minutes lie ahead after
    one epoch."""
    precision: Literal["32", "tf32", "bf16"] = "32"
    """tf32: matrix products of a GPU in TensorFloat-32. bf16: nets in bfloat16 under autocast
    (CUDA), densities and weights in float32."""
    tensorboard: bool = False
    """Also write TensorBoard event files (needs the tensorboard package)."""
    out: OutFolder | None = None
    """The run's folder; by default runs/DATASET-DATE-TIME."""
    resume: bool = False
    """Go on with the run in --out from its last checkpoint; --epochs counts from its beginning."""

    def __post_init__(self) -> None:
        bounds.check(self)
        if not self.hidden and self.net == "conv":
            raise Refusal("--hidden takes at least one number with --net conv.")
        if not self.upper_hidden and self.ladder:
            raise Refusal("--upper-hidden takes at least one number with --ladder.")
        _refuse_senseless(self)

    @property
    def layers(self) -> list[str]:
        """Names of the latent sites, the one next to the data first."""
        return (
            ["z"]
            if len(self.latent_dim) == 1
            else [f"z{i + 1}" for i in range(len(self.latent_dim))]
        )

    @property
    def hierarchical(self) -> bool:
        return len(self.latent_dim) > 1

    @classmethod
    def from_json(cls, arguments: object) -> "Settings":
        """Settings as run.json holds them, also those of runs from before hierarchies (one number
        as latent_dim)."""
        if isinstance(arguments, dict) and isinstance(arguments.get("latent_dim"), int):
            arguments = {**arguments, "latent_dim": [arguments["latent_dim"]]}
        return bounds.from_json(cls, arguments)


def _refuse_senseless(s: Settings) -> None:
    """Combinations that would run and mean nothing, or something else than they say."""

    def refuse(condition: bool, reason: str) -> None:
        if condition:
            raise Refusal(reason)

    weighted = s.objective not in OF_ONE_ELBO
    refuse(
        weighted
        and (s.beta != 1 or s.free_bits > 0)
        or weighted
        and s.kl_warmup > 0
        and s.objective != "capacity",
        f"--beta, --kl-warmup and --free-bits weigh the KL of an ELBO, which --objective {s.objective} has not; "
        "use --objective elbo or analytic-kl.",
    )
    refuse(
        s.objective == "score-function" and s.free_bits > 0,
        "--free-bits lift the pathwise gradient of the KL, which --objective score-function does without.",
    )
    refuse(
        s.refine_steps > 0 and s.objective == "score-function",
        "--refine-steps follow the pathwise gradient of the ELBO, which --objective score-function does without.",
    )
    refuse(
        s.objective == "capacity" and s.guide_steps > 1,
        "--guide-steps is for --objective elbo and its like.",
    )
    refuse(
        s.prior == "vamp"
        and s.guide_steps > 1
        and s.guide in ("diagonal", "full-rank", "low-rank", "mixture"),
        "--guide-steps move the guide without the model, but --prior vamp is made of the guide's encoder, and "
        f"--guide {s.guide} is nothing else.",
    )
    refuse(
        s.prior == "conditional" and s.condition == "none",
        "--prior conditional reads p(z | c) off a condition; give one with --condition.",
    )
    refuse(
        s.prior == "vamp" and s.condition != "none",
        "--prior vamp mixes posteriors q(z | u) at pseudo-inputs, but under --condition the guide also looks at c; use "
        "--prior standard, conditional or flow.",
    )
    refuse(
        s.prior == "mixture" and s.condition != "none",
        "--prior mixture does not know c; use --prior standard, conditional or flow.",
    )
    refuse(
        s.net == "conv" and s.condition != "none",
        "--condition joins x and c into one vector; use --net mlp.",
    )
    refuse(
        s.likelihood == "autoregressive-bernoulli" and s.net != "mlp",
        "--likelihood autoregressive-bernoulli has a masked net of its own; use --net mlp.",
    )
    refuse(
        s.hierarchical and s.prior in ("vamp", "conditional"),
        f"--prior {s.prior} mixes or conditions one latent layer; with a hierarchy use standard, mixture or flow at "
        "its top.",
    )
    refuse(
        s.hierarchical and s.guide in ("iaf", "maf", "spline", "coupling", "planar"),
        f"--guide {s.guide} transforms one latent layer; with a hierarchy use diagonal, full-rank, low-rank or mixture.",
    )
    refuse(s.hierarchical and s.condition != "none", "--condition goes with one latent layer.")
    refuse(
        s.ladder and not s.hierarchical,
        "--ladder needs several latent layers, e.g. --latent-dim 32 16 8.",
    )
    refuse(
        s.ladder and s.guide != "diagonal",
        "--ladder multiplies diagonal normals; use --guide diagonal.",
    )
    refuse(
        s.prior == "flow" and s.latent_dim[-1] < 2 and s.prior_flow == "coupling",
        "a coupling flow splits z into two parts; one dimension has none. Use --prior-flow spline.",
    )
    refuse(
        s.guide == "coupling" and s.latent_dim[-1] < 2,
        "a coupling flow splits z into two parts; one dimension has none. Use --guide spline.",
    )
