"""What is written for other programs takes a VAE with one latent layer and without conditions."""

import torch
from torch import Tensor

from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.trained_vae import TrainedVae


def refuse_others(run: TrainedVae) -> None:
    """Raises: Refusal for a model whose p(x | z) is not a function of one z alone."""
    if run.settings.model.hierarchical:
        raise Refusal(f"{run.path} holds a hierarchy of latent layers; expected a model with one.")
    if run.run["data"]["num_conditions"]:
        raise Refusal(f"{run.path} holds a conditional model, p(x | c); expected one without c.")


def codes_and_draws(run: TrainedVae, codes: Tensor) -> Tensor:
    """Values of z to hold a copy of the decoder against the original: codes of data and, where the
    prior can be drawn from, as many draws."""
    if run.settings.model.prior == "flat":
        return codes
    with run.evaluation(0):
        return torch.cat([codes, run.model(num=len(codes))[run.site].cpu()])
