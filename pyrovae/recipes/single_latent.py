"""What is written for other programs takes a VAE with one latent layer and without conditions."""

from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.trained_vae import TrainedVae


def refuse_others(run: TrainedVae) -> None:
    """Raises: Refusal for a model whose p(x | z) is not a function of one z alone."""
    if run.settings.model.hierarchical:
        raise Refusal(f"{run.path} holds a hierarchy of latent layers; expected a model with one.")
    if run.run["data"]["num_conditions"]:
        raise Refusal(f"{run.path} holds a conditional model, p(x | c); expected one without c.")
