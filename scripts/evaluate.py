"""Estimate log p(x) of a trained VAE, with diagnostics of the estimate.

Writes evidence.json (means) and evidence.npz (values of each datum) to the folder of the run;
methods other than importance sampling write evidence-METHOD.json and .npz.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import command_line
import torch
import tyro
from progress import evidence_bar, progress_bar, say
from script_context import script_context

import pyrovae as pv
from pyrovae.data import Batches
from pyrovae.evidence import (
    Evidence,
    Quadrature,
    annealed_importance,
    bidirectional,
    evidence_table,
    inference_gaps,
    quadrature,
)
from pyrovae.programs.semi_amortized import SemiAmortized
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, FromZero, OutFolder, Seed, Share
from pyrovae.recipes.deep_vae_settings import DeepSettings
from pyrovae.recipes.machine import choose_device, peak_memory_mib
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import write_arrays, write_result
from pyrovae.recipes.run_folder import Folder
from pyrovae.recipes.setting_rules import OnlyWith
from pyrovae.recipes.tables import write_markdown
from pyrovae.recipes.trained_bnn import TrainedBnn
from pyrovae.recipes.trained_vae import TrainedVae
from pyrovae.recipes.vae import some_rows
from pyrovae.recipes.vae_parts import DENSITIES
from pyrovae.recipes.vae_settings import Settings

SAMPLING = ("is", "psis")
ANNEALING = OnlyWith(method="ais", table=True)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    folder: Annotated[OutFolder, tyro.conf.Positional]
    """The folder that train_vae.py or train_deep_vae.py wrote."""
    method: Literal["is", "psis", "ais", "quadrature"] = "is"
    """is: importance sampling from the guide. psis: with Pareto-smoothed weights. ais: annealed
    importance sampling from the prior; slower, but accurate even if the guide is not. quadrature:
    exact, for at most two latent dimensions."""
    num_particles: Annotated[Count, OnlyWith(method=SAMPLING, table=True, gaps=True)] = 5000
    """K, the number of importance samples; k-hat measures whether they suffice."""
    num_chains: Annotated[Count, ANNEALING] = 16
    """Chains for each datum."""
    num_steps: Annotated[Count, ANNEALING] = 1000
    """Number of temperatures."""
    from_guide: Annotated[bool, OnlyWith(method="ais")] = False
    """Start from the guide instead of the prior."""
    defensive: Annotated[Share, OnlyWith(method=SAMPLING)] = 0.0
    """Fraction of the particles drawn from the prior, which bounds the weights."""
    refine: Annotated[FromZero, OnlyWith(method=SAMPLING, from_guide=True, table=True)] = 0
    """Gradient steps that refine the guide for each datum before sampling."""
    split: Literal["test", "valid", "train"] = "test"
    max_data: Count | None = None
    """Maximum number of data, chosen at random; all by default (ais: 100)."""
    chunk: Annotated[Count, OnlyWith(method=SAMPLING)] = 500
    """Particles that are decoded at once; lower it to save memory."""
    table: bool = False
    """Also print a table of all estimates for the same data (the ELBO, importance sampling at K = 1
    to --num-particles, AIS, quadrature for at most two latent dimensions) and, as a measure of the
    error of AIS, bidirectional bounds on simulated data."""
    table_data: Annotated[Count, OnlyWith(table=True)] = 100
    """Maximum number of data for the table; as many are simulated."""
    gaps: bool = False
    """Also split the inference gap into approximation and amortisation gap, by refining q for each
    datum."""
    gap_data: Annotated[Count, OnlyWith(gaps=True)] = 200
    """Maximum number of data for the gaps."""
    gap_steps: Annotated[Count, OnlyWith(gaps=True)] = 300
    """Refinement steps for the gaps."""
    seed: Seed = 0
    device: str = "auto"
    """auto (CUDA if available), cpu, cuda, cuda:1, ..."""

    def __post_init__(self) -> None:
        bounds.check(self)
        if (
            self.defensive
            and not 0 < round(self.defensive * self.num_particles) < self.num_particles
        ):
            raise Refusal(
                f"--defensive {self.defensive} of --num-particles {self.num_particles} leaves no particle to the prior, "
                "or none to the guide."
            )
        if self.method == "psis" and self.num_particles < 25:
            raise Refusal(
                f"--method psis smooths the largest fifth of the weights, which requires --num-particles of at "
                f"least 25, not {self.num_particles}."
            )

    def asked(self, *, gaps: bool = False) -> dict:
        """The settings that determine evidence.json, or gaps.json."""
        names = (
            ("num_particles", "gap_data", "gap_steps")
            if gaps
            else (
                "method",
                "num_particles",
                "num_chains",
                "num_steps",
                "from_guide",
                "defensive",
                "refine",
                "max_data",
            )
        )
        return {name: getattr(self, name) for name in (*names, "split", "seed")}


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run, loaded for evaluation."""

    folder: Folder
    settings: Settings | DeepSettings
    model: pv.Model
    guide: pv.Guide
    proposal: Callable
    data: Batches
    binarize: str

    @classmethod
    def load(cls, evaluation: Evaluation) -> "Trained":
        """Load a run. Raises Refusal if the folder holds none, if its data have changed, or if it lacks
        the split."""
        run = pv.load_run(evaluation.folder, device=choose_device(evaluation.device))
        if isinstance(run, TrainedBnn):
            raise Refusal(
                f"{run.path} is a run of train_bnn.py, whose scores are in its run.json; expected one of train_vae.py "
                "or train_deep_vae.py."
            )
        if isinstance(run, TrainedVae) and run.settings.model.guide == "point":
            raise Refusal(f"{run.path} holds an autoencoder, which has no log p(x) to estimate.")
        proposal = run.guide
        guide = proposal.guide if isinstance(proposal, SemiAmortized) else proposal
        if evaluation.refine:
            proposal = SemiAmortized(guide, run.model, steps=evaluation.refine)
        data, binarize = run.data(evaluation.split), run.run["data"]["binarize"]
        return cls(run.folder, run.settings, run.model, guide, proposal, data, binarize)


