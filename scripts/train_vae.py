"""Train a variational autoencoder, estimate its log p(x), and draw what it learned.

Without arguments: a 2-D latent space on scikit-learn's handwritten digits, in under three minutes on two cores.
Everything goes to one folder: run.json (settings, versions, metrics), history.csv, weights.safetensors,
checkpoint.safetensors (to resume from) and figures/.
"""
import dataclasses
import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import pyro
import torch
import torch.nn as nn
import tyro
from run_folder import Folder, choose_device, peak_memory_mib, refuse_politely
from tqdm.auto import tqdm
from vae_figures import draw_figures

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.data import (Batches, Splits, load_binarized_mnist, load_digits, load_fashion_mnist, load_kmnist,
                          load_mnist, load_path)
from pyrovae.heads import (BernoulliHead, CategoricalHead, ContinuousBernoulliHead, FixedScaleNormalHead,
                           LearnedScaleNormalHead, NormalHead)
from pyrovae.hooks import Checkpoint, EarlyStopping, HistoryFile, ProgressBar, TensorBoard
from pyrovae.nets import MLP, ConvDecoder, ConvEncoder, Standardized
from pyrovae.priors import StandardNormal

Shape = tuple[int, ...]

SMALL_BATCH = 10_000
"""Numbers in a batch up to which one thread is used: more would only wait for each other."""


@dataclasses.dataclass(frozen=True)
class Settings:
    dataset: str = "digits"
    """digits (ships with scikit-learn), mnist, fashion-mnist, kmnist, binarized-mnist (Larochelle's fixed
    binarisation), or a path: .npy, .npz (x, optional y, x_test, y_test, x_valid) or a folder of images. Sets are looked
    for in $PYROVAE_DATA, else in the cache folder, and downloaded there."""
    binarize: Literal["dynamic", "static", "threshold", "none"] | None = None
    """How grey pixels become 0 or 1: drawn anew at each visit, drawn once, cut at 0.5, not at all. By default dynamic
    for the Bernoulli (threshold for the digits, whose pixels count inked cells) and none for the other likelihoods.
    Validation and test data are always drawn once."""
    likelihood: Literal["bernoulli", "continuous-bernoulli", "normal", "normal-learned", "normal-predicted",
                        "categorical"] = "bernoulli"
    """p(x | z). bernoulli: pixels in {0, 1}. continuous-bernoulli: a density on [0, 1]. normal: one fixed scale;
    normal-learned: one learned scale; normal-predicted: a scale for each pixel. categorical: a probability for each
    grey level."""
    scale: float = 0.1
    """Standard deviation of the normal likelihood in units of the data; the least one of normal-predicted (densities
    grow without bound on constant pixels) and the first one of normal-learned."""
    net: Literal["mlp", "conv"] = "mlp"
    """Fully connected, or stride-2 convolutions (images only)."""
    latent_dim: int = 2
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the encoder's hidden layers (channels for conv); the decoder mirrors them."""
    activation: Literal["tanh", "relu", "silu", "elu"] = "tanh"
    epochs: int = 200
    batch_size: int = 100
    lr: float = 1e-3
    """Adam's learning rate."""
    lr_decay_epochs: int = 0
    """Over how many last epochs the learning rate falls to lr * lr_decay, geometrically."""
    lr_decay: float = 0.1
    beta: float = 1.0
    """Weight of the KL in the objective; everything reported is at beta = 1."""
    kl_warmup: int = 0
    """Epochs over which beta rises from 0."""
    free_bits: float = 0.0
    """Nats of KL per datum that cost nothing."""
    particles: int = 1
    """Draws of z for each datum and step."""
    analytic_kl: bool = False
    """Take the KL in closed form (TraceMeanField_ELBO) instead of on the draws (Trace_ELBO)."""
    clip_norm: float | None = None
    """Largest gradient norm."""
    valid_size: int | None = None
    """Training data held out for validation; by default a tenth, at most 1000. 0 for none."""
    patience: int | None = None
    """Stop after so many epochs without a better validation ELBO, and keep the best weights."""
    eval_particles: int = 1000
    """K for the log p(x) reported at the end; evaluate.py takes more."""
    eval_data: int = 1000
    """At most so many test data for it, chosen at random."""
    seed: int = 0
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""
    threads: int | None = None
    """CPU threads; by default torch's choice, but one for batches so small that threads cost more than they save."""
    precision: Literal["32", "bf16"] = "32"
    """bf16: nets in bfloat16 under autocast (CUDA), densities and weights in float32."""
    tensorboard: bool = False
    """Also write TensorBoard event files (needs the tensorboard package)."""
    out: Path | None = None
    """The run's folder; by default runs/DATASET-DATE-TIME."""
    resume: bool = False
    """Go on with the run in --out from its last checkpoint; --epochs counts from its beginning."""


