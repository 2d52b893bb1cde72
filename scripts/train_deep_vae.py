"""Train a deep hierarchical VAE of images: convolutions, latents in space, inference from the top down.

Without arguments it trains two levels on the handwritten digits of scikit-learn, in a few minutes.

    python scripts/train_deep_vae.py --dataset binarized-mnist --size cpu --epochs 45 --lr-decay-epochs 15 \\
        --clip-norm 100 --compile off

On a CPU these convolutions run faster as they are than compiled.

All output is in one folder, as that of train_vae.py: run.json (settings, versions, metrics),
history.csv, weights.safetensors, checkpoint.safetensors (for --resume) and figures/.
"""

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
from pyrovae.recipes.deep_vae_run import draw_figures, estimate, load_images, make_loss, make_pair
from pyrovae.recipes.deep_vae_settings import DeepSettings
from pyrovae.recipes.machine import choose_device, peak_memory_mib
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.run_folder import Folder, OnceAccepted
from pyrovae.recipes.vae import autocast, learning_rates
from pyrovae.recipes.vae_metrics import evidence_metrics, scored_rows
from pyrovae.training.hooks import Checkpoint, EarlyStopping, HistoryFile, ProgressBar, TensorBoard
from pyrovae.training.trackers import Track


def train(s: DeepSettings) -> Path:
    """Train, evaluate and draw; return the folder of the run."""
    default = f"runs/deep-{Path(s.model.dataset).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    with Folder.for_run(s, "train_deep_vae.py", default) as folder:
        return _train(s, folder)


def _train(s: DeepSettings, folder: Folder) -> Path:
    start = time.perf_counter()
    images = load_images(s)
    facts = images.facts()
    if s.run.resume:
        folder.refuse_other_data(str(facts["sha256"]))
    if s.run.patience and images.valid is None:
        raise Refusal("--patience needs validation data, and this set has none; drop it.")
    device = choose_device(s.run.device)
    if s.run.precision == "tf32":
        torch.set_float32_matmul_precision("high")
    if s.run.threads is not None:
        torch.set_num_threads(s.run.threads)
    pyro.set_rng_seed(s.run.seed)
    model, guide = make_pair(s, images.splits.event_shape, images.likelihood)
    loss = make_loss(model, guide, s, len(images.train)).to(device)
    say(
        f"{facts['name']}: {facts['num_train']} training data {tuple(images.splits.event_shape)}, binarize "
        f"{images.binarize}; {sum(p.numel() for p in loss.parameters()):,} parameters on {device}; "
        f"writing to {folder.path}"
    )
    tracker = start_tracker(s.run.track, folder.path.name) if s.run.track != "none" else None
    hooks = [
        OnceAccepted(lambda: folder.begin(s, device=device, data=facts)),
        *(
            [EarlyStopping(folder.best, patience=s.run.patience, start=s.model.kl_warmup)]
            if s.run.patience
            else []
        ),
        Checkpoint(folder.checkpoint),
        HistoryFile(folder.history),
        ProgressBar("training"),
        *([TensorBoard(folder.path / "tensorboard")] if s.run.tensorboard else []),
        *([Track(tracker, settings=s, end=False)] if tracker else []),
    ]
    history = pv.fit(
        loss,
        images.train.to(device),
        epochs=s.run.epochs,
        valid=images.valid and images.valid.to(device),
        lr=s.run.lr,
        schedule=learning_rates(s),
        clip_norm=s.run.clip_norm,
        hooks=hooks,
        compile=s.run.compile,
        context=autocast(s.run.precision, device),
        resume=folder.resumed_from(s.run.resume),
    )
    folder.replace_weights(loss)
    seconds = sum(history["seconds"])
    folder.record(
        train_seconds=seconds,
        epochs_done=len(history),
        last_epoch=history[-1],
        train_peak_memory_mib=peak_memory_mib(),
    )
    with evidence_bar(scored_rows(images.test, s), s.run.eval_particles) as bar:
        evidence = estimate(model, guide, images.test, s, bar.update)
    folder.record(metrics=evidence_metrics(evidence, s), wall_seconds=time.perf_counter() - start)
    say(f"trained {len(history)} epochs in {seconds:.0f} s; test {evidence}")
    figures = draw_figures(model, guide, images, history, device)
    plots.save(figures, folder.figures)
    if tracker is not None:
        tracker.figures(figures, len(history))
        tracker.finish()
    say(f"pictures: {', '.join(f'{name}.png' for name in sorted(figures))} in {folder.figures}")
    return folder.path


if __name__ == "__main__":
    with script_context():
        train(command_line.parse(DeepSettings, __doc__))
    sys.exit(0)
