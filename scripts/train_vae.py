"""Train a variational autoencoder, estimate its log p(x), and plot what it learned.

Without arguments it trains a 2-D latent space on the handwritten digits of scikit-learn, in less
than three minutes on two cores.
All output is in one folder: run.json (settings, versions, metrics), history.csv,
weights.safetensors, checkpoint.safetensors (for --resume) and figures/.
"""

import math
import sys
import time
from pathlib import Path

import command_line
import pyro
import torch
from progress import evidence_bar, say
from script_context import script_context
from tracking import start_tracker

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.data import (
    Batches,
)
from pyrovae.heads import BernoulliHead
from pyrovae.nets import MLP
from pyrovae.recipes.autoencoder import (
    describe,
    reconstruction_log_likelihood,
    reconstruction_metrics,
)
from pyrovae.recipes.machine import choose_device, peak_memory_mib
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.run_folder import Folder, OnceAccepted
from pyrovae.recipes.vae import (
    Prepared,
    autocast,
    learning_rates,
    make_loss,
    prepare,
    proposal_of,
    stored,
    threads_of,
)
from pyrovae.recipes.vae_figures import draw_figures
from pyrovae.recipes.vae_metrics import evidence_metrics, scored_rows
from pyrovae.recipes.vae_pair import build, fit_constants
from pyrovae.recipes.vae_settings import Settings
from pyrovae.training.hooks import Checkpoint, EarlyStopping, HistoryFile, ProgressBar, TensorBoard
from pyrovae.training.trackers import Track


def baseline(
    s: Settings, data: Prepared, scored: Batches, device: torch.device, best: Path
) -> float:
    """Mean log p(x | c) of the `scored` data, in nats, of a network from c to independent pixels,
    without latent variables.

    It is stopped at its best validation loss, so that it does not overfit.
    """
    net = MLP(data.num_conditions, s.model.hidden, data.shape).to(device)
    loss = pv.ElboLoss(pv.Model(x=pv.Node(BernoulliHead(net), "c")), lambda **batch: None)
    valid = data.valid and data.valid.to(device)
    pv.fit(
        loss,
        data.train.to(device),
        epochs=s.run.epochs,
        valid=valid,
        lr=s.run.lr,
        hooks=[
            *([EarlyStopping(best, patience=5)] if valid else []),
            ProgressBar("net without latent variables"),
        ],
    )
    return -pv.evaluate(loss, scored.to(device))["loss"]


def train(s: Settings, ranks: pv.Ranks) -> Path:
    """Train a VAE, in one process or several, and return the folder of the run."""
    if ranks.size > 1 and s.run.out is None:
        raise Refusal("several processes need one folder to write to: --out DIR.")
    default = f"runs/{Path(s.data.dataset).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    with Folder.for_run(s, "train_vae.py", default, writes=ranks.first) as folder:
        return _train(s, ranks, folder)


