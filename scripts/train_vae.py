"""Train a variational autoencoder, estimate its log p(x), and draw what it learned.

Without arguments: a 2-D latent space on scikit-learn's handwritten digits, in under three minutes
on two cores.
Everything goes to one folder: run.json (settings, versions, metrics), history.csv,
weights.safetensors, checkpoint.safetensors (to resume from) and figures/.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import command_line
import pyro
import torch
from conditions import Task, conditioned
from data_choice import refuse_unfit, refuse_unknown, with_classes
from progress import evidence_bar, say
from run_folder import (
    Folder,
    OnceAccepted,
    Refusal,
    choose_device,
    peak_memory_mib,
    refuse_politely,
)
from vae_figures import draw_figures
from vae_parts import COUNTS, LEVELS, VECTORS_ONLY, build, fit_constants
from vae_settings import Settings

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.core.digests import digest_of
from pyrovae.data import (
    Batches,
    Splits,
    load_binarized_mnist,
    load_digits,
    load_fashion_mnist,
    load_kmnist,
    load_mnist,
    load_path,
)
from pyrovae.heads import BernoulliHead
from pyrovae.losses import CapacityLoss, Lagging, unwrap
from pyrovae.nets import MLP
from pyrovae.programs.semi_amortized import SemiAmortized
from pyrovae.training.hooks import Checkpoint, EarlyStopping, HistoryFile, ProgressBar, TensorBoard

SMALL_BATCH = 10_000
"""Numbers in a batch up to which one thread is used: more would only wait for each other."""

DATASETS: dict[str, Callable[[Settings], Splits]] = {
    "digits": lambda s: load_digits(valid_size=s.valid_size),
    "mnist": lambda s: load_mnist(valid_size=s.valid_size),
    "fashion-mnist": lambda s: load_fashion_mnist(valid_size=s.valid_size),
    "kmnist": lambda s: load_kmnist(valid_size=s.valid_size),
    "binarized-mnist": lambda s: load_binarized_mnist(),
}

ELBOS = {
    "elbo": pyro.infer.Trace_ELBO,
    "score-function": pyro.infer.Trace_ELBO,
    "capacity": pyro.infer.TraceMeanField_ELBO,
    "analytic-kl": pyro.infer.TraceMeanField_ELBO,
}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set as a run sees it."""

    splits: Splits
    binarize: str
    task: Task | None
    train: Batches
    valid: Batches | None
    test: Batches

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.train.take(1)["x"].shape[1:])

    def digest(self) -> str:
        """Of all that is learned from and scored, in the order in which it is."""
        parts = {"train": self.splits.train, "valid": self.splits.valid, "test": self.splits.test}
        return digest_of(
            {
                f"{part}/{name}": value
                for part, data in parts.items()
                if data is not None
                for name, value in data.tensors.items()
            }
        )

    @property
    def num_conditions(self) -> int:
        return self.train.take(1)["c"].shape[1] if self.task else 0


def refuse_set(name: str) -> None:
    """Raise Refusal for what is no data set: neither a name nor a path."""
    refuse_unknown(
        "--dataset",
        name,
        DATASETS,
        "the path of an .npy, .npz or IDX file or of a folder of images",
    )


def prepare(s: Settings) -> Prepared:
    """The data in the units of the likelihood, as x and, for conditional models, c."""
    refuse_set(s.dataset)
    load = DATASETS.get(s.dataset) or (lambda s: load_path(s.dataset, valid_size=s.valid_size))
    splits = load(s)
    refuse_unfit(s, splits)
    if s.net == "conv" and len(splits.event_shape) != 3:
        raise Refusal(
            f"--net conv takes images, but {s.dataset} holds {tuple(splits.event_shape)} vectors; use --net mlp."
        )
    binary = s.likelihood in ("bernoulli", "autoregressive-bernoulli")
    if s.likelihood in LEVELS + COUNTS:
        if s.binarize not in (None, "none"):
            raise Refusal(
                f"--likelihood {s.likelihood} scores grey levels, which --binarize {s.binarize} throws "
                "away; drop --binarize, or use --likelihood bernoulli."
            )
        splits, binarize = (
            splits.as_levels() if s.likelihood in LEVELS or splits.levels else splits,
            "none",
        )
    else:
        usual = "threshold" if s.dataset == "digits" else "dynamic"
        binarize = s.binarize or (usual if binary else "none")
    splits, classes = with_classes(s.dataset, splits) if s.condition == "label" else (splits, 0)
    flat = s.likelihood in VECTORS_ONLY and s.condition == "none"
    parts = splits.batches(binarize, batch_size=s.batch_size, flatten=flat)
    task = None
    if s.condition != "none":
        task = Task(s.condition, tuple(splits.event_shape), classes)
        parts = tuple(
            part and conditioned(part, task, fixed=i > 0) for i, part in enumerate(parts)
        )
    return Prepared(splits, "none" if splits.is_binary else binarize, task, *parts)


