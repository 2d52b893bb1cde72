"""Posterior predictions and their densities; simulation-based calibration and predictive checks.

| of | functions |
|---|---|
| simulated data | `simulate` |
| posteriors of many data sets | `amortized_posterior`, `fitted_posterior` and `chain_posterior` (stacked), `one_by_one` |
| whether they are right | `simulation_based_calibration`, `log_likelihood` to rank, `SimulatedRanks`, `ranks_to_arviz` |
| whether data look like replicates | `posterior_predictive_check` |
"""

from pyrovae.prediction.predictive_checks import PredictiveCheck, posterior_predictive_check
from pyrovae.prediction.refits import (
    amortized_posterior,
    chain_posterior,
    fitted_posterior,
    one_by_one,
    stacked_draws,
    stacked_losses,
)
from pyrovae.prediction.simulated_data import Simulations, simulate
from pyrovae.prediction.simulated_ranks import SimulatedRanks, ranks_to_arviz
from pyrovae.prediction.simulation_based_calibration import (
    log_likelihood,
    simulation_based_calibration,
)

__all__ = [
    "PredictiveCheck",
    "SimulatedRanks",
    "Simulations",
    "amortized_posterior",
    "chain_posterior",
    "fitted_posterior",
    "log_likelihood",
    "one_by_one",
    "posterior_predictive_check",
    "ranks_to_arviz",
    "simulate",
    "simulation_based_calibration",
    "stacked_draws",
    "stacked_losses",
]
