"""Estimate log p(x) of a trained VAE by importance sampling, and say how far to trust it.

Writes evidence.json (the means) and evidence.npz (each datum) into the run's folder.
"""
import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from run_folder import Folder, choose_device, peak_memory_mib, refuse_politely
from tqdm.auto import tqdm
from train_vae import make_loss, prepare, some_rows
from vae_parts import build
from vae_settings import Settings

import pyrovae as pv
from pyrovae.files import write_atomically


@dataclasses.dataclass(frozen=True)
class Evaluation:
    folder: Annotated[Path, tyro.conf.Positional]
    """The folder that train_vae.py wrote."""
    num_particles: int = 5000
    """K: the bound rises with it and k-hat says whether it has arrived."""
    split: Literal["test", "valid", "train"] = "test"
    max_data: int | None = None
    """At most so many data, chosen at random; all by default."""
    chunk: int = 500
    """Particles that enter the decoder at once; lower it where memory is short."""
    gaps: bool = False
    """Also split the inference gap into an approximation and an amortisation gap, by refining q for each datum."""
    gap_data: int = 200
    """At most so many data for the gaps."""
    gap_steps: int = 200
    """Steps of refinement."""
    seed: int = 0
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""


def evaluate(evaluation: Evaluation) -> dict[str, float]:
    folder, device = Folder(evaluation.folder), choose_device(evaluation.device)
    run = folder.read()
    settings = Settings.from_json(run["arguments"])
    prepared = prepare(settings)
    model, guide = build(settings, prepared.shape, prepared.splits.levels, prepared.num_conditions)
    loss = make_loss(model, guide, settings, steps_per_epoch=1)
    pv.load_weights(loss, folder.weights)
    loss.to(device)
    data = getattr(prepared, evaluation.split)
    if data is None:
        raise pv.PairError(f"this run held out no validation data; evaluate --split test or train, not {evaluation.split}.")
    data = some_rows(data, evaluation.max_data or len(data.data), evaluation.seed)
    start = time.perf_counter()
    torch.manual_seed(evaluation.seed)
    evidence = pv.log_evidence(model, guide, tqdm(data, desc="log p(x)", unit="batch"),
                               num_particles=evaluation.num_particles, chunk=evaluation.chunk)
    num_dims = math.prod(run["data"]["event_shape"])
    result = {
        "log_px": evidence.mean, "se": evidence.mean_se, "elbo": evidence.elbo.mean().item(),
        "num_particles": evaluation.num_particles, "num_data": len(evidence.log_px),
        "ess_median": evidence.ess.median().item(), "khat_above_0_7": int(evidence.untrusted.sum()),
        "bits_per_dim": -evidence.mean / (num_dims * math.log(2)), "split": evaluation.split,
        "monte_carlo_se": evidence.monte_carlo_se, "unit": "nats", "binarize": run["data"]["binarize"],
        "kind": "probability" if settings.likelihood in ("bernoulli", "categorical") else "density",
        "seconds": time.perf_counter() - start, "peak_memory_mib": peak_memory_mib()}
    write_atomically(folder.path / "evidence.json", (json.dumps(result, indent=2) + "\n").encode())
    with (folder.path / "evidence.npz").open("wb") as file:
        np.savez(file, **{name: getattr(evidence, name).numpy() for name in ("log_px", "se", "elbo", "ess", "khat")})
    note = " (of a density: not comparable with probabilities)" if result["kind"] == "density" else ""
    print(f"{evaluation.split} {evidence}\n{result['bits_per_dim']:.4f} bits per dimension{note}; "
          f"{result['seconds']:.0f} s, peak memory {result['peak_memory_mib'] or math.nan:.0f} MiB; "
          f"written to {folder.path / 'evidence.json'}")
    return result


if __name__ == "__main__":
    with refuse_politely():
        evaluate(tyro.cli(Evaluation, description=__doc__))