DATASETS: dict[str, Callable[[Settings], Splits]] = {
    "digits": lambda s: load_digits(valid_size=s.valid_size),
    "mnist": lambda s: load_mnist(valid_size=s.valid_size),
    "fashion-mnist": lambda s: load_fashion_mnist(valid_size=s.valid_size),
    "kmnist": lambda s: load_kmnist(valid_size=s.valid_size),
    "binarized-mnist": lambda s: load_binarized_mnist(),
}

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "elu": nn.ELU}

ENCODERS: dict[str, Callable[[Settings, Shape], nn.Module]] = {
    "mlp": lambda s, shape: MLP(shape, s.hidden, 2 * s.latent_dim, ACTIVATIONS[s.activation]),
    "conv": lambda s, shape: ConvEncoder(shape, s.hidden, 2 * s.latent_dim, ACTIVATIONS[s.activation]),
}

DECODERS: dict[str, Callable[[Settings, Shape], nn.Module]] = {
    "mlp": lambda s, shape: MLP(s.latent_dim, s.hidden[::-1], shape, ACTIVATIONS[s.activation]),
    "conv": lambda s, shape: ConvDecoder(s.latent_dim, s.hidden[::-1], shape, ACTIVATIONS[s.activation]),
}

LIKELIHOODS: dict[str, Callable[[Settings, Callable[[Shape], nn.Module], Shape, int | None], nn.Module]] = {
    "bernoulli": lambda s, net, shape, levels: BernoulliHead(net(shape), event_dim=len(shape)),
    "continuous-bernoulli": lambda s, net, shape, levels: ContinuousBernoulliHead(net(shape), event_dim=len(shape)),
    "normal": lambda s, net, shape, levels: FixedScaleNormalHead(net(shape), scale=s.scale, event_dim=len(shape)),
    "normal-learned": lambda s, net, shape, levels: LearnedScaleNormalHead(net(shape), initial_scale=s.scale,
                                                                           event_dim=len(shape)),
    "normal-predicted": lambda s, net, shape, levels: NormalHead(net((2 * shape[0], *shape[1:])), event_dim=len(shape),
                                                                 min_scale=s.scale),
    "categorical": lambda s, net, shape, levels: CategoricalHead(net((levels * shape[0], *shape[1:])),
                                                                 event_shape=shape),
}


def load_splits(settings: Settings) -> tuple[Splits, str]:
    """The data set in the units of the likelihood, and the binarisation that goes with it."""
    load = DATASETS.get(settings.dataset) or (lambda s: load_path(s.dataset, valid_size=s.valid_size))
    splits = load(settings)
    if settings.net == "conv" and len(splits.event_shape) != 3:
        raise pv.PairError(f"--net conv takes images, but {settings.dataset} holds {tuple(splits.event_shape)} vectors; "
                           "use --net mlp.")
    if settings.likelihood == "categorical":
        if settings.binarize not in (None, "none"):
            raise pv.PairError(f"--likelihood categorical scores grey levels, which --binarize {settings.binarize} throws "
                               "away; drop --binarize, or use --likelihood bernoulli.")
        return splits.as_levels(), "none"
    usual = "threshold" if settings.dataset == "digits" else "dynamic"
    return splits, settings.binarize or (usual if settings.likelihood == "bernoulli" else "none")


def build(settings: Settings, shape: Shape, levels: int | None) -> tuple[pv.Model, pv.Guide]:
    """The pair for data of `shape`; what it takes from the training data (`fit_constants`) is saved with its weights."""
    encoder = Standardized(ENCODERS[settings.net](settings, shape), torch.zeros(shape), torch.ones(shape))
    likelihood = LIKELIHOODS[settings.likelihood](settings, lambda out: DECODERS[settings.net](settings, out), shape,
                                                  levels)
    model = pv.Model(z=StandardNormal(settings.latent_dim), x=pv.Node(likelihood, "z"))
    return model, pv.Guide(z=pv.Node(NormalHead(encoder), "x"))


def fit_constants(model: pv.Model, guide: pv.Guide, x: torch.Tensor, settings: Settings) -> None:
    """Inputs of the encoder to mean 0 and scale 1; the Bernoulli's last bias to the logit of the mean image."""
    mean, scale = x.mean(0), x.std(0)
    binary = settings.likelihood == "bernoulli"
    with torch.no_grad():
        encoder = guide.nodes["z"].conditional.net
        if not binary:
            encoder.mean.copy_(mean)
            encoder.scale.copy_(scale.clamp(min=0.1 * float(scale.mean()) or 1.0))
        if binary and settings.net == "mlp":
            bias = model.nodes["x"].conditional.net.layers[-1].bias
            bias.copy_(mean.clamp(0.001, 0.999).logit().flatten())