def make_loss(
    model: pv.Model, guide: pv.Guide, s: Settings, steps_per_epoch: int
) -> torch.nn.Module:
    """The objective; `proposal_of` it is the guide, refined if the settings say so."""
    guide = SemiAmortized(guide, model, steps=s.refine_steps) if s.refine_steps else guide
    if s.objective in ("iwae", "dreg", "stl", "renyi"):
        alpha = {"stl": 1.0, "renyi": s.alpha}.get(s.objective, 0.0)
        gradient = {"stl": "stl", "dreg": "dreg"}.get(s.objective, "plain")
        loss = pv.IwaeLoss(model, guide, num_particles=s.particles, gradient=gradient, alpha=alpha)
    else:
        elbo = ELBOS[s.objective](
            num_particles=s.particles, vectorize_particles=s.particles > 1, max_plate_nesting=1
        )
        steps = s.kl_warmup * steps_per_epoch
        if s.objective == "capacity":
            loss = CapacityLoss(
                model,
                guide,
                gamma=s.gamma,
                elbo=elbo,
                capacity=pv.LinearWarmup(steps, stop=s.capacity) if steps else s.capacity,
            )
        else:
            loss = pv.ElboLoss(
                model,
                guide,
                elbo=elbo,
                free_bits=s.free_bits,
                beta=pv.LinearWarmup(steps, stop=s.beta) if steps else s.beta,
            )
    return Lagging(loss, guide_steps=s.guide_steps) if s.guide_steps > 1 else loss


def proposal_of(loss: torch.nn.Module) -> torch.nn.Module:
    return unwrap(loss).guide


def learning_rates(
    s: Settings,
) -> Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler] | None:
    if not s.lr_decay_epochs:
        return None
    start = s.epochs - s.lr_decay_epochs

    def factor(epoch: int) -> float:
        return s.lr_decay ** (max(0, epoch + 1 - start) / s.lr_decay_epochs)

    return lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def some_rows(batches: Batches, count: int, seed: int) -> Batches:
    """At most `count` rows, chosen at random by a seed of their own."""
    rows = torch.randperm(len(batches.data), generator=torch.Generator().manual_seed(seed))[:count]
    return Batches(
        type(batches.data)(**batches.data[rows]), batches.batch_size, transform=batches.transform
    )


def autocast(s: Settings, device: torch.device) -> Callable[[], AbstractContextManager]:
    return (
        (lambda: torch.autocast(device.type, torch.bfloat16))
        if s.precision == "bf16"
        else nullcontext
    )


def baseline(
    s: Settings, data: Prepared, scored: Batches, device: torch.device, best: Path
) -> float:
    """log p(x | c) of the `scored` data, in nats each, under a net from c to x without latents:
    each pixel for itself.

    It stops at its best validation score, so that overfitting does not make it a straw man.
    """
    net = MLP(data.num_conditions, s.hidden, data.shape).to(device)
    loss = pv.ElboLoss(pv.Model(x=pv.Node(BernoulliHead(net), "c")), lambda **batch: None)
    valid = data.valid and data.valid.to(device)
    pv.fit(
        loss,
        data.train.to(device),
        epochs=s.epochs,
        valid=valid,
        lr=s.lr,
        hooks=[
            *([EarlyStopping(best, patience=5)] if valid else []),
            ProgressBar("net without latent variables"),
        ],
    )
    return -pv.evaluate(loss, scored.to(device))["loss"]


def train(s: Settings, ranks: pv.Ranks) -> Path:
    """The folder of the run; several processes train it together."""
    if ranks.size > 1 and s.out is None:
        raise Refusal("several processes need one folder to write to: --out DIR.")
    default = f"runs/{Path(s.dataset).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    with Folder.for_run(s, "train_vae.py", default, writes=ranks.first) as folder:
        return _train(s, ranks, folder)


