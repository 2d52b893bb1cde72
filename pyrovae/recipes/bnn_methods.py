"""The methods for Bayesian neural networks: to add one, add one `Method` here."""

import torch.nn as nn

from pyrovae.recipes.bnn_adversarial import Perturbed
from pyrovae.recipes.bnn_laplace import LaplaceNormal, prior_hooks, refuse_untunable
from pyrovae.recipes.bnn_method import Method, rules
from pyrovae.recipes.bnn_nets import (
    closed_form_kl,
    concrete_dropout,
    dropout,
    hierarchical_prior,
    laplace_prior,
    mean_field,
    mixture_prior,
    point,
    radial,
    sampler_state,
)
from pyrovae.recipes.bnn_posteriors import (
    ChainDraws,
    EnsembleOfPoints,
    OwnGuide,
    SamplerDraws,
    StackedEnsemble,
    SwagNormal,
)
from pyrovae.recipes.bnn_samplers import (
    GIBBS,
    NUTS,
    Hamiltonian,
    RandomWalk,
    chains_of,
    refuse_gibbs,
)
from pyrovae.recipes.bnn_schedules import (
    ENDS_OF_CYCLES,
    LANGEVIN,
    LANGEVIN_WITH_MOMENTUM,
    PLATEAU,
    SWAG,
)
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task
from pyrovae.recipes.refusal import Refusal

LOCAL = "local_reparameterization"
OWN_PRIOR = dict.fromkeys(
    ("prior", "prior_scale"), "has no effect: that method has a prior of its own"
)
UNTEMPERED = {"temperature": "has no effect: samplers and laplace keep to the posterior itself"}
OWN_RATE = {"lr": "has no effect: samplers take --sampler-lr"}


def _adversarial(loss: nn.Module, s: BnnSettings) -> nn.Module:
    return Perturbed(loss, s.inference.adversarial) if s.inference.adversarial else loss


def refuse_without_held_out(s: BnnSettings, task: Task) -> None:
    """Raise Refusal where no data are held out to choose weights on."""
    if not s.data.valid_fraction:
        raise Refusal("stacking chooses weights on held-out data; set --valid-fraction, e.g. 0.1.")


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "map",
            "the maximum a posteriori weights, a point estimate",
            guide=point,
            posterior=OwnGuide(single=True),
        ),
        Method(
            "bbb",
            "Bayes by backprop: an independent normal for each weight",
            guide=mean_field,
            elbo=closed_form_kl,
            settings=("init_scale", LOCAL),
        ),
        Method(
            "bbb-mixture",
            "bbb with a scale-mixture prior of a wide and a narrow normal (Blundell et al.)",
            guide=mean_field,
            prior=mixture_prior,
            settings=("mixture", "init_scale", LOCAL),
            ignored=OWN_PRIOR,
        ),
        Method(
            "bbb-hierarchical",
            "bbb with inferred prior variances",
            guide=mean_field,
            prior=hierarchical_prior,
            elbo=closed_form_kl,
            settings=("hierarchical", "init_scale", LOCAL),
            ignored=OWN_PRIOR,
        ),
        Method(
            "radial",
            "bbb with a radial posterior: a random direction and a half-normal radius",
            guide=radial,
            settings=("init_scale",),
        ),
        Method(
            "mc-dropout",
            "dropout of the inputs of all layers, in training and prediction",
            guide=dropout,
            settings=("rate", LOCAL),
        ),
        Method(
            "concrete-dropout",
            "mc-dropout with learned rates",
            guide=concrete_dropout,
            settings=("rate", LOCAL),
        ),
        Method(
            "ensemble",
            "--members independently trained map networks",
            guide=point,
            members=lambda s: s.inference.members,
            objective=_adversarial,
            posterior=EnsembleOfPoints(),
            settings=("members", "adversarial"),
        ),
        Method(
            "stacking",
            "the networks of ensemble, weighted by their log p of the data of --valid-fraction",
            guide=point,
            members=lambda s: s.inference.members,
            objective=_adversarial,
            posterior=StackedEnsemble(),
            refuse_task=refuse_without_held_out,
            settings=("members", "adversarial", "draws"),
        ),
        Method(
            "swag",
            "a normal fitted to the iterates of the optimiser (SWA-Gaussian)",
            guide=point,
            optimization=SWAG,
            kept=PLATEAU,
            posterior=SwagNormal(),
            settings=("swag_rank", "draws"),
        ),
        Method(
            "laplace",
            "a normal at the mode with the curvature as precision",
            guide=point,
            prior=laplace_prior,
            hooks=prior_hooks,
            posterior=LaplaceNormal(),
            refuse_task=refuse_untunable,
            settings=("laplace", "laplace_rank", "prior_fit", "prior_groups"),
            ignored=UNTEMPERED,
        ),
        Method(
            "sgld",
            "stochastic-gradient Langevin dynamics",
            guide=sampler_state,
            optimization=LANGEVIN,
            kept=ENDS_OF_CYCLES,
            posterior=SamplerDraws(),
            settings=("sampler_lr", "draws"),
            ignored=OWN_RATE | UNTEMPERED,
        ),
        Method(
            "sghmc",
            "stochastic-gradient Hamiltonian Monte Carlo: sgld with momentum",
            guide=sampler_state,
            optimization=LANGEVIN_WITH_MOMENTUM,
            kept=ENDS_OF_CYCLES,
            posterior=SamplerDraws(),
            settings=("sampler_lr", "draws"),
            ignored=OWN_RATE | UNTEMPERED,
        ),
        Method(
            "hmc",
            "Hamiltonian Monte Carlo on the full training set: slow, and the closest to exact",
            guide=sampler_state,
            chains=Hamiltonian(),
            posterior=ChainDraws(),
            members=chains_of,
            settings=("draws", "chains", "hmc_samples", "hmc_warmup", "hmc_leapfrogs"),
            ignored=UNTEMPERED,
        ),
        Method(
            "nuts",
            "the no-U-turn sampler, HMC that chooses the length of its paths",
            guide=sampler_state,
            chains=NUTS,
            posterior=ChainDraws(),
            members=chains_of,
            settings=("draws", "chains", "hmc_samples", "hmc_warmup", "nuts_depth"),
            ignored=UNTEMPERED,
        ),
        Method(
            "gibbs",
            "nuts for the weights, and exact draws of the noise variance (--noise shared)",
            guide=sampler_state,
            chains=GIBBS,
            posterior=ChainDraws(),
            refuse_task=refuse_gibbs,
            members=chains_of,
            settings=("draws", "chains", "hmc_samples", "hmc_warmup", "nuts_depth"),
            ignored=UNTEMPERED,
        ),
        Method(
            "random-walk",
            "random-walk Metropolis: no gradients, and hardly any motion in many dimensions",
            guide=sampler_state,
            chains=RandomWalk(),
            posterior=ChainDraws(),
            members=chains_of,
            settings=("draws", "chains", "random_walk_steps"),
            ignored=UNTEMPERED,
        ),
    )
}

RULES = rules(METHODS.values())
"""Setting -> the rule of the methods that use it."""
EXPLAINED = "\n".join(f"{method.name}: {method.description}" for method in METHODS.values())
"""The descriptions of all methods, for `--help`."""
