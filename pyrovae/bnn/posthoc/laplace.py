"""Laplace's approximation: a normal at the mode, with the curvature there."""

import copy
import math
from collections.abc import Callable, Mapping

import pyro
import torch
import torch.nn as nn
from pyro import poutine
from torch import Tensor
from torch.distributions import constraints

from pyrovae.bnn.curvature.dense import root_of_inverse
from pyrovae.core.batching import Data, batches, exemplar_of, size_of
from pyrovae.core.errors import PairError
from pyrovae.core.handlers import Uncondition
from pyrovae.core.modules import find_modules
from pyrovae.core.param_store import local_param_scope
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.shapes import DATA
from pyrovae.core.support_checks import support_of
from pyrovae.core.traces import is_missing, is_subsample, log_prob, plate_frame, sample_sites
from pyrovae.core.types import Site, nodes_of, sum_of
from pyrovae.programs.bayesian import Bayesian


def laplace(
    model: Callable,
    mode: Mapping[str, Tensor],
    data: Data,
    *,
    full: bool = False,
    num_draws: int = 1,
) -> tuple[Tensor, Tensor]:
    r"""Mean and Cholesky factor (P, P) (`full`), or mean and standard deviations (P,), of q(w) =
    N(w*, H^{-1}).

    H = -d^2 log p(w*) + sum_i F_i, the prior's curvature and the Fisher information of each datum,
    F_i = E[g g^T] with g = d log p(y | x_i, w*) for y drawn from the model (`num_draws` of each):
    for the normal and the categorical the generalised Gauss-Newton matrix. The diagonal alone is
    cheap for any net and knows nothing of how weights trade off; for large nets the full one of
    the last layer (`weight_priors.last_layer`) is the usual choice.

    mode: w* by site, as `PointEstimate.values()` gives it. data: the training set; its observed
    values are not used. Predict by the model of `linearize(model, mode)`, whose curvature this is,
    with the result in a guide: `JointNormal(net).set(loc, scale_tril=...)`, or
    `MeanField(net).set(loc, scale)`.
    Raises: PairError for a latent site outside the plate that the mode lacks, for one that is not
    real-valued (a variance), which `pyro.condition` holds fixed, and for `poutine.scale` and `obs_mask`.
    Source: MacKay 1992, Neural Computation 4(3); with F for the Hessian: Martens 2020,
    arXiv:1412.1193, section 9.
    """
    mode = {name: value.detach() for name, value in mode.items()}
    mode = {name: mode[name] for name in mode_sites(model, mode, data)}
    curvature = torch.diag(_prior(model, mode, data)) if full else _prior(model, mode, data)
    with (
        pyro.validation_enabled(False),
        local_param_scope(),
        preserve_state(find_modules(model).values(), training=False),
    ):
        for batch in batches(data, None, exemplar_of(model)):
            for _ in range(num_draws):
                gradients = _gradients(model, mode, batch)
                curvature += (
                    gradients.T @ gradients if full else (gradients**2).sum(0)
                ) / num_draws
    loc = torch.cat([value.flatten() for value in mode.values()])
    if not full:
        return loc, curvature.rsqrt()
    return loc, root_of_inverse(curvature)


def linearize(model: nn.Module, mode: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a model whose `Bayesian` nets are `linearized` at w*, which `mode` holds by site:
    predict with it. Of a fitted noise `LaplacePosterior.linearize` takes account.

    Raises: TypeError for a model that is no module, such as one of `pyro.condition`.

    Example:
        >>> from pyrovae import Bayesian, Model, Node
        >>> from pyrovae.heads import FixedScaleNormalHead
        >>> from pyrovae.bnn.guides import PointEstimate
        >>> net = Bayesian(nn.Linear(3, 1))
        >>> model = Model(y=Node(FixedScaleNormalHead(net, scale=1.0), "x"))
        >>> linearize(model, PointEstimate(net).values())(x=torch.zeros(5, 3))["y"].shape
        torch.Size([5, 1])
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"the model is a {type(model).__name__}, expected a module. Condition the linearised model: "
            "pyro.condition(linearize(model, mode), data={...})."
        )
    result = copy.deepcopy(model)
    for part in list(result.modules()):
        for name, child in part.named_children():
            if isinstance(child, Bayesian):
                setattr(part, name, child.linearized(mode))
    return result


