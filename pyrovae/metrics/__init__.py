"""Scores of predictions: pure functions of plain tensors.

The first dim is that of S predictive draws, then come N data. A score that is a mean over data
returns `(N,)` values, so that `mean_and_error` gives the mean and its standard error; the others
(`rmse`, `calibration_error`, `auroc`, `aupr`, ...) return a scalar, whose error comes from repeating
over splits or seeds, or from `block_error`.

| of | functions |
|---|---|
| real predictions | `rmse`, `log_predictive_density`, `crps`, `crps_normal_mixture`, `coverage`, `interval_width` |
| class probabilities | `accuracy`, `nll`, `brier`, `entropy`, `mutual_information` |
| their calibration | `calibration_error`, `reliability`; corrected by one number, `fit_temperature` and `temper` |
| several predictive distributions, averaged | `stacking_weights` |
| ranks among posterior draws | `rank_statistics`, `rank_counts`, `rank_bins`, `uniformity_p_value`, `randomized_pit` |
| detection of unknown data | `auroc`, `aupr` |
| codes against known factors | `factor_information`, `mutual_information_gap` (MIG), `separated_predictability` (SAP) |
| samples against data | `frechet_distance`, `kernel_distance`, `sample_precision`, `sample_recall`, `class_coverage` |
| any of them, over data, splits or seeds | `mean_and_error` |
"""

from pyrovae.metrics.blocks import block_error
from pyrovae.metrics.calibration import Reliability, calibration_error, reliability
from pyrovae.metrics.classification import accuracy, brier, entropy, mutual_information, nll
from pyrovae.metrics.crps import crps, crps_normal_mixture
from pyrovae.metrics.detection import aupr, auroc
from pyrovae.metrics.disentanglement import (
    factor_information,
    mutual_information_gap,
    separated_predictability,
)
from pyrovae.metrics.ranks import (
    randomized_pit,
    rank_bins,
    rank_counts,
    rank_statistics,
    uniformity_p_value,
)
from pyrovae.metrics.regression import coverage, interval_width, log_predictive_density, rmse
from pyrovae.metrics.samples import (
    class_coverage,
    frechet_distance,
    kernel_distance,
    sample_precision,
    sample_recall,
)
from pyrovae.metrics.stacking import as_counts, stacking_weights
from pyrovae.metrics.summary import MeanError, mean_and_error
from pyrovae.metrics.temperature import fit_temperature, temper

__all__ = [
    "MeanError",
    "Reliability",
    "accuracy",
    "as_counts",
    "aupr",
    "auroc",
    "block_error",
    "brier",
    "calibration_error",
    "class_coverage",
    "coverage",
    "crps",
    "crps_normal_mixture",
    "entropy",
    "factor_information",
    "fit_temperature",
    "frechet_distance",
    "interval_width",
    "kernel_distance",
    "log_predictive_density",
    "mean_and_error",
    "mutual_information",
    "mutual_information_gap",
    "nll",
    "randomized_pit",
    "rank_bins",
    "rank_counts",
    "rank_statistics",
    "reliability",
    "rmse",
    "sample_precision",
    "sample_recall",
    "separated_predictability",
    "stacking_weights",
    "temper",
    "uniformity_p_value",
]