def evaluate(evaluation: Evaluation, trained: Trained) -> dict[str, object]:
    """Estimate log p(x) with the chosen method, and write its files."""
    usual = 100 if evaluation.method == "ais" else len(trained.data.data)
    rows = some_rows(trained.data, evaluation.max_data or usual, evaluation.seed)
    start = time.perf_counter()
    torch.manual_seed(evaluation.seed)
    evidence = METHODS[evaluation.method](evaluation, trained.model, trained.proposal, rows)
    if evaluation.method == "psis":
        evidence = dataclasses.replace(evidence, log_px=evidence.psis)
    density = trained.settings.model.likelihood in DENSITIES
    num_dims = math.prod(rows.take(1)["x"].shape[1:])
    result = {
        "log_px": evidence.mean,
        "se": evidence.mean_se,
        "num_data": len(evidence.log_px),
        "method": evaluation.method,
        "bits_per_dim": -evidence.mean / (num_dims * math.log(2)),
        "split": evaluation.split,
        "unit": "nats",
        "kind": "density" if density else "probability",
        "binarize": trained.binarize,
        "seconds": time.perf_counter() - start,
        "peak_memory_mib": peak_memory_mib(),
        "asked": evaluation.asked(),
    }
    if isinstance(evidence, Quadrature):
        result |= {"error": evidence.error.max().item()}
    else:
        result |= {
            "elbo": evidence.elbo.mean().item(),
            "num_particles": evidence.num_particles,
            "ess_median": evidence.ess.median().item(),
            "khat_above_0_7": int(evidence.untrusted.sum()),
            "jackknife": evidence.jackknife.mean().item(),
            "monte_carlo_se": evidence.monte_carlo_se,
        }
    stem = trained.folder.path / (
        "evidence" if evaluation.method == "is" else f"evidence-{evaluation.method}"
    )
    each, means = stem.with_suffix(".npz"), stem.with_suffix(".json")
    write_arrays(
        each,
        {
            name: value.numpy()
            for name, value in vars(evidence).items()
            if isinstance(value, torch.Tensor)
        },
    )
    write_json(means, result, files=[each])
    note = " (a density: not comparable with probabilities)" if density else ""
    say(
        f"{evaluation.split} {evidence}\n{result['bits_per_dim']:.4f} bits per dimension{note}; "
        f"{result['seconds']:.0f} s, peak memory {result['peak_memory_mib'] or math.nan:.0f} MiB; written to {stem}.json"
    )
    return result


