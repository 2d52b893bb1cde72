"""Scores after one number, fitted on held-out data, has corrected the confidence of a method."""

from collections.abc import Callable

import torch
from torch import Tensor

import pyrovae as pv
from pyrovae import metrics
from pyrovae.data import Batches
from pyrovae.prediction.mixture import NormalMixture, fit_width, predict_mixtures

LEVEL = 0.9


def scaled_classes(
    model: Callable, guide: Callable, held_out: Batches, probs: Tensor, y: Tensor, num_samples: int
) -> dict[str, float]:
    """Scores of test probabilities after temperature scaling (Guo et al. 2017, arXiv:1706.04599)."""
    moments = pv.predict_moments(model, guide, held_out, num_samples=num_samples, site="y")
    fitted_on = moments.mean / moments.mean.sum(-1, keepdim=True)
    temperature = metrics.fit_temperature(fitted_on, held_out.data.tensors["y"])
    scaled = metrics.temper(probs, temperature)
    return {
        "temperature": temperature,
        "nll_scaled": float(metrics.nll(scaled, y).mean()),
        "brier_scaled": float(metrics.brier(scaled, y).mean()),
        "ece_scaled": float(metrics.calibration_error(scaled, y)),
    }


def scaled_regression(
    model: Callable,
    guide: Callable,
    held_out: Batches,
    test: Batches,
    num_samples: int,
    scale: Tensor,
) -> dict[str, float]:
    """Scores of the predictive mixture after all deviations from its mean are multiplied by one
    factor. scale: of y, `(1, T)`."""

    def mixture(data: Batches) -> NormalMixture:
        parts = predict_mixtures(
            model, guide, data, num_samples=num_samples, read=lambda part: part, site="y"
        )
        return NormalMixture(
            torch.cat([part.loc for part in parts], 1),
            torch.cat([part.scale for part in parts], 1),
        )

    factor = fit_width(mixture(held_out), held_out.data.tensors["y"].double())
    scaled, y = mixture(test).widened(factor), test.data.tensors["y"].double()
    inside = (scaled.quantile((1 - LEVEL) / 2) <= y) & (y <= scaled.quantile((1 + LEVEL) / 2))
    return {
        "width_factor": factor,
        "log_predictive_scaled": float((scaled.log_prob(y) - scale.log()).sum(-1).mean()),
        "coverage_90_scaled": float(inside.double().mean()),
    }
