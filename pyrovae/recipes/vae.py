"""Data, loss and schedules of a VAE from its settings."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, cast

import pyro
import torch

import pyrovae as pv
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
from pyrovae.data.csv_table import TextTable
from pyrovae.data.splits import Binarize
from pyrovae.data.user_files import splits_of
from pyrovae.heads import DeltaHead
from pyrovae.losses import CapacityLoss, Lagging, Penalized, squared_jacobian, unwrap
from pyrovae.programs import SemiAmortized
from pyrovae.recipes.condition_columns import ConditionColumns, find_columns
from pyrovae.recipes.conditions import Task, conditioned
from pyrovae.recipes.data_choice import (
    digest_of_parts,
    own_conditions,
    refuse_unfit,
    refuse_unknown,
    with_classes,
)
from pyrovae.recipes.left_out import without_classes
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.vae_parts import COUNTS, LEVELS, VECTORS_ONLY
from pyrovae.recipes.vae_settings import Settings

DATASETS: dict[str, Callable[[Settings], Splits]] = {
    "digits": lambda s: load_digits(valid_size=s.data.valid_size),
    "mnist": lambda s: load_mnist(valid_size=s.data.valid_size),
    "fashion-mnist": lambda s: load_fashion_mnist(valid_size=s.data.valid_size),
    "kmnist": lambda s: load_kmnist(valid_size=s.data.valid_size),
    "binarized-mnist": lambda s: load_binarized_mnist(),
}

ELBOS = {
    "elbo": pyro.infer.Trace_ELBO,
    "score-function": pyro.infer.Trace_ELBO,
    "capacity": pyro.infer.TraceMeanField_ELBO,
    "analytic-kl": pyro.infer.TraceMeanField_ELBO,
}
SMALL_BATCH = 10_000
"""Size of a batch, in numbers, up to which one thread is faster than several."""
GRADIENTS: dict[str, Literal["plain", "stl", "dreg"]] = {"stl": "stl", "dreg": "dreg"}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set prepared for a run."""

    splits: Splits
    binarize: str
    task: Task | None
    train: Batches
    valid: Batches | None
    test: Batches
    classes: tuple[int, ...] = ()
    """Under --condition label, the labels as the data have them, by the number of the class."""
    columns: ConditionColumns | None = None
    """Where conditions are columns of a table."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.train.take(1)["x"].shape[1:])

    def digest(self) -> str:
        """Digest of the training, validation and test data."""
        return digest_of_parts(self.splits.train, self.splits.valid, self.splits.test)

    @property
    def num_conditions(self) -> int:
        return self.train.take(1)["c"].shape[1] if self.task else 0


def refuse_set(name: str) -> None:
    """Raise Refusal for a name that is neither a data set nor an existing path."""
    refuse_unknown(
        "--dataset",
        name,
        DATASETS,
        "the path of an .npy, .npz, .csv, .tsv or IDX file or of a folder of images",
    )


def prepare(s: Settings) -> Prepared:
    """The data in the units of the likelihood: x and, for conditional models, c."""
    refuse_set(s.data.dataset)
    named = find_columns(s.data.dataset, s.data.condition)
    splits = without_classes(_load(s, named), s.data.leave_out)
    condition = "own" if named is not None else s.data.condition
    splits, width = own_conditions(splits, use=condition == "own")
    refuse_unfit(s, splits)
    if s.model.net == "conv" and len(splits.event_shape) != 3:
        raise Refusal(
            f"--net conv takes images, but {s.data.dataset} holds {tuple(splits.event_shape)} vectors; use --net mlp."
        )
    binary = s.model.likelihood in ("bernoulli", "autoregressive-bernoulli")
    if s.model.likelihood in LEVELS + COUNTS:
        if s.data.binarize not in (None, "none"):
            raise Refusal(
                f"--likelihood {s.model.likelihood} scores grey levels, which --binarize {s.data.binarize} discards; "
                "drop --binarize, or use --likelihood bernoulli."
            )
        splits = splits.as_levels() if s.model.likelihood in LEVELS or splits.levels else splits
        binarize: Binarize = "none"
    else:
        usual: Binarize = "threshold" if s.data.dataset == "digits" else "dynamic"
        binarize = s.data.binarize or (usual if binary else "none")
    labels = splits.train.tensors.get("y") if condition == "label" else None
    splits, classes = with_classes(s.data.dataset, splits) if condition == "label" else (splits, 0)
    flat = s.model.likelihood in VECTORS_ONLY and condition == "none"
    train, valid, test = splits.batches(binarize, batch_size=s.run.batch_size, flatten=flat)
    task = None
    if condition != "none":
        task = Task(condition, tuple(splits.event_shape), classes or width)
        train = conditioned(train, task, fixed=False)
        valid = None if valid is None else conditioned(valid, task, fixed=True)
        test = conditioned(test, task, fixed=True)
    own = () if labels is None else tuple(labels.unique().tolist())
    columns = None if named is None else named[1]
    binarize = "none" if splits.is_binary else binarize
    return Prepared(splits, binarize, task, train, valid, test, own, columns)


def _load(s: Settings, named: tuple[TextTable, ConditionColumns] | None) -> Splits:
    if named is not None:
        table, columns = named
        arrays, note = columns.read(table), f"columns {', '.join(columns.x)}"
        return splits_of(table.path, arrays, note, valid_size=s.data.valid_size)
    if s.data.dataset in DATASETS:
        return DATASETS[s.data.dataset](s)
    return load_path(s.data.dataset, valid_size=s.data.valid_size)


def make_loss(
    model: pv.Model, guide: pv.Guide, s: Settings, steps_per_epoch: int
) -> torch.nn.Module:
    """The objective; its guide is refined for each datum if `refine_steps` is set."""
    proposal: torch.nn.Module = (
        SemiAmortized(guide, model, steps=s.objective.refine_steps)
        if s.objective.refine_steps
        else guide
    )
    loss: torch.nn.Module
    if s.objective.objective in ("iwae", "dreg", "stl", "renyi"):
        alpha = {"stl": 1.0, "renyi": s.objective.alpha}.get(s.objective.objective, 0.0)
        gradient = GRADIENTS.get(s.objective.objective, "plain")
        loss = pv.IwaeLoss(
            model, proposal, num_particles=s.objective.particles, gradient=gradient, alpha=alpha
        )
    else:
        elbo = ELBOS[s.objective.objective](
            num_particles=s.objective.particles,
            vectorize_particles=s.objective.particles > 1,
            max_plate_nesting=1,
        )
        steps = s.objective.kl_warmup * steps_per_epoch
        if s.objective.objective == "capacity":
            loss = CapacityLoss(
                model,
                proposal,
                gamma=s.objective.gamma,
                elbo=elbo,
                capacity=pv.LinearWarmup(steps, stop=s.objective.capacity)
                if steps
                else s.objective.capacity,
            )
        else:
            loss = pv.ElboLoss(
                model,
                proposal,
                elbo=elbo,
                free_bits=s.objective.free_bits,
                beta=pv.LinearWarmup(steps, stop=s.objective.beta) if steps else s.objective.beta,
            )
    if s.objective.contractive:
        loss = Penalized(loss, _jacobian_of(guide), weight=s.objective.contractive)
    return (
        Lagging(loss, guide_steps=s.objective.guide_steps) if s.objective.guide_steps > 1 else loss
    )


def _jacobian_of(guide: pv.Guide) -> Callable[..., torch.Tensor]:
    """The squared Jacobian of the net of a deterministic encoder."""
    encoder = cast(DeltaHead, cast(pv.Node, guide.nodes["z"]).conditional).net

    def penalty(x: torch.Tensor, **_: torch.Tensor) -> torch.Tensor:
        return squared_jacobian(encoder, x)

    return penalty


def proposal_of(loss: torch.nn.Module) -> torch.nn.Module:
    return cast(torch.nn.Module, unwrap(loss).guide)


def learning_rates(
    s: Settings,
) -> Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler] | None:
    if not s.run.lr_decay_epochs:
        return None
    start = s.run.epochs - s.run.lr_decay_epochs

    def factor(epoch: int) -> float:
        return s.run.lr_decay ** (max(0, epoch + 1 - start) / s.run.lr_decay_epochs)

    return lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def some_rows(batches: Batches, count: int, seed: int) -> Batches:
    """At most `count` rows, chosen at random with a separate seed."""
    rows = torch.randperm(len(batches.data), generator=torch.Generator().manual_seed(seed))[:count]
    return Batches(
        type(batches.data)(**batches.data[rows]), batches.batch_size, transform=batches.transform
    )


def threads_of(s: Settings, shape: Sequence[int]) -> int:
    """CPU threads for data of a shape: those of the settings, else one for small batches."""
    small = s.run.batch_size * s.objective.particles * math.prod(shape) <= SMALL_BATCH
    return s.run.threads or (1 if small else torch.get_num_threads())


def autocast(precision: str, device: torch.device) -> Callable[[], AbstractContextManager]:
    """A context of `fit`: the networks in bfloat16 if precision is "bf16"."""
    return (
        (lambda: torch.autocast(device.type, torch.bfloat16))
        if precision == "bf16"
        else nullcontext
    )


def stored(data: Prepared) -> torch.Tensor:
    """The training data before binarisation, in the shape of the model's x."""
    x = data.splits.train.tensors["x"]
    if data.task:
        return data.task.split(data.splits.train.tensors)["x"]
    return x.reshape(len(x), *data.shape)
