"""Combinations of settings of a VAE that are refused."""

from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.vae_data_settings import DataSettings
from pyrovae.recipes.vae_model_settings import ModelSettings
from pyrovae.recipes.vae_objective_settings import ObjectiveSettings

OF_ONE_ELBO = ("elbo", "analytic-kl", "score-function")


def refuse_combinations(
    data: DataSettings, model: ModelSettings, objective: ObjectiveSettings
) -> None:
    """Raise Refusal for settings that exclude each other or would not have the stated effect."""

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
        f"--beta, --kl-warmup and --free-bits weigh the KL of an ELBO; --objective {objective.objective} has no such term; "
        "use --objective elbo or analytic-kl.",
    )
    refuse(
        objective.objective == "score-function" and objective.free_bits > 0,
        "--free-bits needs the pathwise gradient of the KL, which --objective score-function does without.",
    )
    refuse(
        objective.refine_steps > 0 and objective.objective == "score-function",
        "--refine-steps needs the pathwise gradient of the ELBO, which --objective score-function does without.",
    )
    refuse(
        objective.objective == "capacity" and objective.guide_steps > 1,
        "--guide-steps is for the other objectives, not --objective capacity.",
    )
    refuse(
        model.prior == "vamp"
        and objective.guide_steps > 1
        and model.guide in ("diagonal", "full-rank", "low-rank", "mixture"),
        "--guide-steps trains the guide alone, but --prior vamp is made of the guide's encoder, and "
        f"--guide {model.guide} has no other parameters.",
    )
    refuse(
        model.prior == "flat" and model.guide != "point",
        f"--prior flat has no density to integrate, so --guide {model.guide} would spread without end; use --guide point, "
        "or --prior standard.",
    )
    refuse(
        model.guide == "point"
        and (
            objective.objective != "elbo" or objective.particles > 1 or objective.refine_steps > 0
        ),
        "--guide point draws nothing, so --objective, --particles and --refine-steps have no use; leave them out.",
    )
    refuse(
        model.guide == "point" and (model.hierarchical or model.prior == "vamp"),
        "--guide point is for one latent layer and a prior with a density at the code; use one --latent-dim and another "
        "--prior.",
    )
    refuse(
        objective.contractive > 0 and (model.guide != "point" or data.condition != "none"),
        "--contractive penalises the Jacobian of a deterministic encoder of x alone; use --guide point without --condition.",
    )
    refuse(
        model.hierarchical and model.prior == "laplace",
        "--prior laplace is for one latent layer; with a hierarchy use standard, mixture or flow at its top.",
    )
    refuse(
        model.prior == "laplace" and data.condition != "none",
        "--prior laplace does not depend on c; use --prior standard, conditional or flow.",
    )
    refuse(
        model.prior == "conditional" and data.condition == "none",
        "--prior conditional models p(z | c); give one with --condition.",
    )
    refuse(
        model.prior == "vamp" and data.condition != "none",
        "--prior vamp mixes posteriors q(z | u) at pseudo-inputs, but with --condition the guide also depends on c; use "
        "--prior standard, conditional or flow.",
    )
    refuse(
        model.prior == "mixture" and data.condition != "none",
        "--prior mixture does not depend on c; use --prior standard, conditional or flow.",
    )
    refuse(
        model.net == "conv" and data.condition != "none",
        "--condition concatenates x and c into one vector; use --net mlp.",
    )
    refuse(
        model.likelihood == "autoregressive-bernoulli" and model.net != "mlp",
        "--likelihood autoregressive-bernoulli has a masked net of its own; use --net mlp.",
    )
    refuse(
        model.hierarchical and model.prior in ("vamp", "conditional"),
        f"--prior {model.prior} is for one latent layer; with a hierarchy use standard, mixture or flow at its top.",
    )
    refuse(
        model.hierarchical and model.guide in ("iaf", "maf", "spline", "coupling", "planar"),
        f"--guide {model.guide} transforms one latent layer; with a hierarchy use diagonal, full-rank, low-rank or mixture.",
    )
    refuse(
        model.hierarchical and data.condition != "none",
        "--condition is for models with one latent layer.",
    )
    refuse(
        model.ladder and not model.hierarchical,
        "--ladder needs several latent layers, e.g. --latent-dim 32 16 8.",
    )
    refuse(
        model.ladder and model.guide != "diagonal",
        "--ladder combines diagonal normals; use --guide diagonal.",
    )
    refuse(
        model.prior == "flow" and model.latent_dim[-1] < 2 and model.prior_flow == "coupling",
        "a coupling flow splits z into two parts; one dimension has none. Use --prior-flow spline.",
    )
    refuse(
        model.guide == "coupling" and model.latent_dim[-1] < 2,
        "a coupling flow splits z into two parts; one dimension has none. Use --guide spline.",
    )
