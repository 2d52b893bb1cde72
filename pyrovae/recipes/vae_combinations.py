"""Combinations of a VAE's settings that are refused."""

from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.vae_data_settings import DataSettings
from pyrovae.recipes.vae_model_settings import ModelSettings
from pyrovae.recipes.vae_objective_settings import ObjectiveSettings

OF_ONE_ELBO = ("elbo", "analytic-kl", "score-function")


def refuse_combinations(
    data: DataSettings, model: ModelSettings, objective: ObjectiveSettings
) -> None:
    """Raise Refusal for settings that exclude each other or would not do what they say."""

    def refuse(condition: bool, reason: str) -> None:
        if condition:
            raise Refusal(reason)

    weighted = objective.objective not in OF_ONE_ELBO
    refuse(
        weighted
        and (objective.beta != 1 or objective.free_bits > 0)
        or weighted
        and objective.kl_warmup > 0
        and objective.objective != "capacity",
        f"--beta, --kl-warmup and --free-bits weigh the KL of an ELBO, which --objective {objective.objective} has not; "
        "use --objective elbo or analytic-kl.",
    )
    refuse(
        objective.objective == "score-function" and objective.free_bits > 0,
        "--free-bits lift the pathwise gradient of the KL, which --objective score-function does without.",
    )
    refuse(
        objective.refine_steps > 0 and objective.objective == "score-function",
        "--refine-steps follow the pathwise gradient of the ELBO, which --objective score-function does without.",
    )
    refuse(
        objective.objective == "capacity" and objective.guide_steps > 1,
        "--guide-steps is for --objective elbo and its like.",
    )
    refuse(
        model.prior == "vamp"
        and objective.guide_steps > 1
        and model.guide in ("diagonal", "full-rank", "low-rank", "mixture"),
        "--guide-steps move the guide without the model, but --prior vamp is made of the guide's encoder, and "
        f"--guide {model.guide} is nothing else.",
    )
    refuse(
        model.prior == "conditional" and data.condition == "none",
        "--prior conditional reads p(z | c) off a condition; give one with --condition.",
    )
    refuse(
        model.prior == "vamp" and data.condition != "none",
        "--prior vamp mixes posteriors q(z | u) at pseudo-inputs, but under --condition the guide also looks at c; use "
        "--prior standard, conditional or flow.",
    )
    refuse(
        model.prior == "mixture" and data.condition != "none",
        "--prior mixture does not know c; use --prior standard, conditional or flow.",
    )
    refuse(
        model.net == "conv" and data.condition != "none",
        "--condition joins x and c into one vector; use --net mlp.",
    )
    refuse(
        model.likelihood == "autoregressive-bernoulli" and model.net != "mlp",
        "--likelihood autoregressive-bernoulli has a masked net of its own; use --net mlp.",
    )
    refuse(
        model.hierarchical and model.prior in ("vamp", "conditional"),
        f"--prior {model.prior} mixes or conditions one latent layer; with a hierarchy use standard, mixture or flow at "
        "its top.",
    )
    refuse(
        model.hierarchical and model.guide in ("iaf", "maf", "spline", "coupling", "planar"),
        f"--guide {model.guide} transforms one latent layer; with a hierarchy use diagonal, full-rank, low-rank or mixture.",
    )
    refuse(
        model.hierarchical and data.condition != "none", "--condition goes with one latent layer."
    )
    refuse(
        model.ladder and not model.hierarchical,
        "--ladder needs several latent layers, e.g. --latent-dim 32 16 8.",
    )
    refuse(
        model.ladder and model.guide != "diagonal",
        "--ladder multiplies diagonal normals; use --guide diagonal.",
    )
    refuse(
        model.prior == "flow" and model.latent_dim[-1] < 2 and model.prior_flow == "coupling",
        "a coupling flow splits z into two parts; one dimension has none. Use --prior-flow spline.",
    )
    refuse(
        model.guide == "coupling" and model.latent_dim[-1] < 2,
        "a coupling flow splits z into two parts; one dimension has none. Use --guide spline.",
    )
