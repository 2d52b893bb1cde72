"""Whether posteriors are right, judged on data sets simulated from the model."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pyrovae.core.batching import Values
from pyrovae.core.errors import PairError, first_line
from pyrovae.core.traces import log_prob, run_model, sample_sites
from pyrovae.core.types import Batch, sum_of
from pyrovae.evidence.densities import as_trace
from pyrovae.prediction.draws import evaluating
from pyrovae.prediction.refits import Posterior
from pyrovae.prediction.simulated_data import Simulations, simulate
from pyrovae.prediction.simulated_ranks import SimulatedRanks

Quantity = Callable[[Batch, Batch], Tensor]
"""From one value of all latent sites and one data set to a number, or several: what is ranked."""


def simulation_based_calibration(
    model: Callable,
    posterior: Posterior,
    batch: Mapping[str, Values],
    *,
    num_simulations: int,
    observed: Sequence[str] = ("y",),
    quantities: Mapping[str, Quantity] | None = None,
    thin: int = 1,
) -> SimulatedRanks:
    r"""Simulate data sets from the model, infer each, and rank the values that made them among the
    draws of their posteriors.

    For (z*, y) ~ p(z) p(y | z) and z_1, ..., z_L ~ p(z | y) independently, the rank
    \sum_l 1(z_l < z*) of any number is uniform on 0, ..., L. A histogram shaped like a U says that
    posteriors are too narrow, a hump that they are too wide, a slope that they lie too high (more
    ranks on the left) or too low.

    posterior: any function from R data sets `(R, N, *event)` by name to draws `(L, R, *shape)` by
        site: `amortized_posterior`, `fitted_posterior`, `chain_posterior`, `one_by_one`. Sites that
        it leaves out are not ranked.
    batch, observed: as in `simulate`.
    quantities: further numbers to rank, by name, such as `{"log_likelihood": log_likelihood(model)}`.
        Ranks of the sites alone are uniform for the prior too, if it is what `posterior` returns; that
        of the log-likelihood is not (Modrák et al. 2023, arXiv:2211.02383).
    thin: keep every `thin`-th draw of a chain, since ranks want independent ones.

    The data differ from fit to fit, the inputs do not. Randomness is torch's global generator.
    Raises: PairError as `simulate`, and for draws of unknown sites or other shapes; ValueError for
    draws that are NaN.
    Source: Talts, Betancourt, Simpson, Vehtari & Gelman 2018, arXiv:1804.06788, algorithm 1.

    Example:
        >>> from pyrovae.prediction import amortized_posterior
        >>> ranks = simulation_based_calibration(
        ...     model, amortized_posterior(guide, num_draws=9), {"num": 2}, num_simulations=100, observed=("x",)
        ... )
        >>> ranks.counts(5)["z"].shape
        torch.Size([5, 2, 2])
    """
    if thin < 1:
        raise ValueError(f"thin={thin}, expected to keep every draw (1) or every `thin`-th one.")
    simulations = simulate(model, batch, num_simulations=num_simulations, observed=observed)
    draws = {
        name: value[thin - 1 :: thin].detach()
        for name, value in posterior(dict(simulations.data)).items()
    }
    _check(draws, simulations, quantities or {})
    truth = dict(simulations.latents)
    for name, quantity in (quantities or {}).items():
        over_data = torch.vmap(quantity)
        try:
            with evaluating(model):
                truth[name] = over_data(simulations.latents, simulations.data)
                draws[name] = torch.vmap(over_data, in_dims=(0, None))(draws, simulations.data)
        except RuntimeError as error:
            raise PairError(
                f"torch.vmap refuses the quantity {name!r}: {first_line(error)}. Write it, or the model that it "
                "runs, without branches on values and in-place changes, or leave it out."
            ) from error
    return SimulatedRanks.of(draws, truth)


def log_likelihood(model: Callable) -> Quantity:
    """log p(data | latents) of all data together in nats, as a number to rank: it depends on how
    much a posterior learns from the data.

    Example:
        >>> value = {"z": torch.zeros(3, 2)}
        >>> log_likelihood(model)(value, {"x": torch.ones(3, 4)}).shape
        torch.Size([])
    """

    def quantity(latents: Batch, data: Batch) -> Tensor:
        trace = run_model(model, as_trace(latents), data)
        return sum_of(log_prob(site).sum() for site in sample_sites(trace, observed=True).values())

    return quantity


def _check(
    draws: Mapping[str, Tensor], simulations: Simulations, quantities: Mapping[str, Quantity]
) -> None:
    latents = simulations.latents
    wrong = {
        name: tuple(value.shape)
        for name, value in draws.items()
        if name not in latents or value.shape[1:] != latents[name].shape or not len(value)
    }
    if wrong or not draws or len(set(map(len, draws.values()))) != 1:
        expected = {name: ("L", *value.shape) for name, value in latents.items()}
        raise PairError(
            f"the posterior returns draws of shapes {wrong or {n: tuple(v.shape) for n, v in draws.items()}}, "
            f"expected some of {expected}, one L for all. Draws of a chain lead, then the data sets."
        )
    absent = sorted(set(latents) - set(draws))
    if quantities and absent:
        raise PairError(
            f"the posterior draws no {absent}, which the quantities {sorted(quantities)} depend on. "
            "Return draws of all sites."
        )
    if clash := sorted(set(quantities) & set(latents)):
        raise PairError(f"the quantities {clash} have names of sites. Give them others.")
