"""How good predictions are: pure functions of plain tensors.

S predictive draws lead, then N data. What is a mean over data comes as `(N,)` values, so that
`mean_and_error` gives both the mean and its standard error; what is not one (`rmse`,
`calibration_error`, `auroc`, `aupr`) is a scalar, whose error comes from repeating over splits or
seeds.

| of | functions |
|---|---|
| real predictions | `rmse`, `log_predictive_density`, `crps`, `crps_normal_mixture`, `coverage`, `interval_width` |
| class probabilities | `accuracy`, `nll`, `brier`, `entropy`, `mutual_information` |
| their calibration | `calibration_error`, `reliability` |
| telling unknown data from known | `auroc`, `aupr` |
| any of them, over data, splits or seeds | `mean_and_error` |
"""

from pyrovae.metrics.calibration import Reliability, calibration_error, reliability
from pyrovae.metrics.classification import accuracy, brier, entropy, mutual_information, nll
from pyrovae.metrics.crps import crps, crps_normal_mixture
from pyrovae.metrics.detection import aupr, auroc
from pyrovae.metrics.regression import coverage, interval_width, log_predictive_density, rmse
from pyrovae.metrics.summary import MeanError, mean_and_error

__all__ = [
    "MeanError",
    "Reliability",
    "accuracy",
    "aupr",
    "auroc",
    "brier",
    "calibration_error",
    "coverage",
    "crps",
    "crps_normal_mixture",
    "entropy",
    "interval_width",
    "log_predictive_density",
    "mean_and_error",
    "mutual_information",
    "nll",
    "reliability",
    "rmse",
]