def split_gap(evaluation: Evaluation, trained: Trained) -> dict[str, object]:
    """Split the inference gap, and write gaps.json."""
    rows = some_rows(trained.data, evaluation.gap_data, evaluation.seed)
    torch.manual_seed(evaluation.seed)
    with evidence_bar(
        rows, 2 * evaluation.num_particles, desc="gaps"
    ) as bar:  # of the guide before and after refinement
        gaps = inference_gaps(
            trained.model,
            trained.guide,
            rows,
            steps=evaluation.gap_steps,
            num_particles=evaluation.num_particles,
            progress=bar.update,
        )
    result = {"num_data": len(rows.data), "asked": evaluation.asked(gaps=True)}
    for name, (mean, se) in gaps.means.items():
        result |= {name: mean, f"{name}_se": se}
    write_json(trained.folder.path / "gaps.json", result)
    say(gaps)
    return result


def tabulate(evaluation: Evaluation, trained: Trained) -> None:
    """Compare all estimates, and write table.md."""
    rows = some_rows(trained.data, evaluation.table_data, evaluation.seed)
    torch.manual_seed(evaluation.seed)
    steps = {
        "num_chains": evaluation.num_chains,
        "num_steps": evaluation.num_steps,
        "progress": lambda temperatures: progress_bar(temperatures, desc="annealing"),
    }
    counts = tuple(k for k in (1, 10, 100, 1000) if k < evaluation.num_particles) + (
        evaluation.num_particles,
    )
    table = evidence_table(
        trained.model, trained.proposal, list(rows), num_particles=counts, **steps
    )
    conditions = {name: value for name, value in rows.take(len(rows.data)).items() if name == "c"}
    bounds = bidirectional(trained.model, len(rows.data), conditions=conditions or None, **steps)
    text = f"{table}\n\nOn data drawn from the model: {bounds}\n"
    write_markdown(trained.folder.path / "table.md", text)
    say(f"\n{text}")


def write_json(path: Path, result: dict[str, object], **options: object) -> None:
    """Write JSON with non-finite numbers replaced by null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in result.items()
    }
    write_result(path, finite, **options)


def _importance(
    evaluation: Evaluation, model: pv.Model, guide: Callable, rows: object
) -> Evidence:
    with evidence_bar(rows, evaluation.num_particles) as bar:
        return pv.log_evidence(
            model,
            guide,
            rows,
            chunk=evaluation.chunk,
            num_particles=evaluation.num_particles,
            defensive=evaluation.defensive,
            progress=bar.update,
        )


def _annealed(evaluation: Evaluation, model: pv.Model, guide: Callable, rows: object) -> Evidence:
    return annealed_importance(
        model,
        rows,
        guide=guide if evaluation.from_guide else None,
        num_chains=evaluation.num_chains,
        num_steps=evaluation.num_steps,
        progress=lambda steps: progress_bar(steps, desc="annealing"),
    )


def _quadrature(
    evaluation: Evaluation, model: pv.Model, guide: Callable, rows: Batches
) -> Quadrature:
    with progress_bar(total=len(rows.data), desc="quadrature", unit=" data") as bar:
        return quadrature(model, rows, progress=bar.update)


METHODS: dict[str, Callable[[Evaluation, pv.Model, Callable, object], Evidence | Quadrature]] = {
    "is": _importance,
    "psis": _importance,
    "ais": _annealed,
    "quadrature": _quadrature,
}


def main(evaluation: Evaluation) -> None:
    trained = Trained.load(evaluation)
    evaluate(evaluation, trained)
    if evaluation.gaps:
        split_gap(evaluation, trained)
    if evaluation.table:
        tabulate(evaluation, trained)


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Evaluation, __doc__))