def _train(s: Settings, ranks: pv.Ranks, folder: Folder) -> Path:
    start = time.perf_counter()
    ranks.wait()  # until all processes have checked the folder
    data = prepare(s)
    splits = data.splits
    digest = data.digest()
    if s.run.resume:
        folder.refuse_other_data(digest)
    if s.run.patience and data.valid is None:
        raise Refusal(
            "--patience needs validation data, but --valid-size 0 holds out no data; drop one."
        )
    device = choose_device(s.run.device)
    if s.run.precision == "tf32":
        torch.set_float32_matmul_precision("high")
    torch.set_num_threads(threads_of(s, data.shape))
    pyro.set_rng_seed(s.run.seed)
    model, guide = build(s, data.shape, splits.levels, data.num_conditions)
    fit_constants(model, guide, stored(data), s)
    loss = make_loss(model, guide, s, len(data.train)).to(device)
    hooks, tracker = [], None
    if ranks.first:
        facts = {
            "name": splits.name,
            "source": splits.source,
            "event_shape": list(splits.event_shape),
            "levels": splits.levels,
            "binarize": data.binarize,
            "num_train": len(splits.train),
            "num_valid": len(splits.valid) if splits.valid is not None else 0,
            "num_test": len(splits.test),
            "x_shape": list(data.shape),
            "num_conditions": data.num_conditions,
            "classes": list(data.classes),
            **({} if data.columns is None else data.columns.facts()),
            "steps_per_epoch": len(data.train),
            "sha256": digest,
        }
        say(
            f"{splits.name}: {len(splits.train)} training data {tuple(splits.event_shape)}, binarize {data.binarize}; "
            f"{sum(p.numel() for p in loss.parameters()):,} parameters on {_where(ranks, device)}; "
            f"writing to {folder.path}"
        )
        hooks += [OnceAccepted(lambda: folder.begin(s, device=device, data=facts))]
        hooks += (
            [EarlyStopping(folder.best, patience=s.run.patience, start=s.objective.kl_warmup)]
            if s.run.patience
            else []
        )
        hooks += [
            Checkpoint(folder.checkpoint),
            HistoryFile(folder.history),
            ProgressBar("training"),
        ]
        hooks += [TensorBoard(folder.path / "tensorboard")] if s.run.tensorboard else []
        if s.run.track != "none":
            tracker = start_tracker(s.run.track, folder.path.name)
            hooks += [Track(tracker, settings=s, end=False)]
    train_data = data.train.to(device)
    history = pv.fit(
        loss,
        ranks.shard(train_data) if ranks.size > 1 else train_data,
        epochs=s.run.epochs,
        valid=data.valid and data.valid.to(device),
        lr=s.run.lr,
        schedule=learning_rates(s),
        clip_norm=s.run.clip_norm,
        hooks=hooks,
        compile=s.run.compile,
        context=autocast(s.run.precision, device),
        resume=folder.resumed_from(s.run.resume),
        fabric=ranks if ranks.size > 1 else None,
    )
    train_seconds = sum(history["seconds"])
    scored = scored_rows(data.test, s)
    evidence = None if s.model.guide == "point" else _evidence(s, ranks, model, loss, scored)
    ranks.close()  # the rest is done by the first process alone
    if not ranks.first:
        return folder.path
    folder.replace_weights(loss)
    folder.record(
        train_seconds=train_seconds,
        epochs_done=len(history),
        last_epoch=history[-1],
        train_peak_memory_mib=peak_memory_mib(),
    )
    if evidence is None:
        model.eval(), guide.eval()
        metrics = reconstruction_metrics(
            reconstruction_log_likelihood(model, guide, scored, device)
        )
        outcome = describe(metrics)
    else:
        metrics = evidence_metrics(evidence, s)
        outcome = str(evidence)
    lines = [f"trained {len(history)} epochs in {train_seconds:.0f} s; test {outcome}"]
    if data.task and data.task.name != "label" and s.model.likelihood == "bernoulli":
        metrics["baseline_log_px"] = baseline(
            s, data, scored, device, folder.path / "baseline.safetensors"
        )
        lines.append(
            f"a net without latent variables, p(x | c) with independent pixels: {metrics['baseline_log_px']:.3f} nats"
        )
    folder.record(metrics=metrics, wall_seconds=time.perf_counter() - start)
    say("\n".join(lines) + f"\npeak memory: {peak_memory_mib() or math.nan:.0f} MiB")
    figures = draw_figures(model, guide, data.test, history, splits, device, data.task)
    plots.save(figures, folder.figures)
    if tracker is not None:
        tracker.figures(figures, len(history))
        tracker.finish()
    say(
        f"pictures: {', '.join(sorted(path.name for path in folder.figures.glob('*.png')))} in {folder.figures}"
    )
    return folder.path


def _evidence(
    s: Settings, ranks: pv.Ranks, model: pv.Model, loss: torch.nn.Module, scored: Batches
) -> pv.Evidence:
    """log p(x) of test data; each process scores its share."""
    torch.manual_seed(s.run.seed + ranks.rank)
    own = _own(scored, ranks)
    with evidence_bar(own, s.run.eval_particles, disable=not ranks.first) as bar:
        return ranks.gather(
            pv.log_evidence(
                model,
                proposal_of(loss),
                own,
                num_particles=s.run.eval_particles,
                compile=s.run.compile,
                progress=bar.update,
            )
        )


def _where(ranks: pv.Ranks, device: torch.device) -> str:
    return f"{device}" if ranks.size == 1 else f"{ranks.size} x {device.type}"


def _own(batches: Batches, ranks: pv.Ranks) -> Batches:
    """The rows that this process evaluates."""
    rows = torch.arange(ranks.rank, len(batches.data), ranks.size)
    return Batches(
        type(batches.data)(**batches.data[rows]), batches.batch_size, transform=batches.transform
    )


if __name__ == "__main__":
    with script_context():
        train(command_line.parse(Settings, __doc__), pv.Ranks())
    sys.exit(0)