def make_loss(model: pv.Model, guide: pv.Guide, settings: Settings, steps_per_epoch: int) -> pv.ElboLoss:
    elbo = pyro.infer.TraceMeanField_ELBO if settings.analytic_kl else pyro.infer.Trace_ELBO
    particles = settings.particles
    beta = pv.LinearWarmup(settings.kl_warmup * steps_per_epoch, stop=settings.beta) if settings.kl_warmup else settings.beta
    return pv.ElboLoss(model, guide, beta=beta, free_bits=settings.free_bits, elbo=elbo(
        num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=1))


def learning_rates(settings: Settings) -> Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler] | None:
    if not settings.lr_decay_epochs:
        return None
    start = settings.epochs - settings.lr_decay_epochs

    def factor(epoch: int) -> float:
        return settings.lr_decay ** (max(0, epoch + 1 - start) / settings.lr_decay_epochs)

    return lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def some_rows(batches: Batches, count: int, seed: int) -> Batches:
    """At most `count` rows, chosen at random by a seed of their own."""
    rows = torch.randperm(len(batches.data), generator=torch.Generator().manual_seed(seed))[:count]
    return Batches(type(batches.data)(**batches.data[rows]), batches.batch_size, transform=batches.transform)


def autocast(settings: Settings, device: torch.device) -> Callable[[], AbstractContextManager]:
    return (lambda: torch.autocast(device.type, torch.bfloat16)) if settings.precision == "bf16" else nullcontext


def train(settings: Settings) -> Path:
    start = time.perf_counter()
    folder = Folder.for_run(settings, default=f"runs/{Path(settings.dataset).stem}-{time.strftime('%Y%m%d-%H%M%S')}")
    splits, binarize = load_splits(settings)
    binarize = "none" if splits.is_binary else binarize
    if settings.patience and splits.valid is None:
        raise pv.PairError("--patience waits for a better validation ELBO, but --valid-size 0 holds out no data; drop one.")
    device = choose_device(settings.device)
    small = settings.batch_size * splits.event_shape.numel() <= SMALL_BATCH
    torch.set_num_threads(settings.threads or (1 if small else torch.get_num_threads()))
    pyro.set_rng_seed(settings.seed)
    train_data, valid_data, test_data = splits.batches(binarize, batch_size=settings.batch_size)
    model, guide = build(settings, tuple(splits.event_shape), splits.levels)
    fit_constants(model, guide, splits.train.tensors["x"], settings)
    loss = make_loss(model, guide, settings, len(train_data)).to(device)
    folder.begin(settings, data={
        "name": splits.name, "source": splits.source, "event_shape": list(splits.event_shape), "levels": splits.levels,
        "binarize": binarize, "num_train": len(splits.train),
        "num_valid": len(splits.valid) if splits.valid is not None else 0, "num_test": len(splits.test)}, device=device)
    print(f"{splits.name}: {len(splits.train)} training data {tuple(splits.event_shape)}, binarize {binarize}; "
          f"{sum(p.numel() for p in loss.parameters()):,} parameters on {device}; writing to {folder.path}")
    hooks = [EarlyStopping(folder.best, patience=settings.patience, start=settings.kl_warmup)] if settings.patience else []
    hooks += [Checkpoint(folder.checkpoint), HistoryFile(folder.history), ProgressBar()]
    if settings.tensorboard:
        hooks.append(TensorBoard(folder.path / "tensorboard"))
    history = pv.fit(loss, train_data.to(device), epochs=settings.epochs, valid=valid_data and valid_data.to(device),
                     lr=settings.lr, schedule=learning_rates(settings), clip_norm=settings.clip_norm, hooks=hooks,
                     context=autocast(settings, device), resume=folder.checkpoint if settings.resume else None)
    train_seconds = sum(history["seconds"])
    pv.save_weights(loss, folder.weights)
    folder.record(train_seconds=train_seconds, epochs_done=len(history), last_epoch=history[-1],
                  train_peak_memory_mib=peak_memory_mib())
    scored = some_rows(test_data, settings.eval_data, settings.seed)
    torch.manual_seed(settings.seed)
    evidence = pv.log_evidence(model, guide, tqdm(scored, desc="log p(x)", unit="batch"),
                               num_particles=settings.eval_particles)
    folder.record(metrics={"log_px": evidence.mean, "se": evidence.mean_se, "elbo": evidence.elbo.mean().item(),
                           "num_particles": settings.eval_particles, "num_data": len(evidence.log_px), "split": "test"},
                  wall_seconds=time.perf_counter() - start)
    plots.save(draw_figures(model, guide, test_data, history, splits, device), folder.figures)
    print(f"trained {len(history)} epochs in {train_seconds:.0f} s; test {evidence}\n"
          f"peak memory: {peak_memory_mib() or math.nan:.0f} MiB\n"
          f"pictures: {', '.join(sorted(path.name for path in folder.figures.glob('*.png')))} in {folder.figures}")
    return folder.path


if __name__ == "__main__":
    with refuse_politely():
        train(tyro.cli(Settings, description=__doc__))
    sys.exit(0)
