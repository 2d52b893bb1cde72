"""Estimate log p(x) of a trained VAE, and say how far to trust it.

Writes evidence.json (the means) and evidence.npz (each datum) into the run's folder; methods other than importance sampling
write evidence-METHOD.json and .npz beside them.
"""
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from run_folder import Folder, Refusal, choose_device, peak_memory_mib, refuse_politely
from tqdm.auto import tqdm
from train_vae import make_loss, prepare, proposal_of, some_rows
from vae_parts import DENSITIES, build
from vae_settings import Settings

import pyrovae as pv
from pyrovae.evidence import Evidence, annealed_importance, inference_gaps, quadrature
from pyrovae.files import write_atomically
from pyrovae.refine import SemiAmortized


@dataclasses.dataclass(frozen=True)
class Evaluation:
    folder: Annotated[Path, tyro.conf.Positional]
    """The folder that train_vae.py wrote."""
    method: Literal["is", "psis", "ais", "quadrature"] = "is"
    """is: importance sampling from the guide. psis: the same with its largest weights smoothed. ais: annealed importance
    sampling from the prior, slow and accurate where the guide is not. quadrature: exact, for at most two latent dimensions."""
    num_particles: int = 5000
    """is, psis: K; the bound rises with it and k-hat says whether it has arrived."""
    num_chains: int = 16
    """ais: chains for each datum."""
    num_steps: int = 1000
    """ais: temperatures."""
    from_guide: bool = False
    """ais: start from the guide instead of the prior."""
    defensive: float = 0.0
    """is, psis: part of the particles that is drawn from the prior, which bounds the weights."""
    refine: int = 0
    """is, psis: steps by which the guide is refined for each datum before it proposes."""
    split: Literal["test", "valid", "train"] = "test"
    max_data: int | None = None
    """At most so many data, chosen at random; all by default (ais: 100)."""
    chunk: int = 500
    """Particles that enter the decoder at once; lower it where memory is short."""
    gaps: bool = False
    """Also split the inference gap into an approximation and an amortisation gap, by refining q for each datum."""
    gap_data: int = 200
    """At most so many data for the gaps."""
    gap_steps: int = 300
    """Steps of refinement for the gaps."""
    seed: int = 0
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""

    def __post_init__(self) -> None:
        for name in ("num_particles", "num_chains", "num_steps", "chunk", "gap_data", "gap_steps", "max_data"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise Refusal(f"--{name.replace('_', '-')} {value}: wanted at least 1.")
        if not 0 <= self.defensive < 1 or self.refine < 0:
            raise Refusal("--defensive is a part of the particles, at least 0 and below 1; --refine a number of steps.")

    def as_json(self) -> dict:
        return json.loads(json.dumps(dataclasses.asdict(self), default=str))


def evaluate(evaluation: Evaluation) -> dict[str, object]:
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
        raise Refusal(f"this run held out no validation data; evaluate --split test or train, not {evaluation.split}.")
    usual = 100 if evaluation.method == "ais" else len(data.data)
    rows = some_rows(data, evaluation.max_data or usual, evaluation.seed)
    start = time.perf_counter()
    torch.manual_seed(evaluation.seed)
    proposal = SemiAmortized(guide, model, steps=evaluation.refine) if evaluation.refine else proposal_of(loss)
    evidence = METHODS[evaluation.method](evaluation, model, proposal, rows)
    if evaluation.method == "psis":
        evidence = dataclasses.replace(evidence, log_px=evidence.psis)
    result = summarize(evaluation, evidence, math.prod(prepared.shape)) | {
        "kind": "density" if settings.likelihood in DENSITIES else "probability", "binarize": run["data"]["binarize"],
        "seconds": time.perf_counter() - start, "peak_memory_mib": peak_memory_mib()}
    note = " (of a density: not comparable with probabilities)" if result["kind"] == "density" else ""
    lines = [f"{evaluation.split} {evidence}"]
    if evaluation.gaps:
        torch.manual_seed(evaluation.seed)
        gaps = inference_gaps(model, guide, tqdm(some_rows(data, evaluation.gap_data, evaluation.seed), desc="gaps"),
                              num_particles=evaluation.num_particles, steps=evaluation.gap_steps)
        result["gaps"] = {name: getattr(gaps, name) for name in (
            "approximation", "approximation_se", "amortization", "amortization_se")} | {"num_data": len(gaps.elbo)}
        lines.append(str(gaps))
    stem = "evidence" if evaluation.method == "is" else f"evidence-{evaluation.method}"
    with (folder.path / f"{stem}.npz").open("wb") as file:
        np.savez(file, **{name: getattr(evidence, name).numpy() for name in ("log_px", "se", "elbo", "ess", "khat")})
    finite = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in result.items()}
    write_atomically(folder.path / f"{stem}.json", (json.dumps(finite, indent=2, allow_nan=False) + "\n").encode())
    print("\n".join(lines) + f"\n{result['bits_per_dim']:.4f} bits per dimension{note}; {result['seconds']:.0f} s, peak memory "
          f"{result['peak_memory_mib'] or math.nan:.0f} MiB; written to {folder.path / stem}.json")
    return result


def _importance(evaluation: Evaluation, model: pv.Model, guide: Callable, rows: object) -> Evidence:
    return pv.log_evidence(model, guide, tqdm(rows, desc="log p(x)", unit="batch"), chunk=evaluation.chunk,
                           num_particles=evaluation.num_particles, defensive=evaluation.defensive)


def _annealed(evaluation: Evaluation, model: pv.Model, guide: Callable, rows: object) -> Evidence:
    return annealed_importance(model, rows, guide=guide if evaluation.from_guide else None, num_chains=evaluation.num_chains,
                               num_steps=evaluation.num_steps, progress=lambda steps: tqdm(steps, desc="annealing"))


METHODS: dict[str, Callable[[Evaluation, pv.Model, Callable, object], Evidence]] = {
    "is": _importance, "psis": _importance, "ais": _annealed,
    "quadrature": lambda evaluation, model, guide, rows: quadrature(model, tqdm(rows, desc="quadrature", unit="batch")),
}


def summarize(evaluation: Evaluation, evidence: Evidence, num_dims: int) -> dict[str, object]:
    """The means, with what is needed to read them."""
    return {
        "log_px": evidence.mean, "se": evidence.mean_se, "elbo": evidence.elbo.mean().item(), "method": evaluation.method,
        "num_particles": evidence.num_particles, "num_data": len(evidence.log_px),
        "ess_median": evidence.ess.median().item(), "khat_above_0_7": int(evidence.untrusted.sum()),
        "jackknife": evidence.jackknife.mean().item(), "bits_per_dim": -evidence.mean / (num_dims * math.log(2)),
        "split": evaluation.split, "monte_carlo_se": evidence.monte_carlo_se, "unit": "nats", "asked": evaluation.as_json()}


if __name__ == "__main__":
    with refuse_politely():
        evaluate(tyro.cli(Evaluation, description=__doc__))