def _train(s: Settings, ranks: pv.Ranks, folder: Folder) -> Path:
    start = time.perf_counter()
    ranks.wait()  # until all have looked at the folder
    data = prepare(s)
    splits = data.splits
    digest = data.digest()
    if s.resume:
        folder.refuse_other_data(digest)
    if s.patience and data.valid is None:
        raise Refusal(
            "--patience waits for a better validation ELBO, but --valid-size 0 holds out no data; drop one."
        )
    device = choose_device(s.device)
    if s.precision == "tf32":
        torch.set_float32_matmul_precision("high")
    small = s.batch_size * s.particles * math.prod(data.shape) <= SMALL_BATCH
    torch.set_num_threads(s.threads or (1 if small else torch.get_num_threads()))
    pyro.set_rng_seed(s.seed)
    model, guide = build(s, data.shape, splits.levels, data.num_conditions)
    fit_constants(model, guide, _stored(data), s)
    loss = make_loss(model, guide, s, len(data.train)).to(device)
    hooks = []
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
            "sha256": digest,
        }
        say(
            f"{splits.name}: {len(splits.train)} training data {tuple(splits.event_shape)}, binarize {data.binarize}; "
            f"{sum(p.numel() for p in loss.parameters()):,} parameters on {_where(ranks, device)}; "
            f"writing to {folder.path}"
        )
        hooks += [OnceAccepted(lambda: folder.begin(s, device=device, data=facts))]
        hooks += (
            [EarlyStopping(folder.best, patience=s.patience, start=s.kl_warmup)]
            if s.patience
            else []
        )
        hooks += [
            Checkpoint(folder.checkpoint),
            HistoryFile(folder.history),
            ProgressBar("training"),
        ]
        hooks += [TensorBoard(folder.path / "tensorboard")] if s.tensorboard else []
    train_data = data.train.to(device)
    history = pv.fit(
        loss,
        ranks.shard(train_data) if ranks.size > 1 else train_data,
        epochs=s.epochs,
        valid=data.valid and data.valid.to(device),
        lr=s.lr,
        schedule=learning_rates(s),
        clip_norm=s.clip_norm,
        hooks=hooks,
        compile=s.compile,
        context=autocast(s, device),
        resume=folder.checkpoint if s.resume else None,
        fabric=ranks if ranks.size > 1 else None,
    )
    train_seconds = sum(history["seconds"])
    scored = some_rows(data.test, s.eval_data, s.seed)
    torch.manual_seed(s.seed + ranks.rank)
    own = _own(scored, ranks)
    with evidence_bar(own, s.eval_particles, disable=not ranks.first) as bar:
        evidence = ranks.gather(
            pv.log_evidence(
                model,
                proposal_of(loss),
                own,
                num_particles=s.eval_particles,
                compile=s.compile,
                progress=bar.update,
            )
        )
    ranks.close()  # nobody waits for what the first does alone
    if not ranks.first:
        return folder.path
    folder.replace_weights(loss)
    folder.record(
        train_seconds=train_seconds,
        epochs_done=len(history),
        last_epoch=history[-1],
        train_peak_memory_mib=peak_memory_mib(),
    )
    metrics = {
        "log_px": evidence.mean,
        "se": evidence.mean_se,
        "elbo": evidence.elbo.mean().item(),
        "num_particles": s.eval_particles,
        "num_data": len(evidence.log_px),
        "split": "test",
    }
    lines = [f"trained {len(history)} epochs in {train_seconds:.0f} s; test {evidence}"]
    if data.task and data.task.name != "label" and s.likelihood == "bernoulli":
        metrics["baseline_log_px"] = baseline(
            s, data, scored, device, folder.path / "baseline.safetensors"
        )
        lines.append(
            f"a net without latent variables, p(x | c) pixel by pixel: {metrics['baseline_log_px']:.3f} nats"
        )
    folder.record(metrics=metrics, wall_seconds=time.perf_counter() - start)
    say("\n".join(lines) + f"\npeak memory: {peak_memory_mib() or math.nan:.0f} MiB")
    plots.save(
        draw_figures(model, guide, data.test, history, splits, device, data.task), folder.figures
    )
    say(
        f"pictures: {', '.join(sorted(path.name for path in folder.figures.glob('*.png')))} in {folder.figures}"
    )
    return folder.path


def _where(ranks: pv.Ranks, device: torch.device) -> str:
    return f"{device}" if ranks.size == 1 else f"{ranks.size} x {device.type}"


def _own(batches: Batches, ranks: pv.Ranks) -> Batches:
    """This process's share of the rows."""
    rows = torch.arange(ranks.rank, len(batches.data), ranks.size)
    return Batches(
        type(batches.data)(**batches.data[rows]), batches.batch_size, transform=batches.transform
    )


def _stored(data: Prepared) -> torch.Tensor:
    """The training data without their binarisation, in the layout of the model's x."""
    x = data.splits.train.tensors["x"]
    if data.task:
        return data.task.split(data.splits.train.tensors)["x"]
    return x.reshape(len(x), *data.shape)


if __name__ == "__main__":
    with refuse_politely():
        train(command_line.parse(Settings, __doc__), pv.Ranks())
    sys.exit(0)