def mode_sites(model: Callable, mode: Mapping[str, Tensor], data: Data) -> list[str]:
    """The mode's sites in the order of the model's sites, which guides use.

    Raises: PairError as `laplace`.
    """
    batch = next(batches(data, None, exemplar_of(model)))
    with (
        pyro.validation_enabled(False),
        local_param_scope(),
        preserve_state(find_modules(model).values()),
        poutine.block(),
    ):
        sites = nodes_of(poutine.trace(model).get_trace(**batch))
    _refuse_what_is_no_likelihood(sites)
    latent = {
        name: site
        for name, site in sites.items()
        if site["type"] == "sample"
        and not site["is_observed"]
        and plate_frame(site, DATA) is None
        and not is_subsample(site)
    }
    bounded = {
        name for name, site in latent.items() if support_of(site["fn"]) is not constraints.real
    }
    wrong = sorted(latent.keys() ^ mode.keys() | bounded)
    if wrong:
        raise PairError(
            f"sites {wrong} are in only one of the model and the mode, or not real-valued, so a normal at "
            "the mode is no posterior of theirs. Give the mode all weights, and hold the others fixed: "
            "laplace(pyro.condition(model, data={...}), ...)."
        )
    return list(latent)


def _refuse_what_is_no_likelihood(sites: Mapping[str, Site]) -> None:
    """Raise PairError for scaled sites, and for the missing values of `obs_mask`."""
    for name, site in sites.items():
        if site["type"] != "sample" or is_subsample(site):
            continue
        own = math.prod(
            (plate.full_size or plate.size) / plate.size for plate in site["cond_indep_stack"]
        )
        if not torch.isclose(
            torch.as_tensor(site["scale"]).double(), torch.tensor(own).double()
        ).all():
            raise PairError(
                f"site {name!r} is scaled by {site['scale']} (poutine.scale), so that the mode and its curvature would "
                "be of different posteriors. Leave the scale out."
            )
        if is_missing(name, sites):
            raise PairError(
                f"site {name!r} holds missing values (obs_mask=), which Laplace's approximation does not infer. Leave "
                "them out by poutine.mask(mask=observed) or fn.mask(observed)."
            )


def _site_log_probs(
    model: Callable, weights: Mapping[str, Tensor], batch: Mapping[str, Tensor], observed: bool
) -> Tensor:
    with poutine.block():
        trace = poutine.trace(poutine.condition(model, data=dict(weights))).get_trace(**batch)
    sites = [
        site
        for name, site in sample_sites(trace, observed=True).items()
        if (name in weights) != observed
    ]
    return sum_of(log_prob(site).sum() for site in sites)


def _prior(model: Callable, mode: Mapping[str, Tensor], data: Data) -> Tensor:
    """Diagonal of minus the Hessian of log p(w), for priors that factorise over weights."""
    batch = next(batches(data, None, exemplar_of(model)))
    with pyro.validation_enabled(False), local_param_scope(), torch.enable_grad():
        weights = {name: value.clone().requires_grad_() for name, value in mode.items()}
        total = _site_log_probs(model, weights, batch, observed=False)
        first = torch.autograd.grad(total, list(weights.values()), create_graph=True)
        total = sum_of(gradient.sum() for gradient in first)
        second = torch.autograd.grad(total, list(weights.values()), materialize_grads=True)
    return -torch.cat([value.flatten() for value in second])


def _gradients(model: Callable, mode: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """`(B, P)`: the gradient of each datum's log-likelihood, at targets drawn from the model."""
    with torch.no_grad(), poutine.block():
        trace = poutine.trace(
            poutine.condition(Uncondition(batch)(model), data=dict(mode))
        ).get_trace(**batch)
    drawn = {
        name: site["value"]
        for name, site in nodes_of(trace).items()
        if site["type"] == "sample" and name not in mode and plate_frame(site, DATA) is not None
    }
    rows = {**batch, **drawn}

    def one(weights: dict[str, Tensor], row: dict[str, Tensor]) -> Tensor:
        return _site_log_probs(
            model,
            weights,
            {name: value.unsqueeze(0) for name, value in row.items()},
            observed=True,
        )

    result = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0))(dict(mode), rows)
    return torch.cat(
        [
            value.reshape(size_of(batch), math.prod(mode[name].shape))
            for name, value in result.items()
        ],
        dim=1,
    )
