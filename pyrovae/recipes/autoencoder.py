"""What a deterministic autoencoder is scored by: it has no log p(x)."""

import math

import torch
from torch import Tensor

import pyrovae as pv
from pyrovae.data import Batches
from pyrovae.evidence.result import standard_error
from pyrovae.recipes.vae_means import codes


@torch.no_grad()
def reconstruction_log_likelihood(
    model: pv.Model, guide: pv.Guide, data: Batches, device: torch.device
) -> Tensor:
    """log p(x_i | z_i) at the code of each datum, in nats, `(N,)` float64 on the CPU; eval mode is
    the caller's."""
    parts = []
    for batch in data.to(device):
        fn = model.nodes["x"]({**batch, **codes(guide, batch)})
        parts.append(fn.log_prob(batch["x"]).double().cpu())
    return torch.cat(parts)


def reconstruction_metrics(log_likelihood: Tensor) -> dict[str, object]:
    """For run.json."""
    return {
        "reconstruction": float(log_likelihood.mean()),
        "reconstruction_se": standard_error(log_likelihood),
        "num_data": len(log_likelihood),
        "split": "test",
    }


def describe(metrics: dict[str, object]) -> str:
    """In a line, for the terminal."""
    value, se = float(str(metrics["reconstruction"])), float(str(metrics["reconstruction_se"]))
    shown = f"{value:.3f}" + ("" if math.isnan(se) else f" +- {se:.3f}")
    return (
        f"log p(x | z) = {shown} nats (N = {metrics['num_data']}); an autoencoder has no log p(x)"
    )
