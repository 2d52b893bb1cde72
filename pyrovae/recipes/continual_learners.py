"""Learners for a stream of tasks: variational continual learning and its baselines."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn as nn
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

import pyrovae as pv
from pyrovae.bnn.guides import MeanField
from pyrovae.bnn.priors import Previous, WeightPrior
from pyrovae.data import Batches, DictDataset, split_valid
from pyrovae.heads import CategoricalHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.recipes.continual_settings import ContinualSettings
from pyrovae.recipes.continual_tasks import Stream
from pyrovae.recipes.refusal import Refusal
from pyrovae.training.hooks import ProgressBar

Pair = tuple[Callable, Callable]


class WithNoise(nn.Module):
    """A linear head with a log-scale parameter, so that the noise is part of the posterior that the
    next task takes as its prior."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.loc = nn.Linear(features, 1)
        self.log_scale = nn.Parameter(torch.zeros(1))

    def forward(self, h: Tensor) -> Tensor:
        loc = self.loc(h)
        return torch.cat([loc, self.log_scale.expand_as(loc)], -1)


class Nets:
    """The shared layers, and a head for all tasks or for each, as plain modules."""

    def __init__(self, stream: Stream, s: ContinualSettings, device: torch.device) -> None:
        self.stream = stream
        self.body = nn.Sequential(MLP(stream.features, s.hidden[:-1], s.hidden[-1]), nn.ReLU()).to(
            device
        )
        self.heads = [
            (
                WithNoise(s.hidden[-1])
                if stream.kind == "regression"
                else nn.Linear(s.hidden[-1], stream.classes)
            ).to(device)
            for _ in range(stream.heads)
        ]

    def plain(self, task: int) -> pv.Model:
        """p(y | x) with point weights."""
        return self._likelihood(nn.Sequential(self.body, self.heads[self.stream.head_of(task)]))

    def bayesian(self, task: int, prior: WeightPrior) -> pv.Model:
        """p(w) p(y | x, w), with the weights named "body" and "head0", "head1", ..."""
        head = self.stream.head_of(task)
        return self._likelihood(
            nn.Sequential(
                pv.Bayesian(self.body, prior, "body"),
                pv.Bayesian(self.heads[head], prior, f"head{head}"),
            )
        )

    def _likelihood(self, net: nn.Module) -> pv.Model:
        return pv.Model(
            y=pv.Node(
                CategoricalHead(net)
                if self.stream.kind == "classification"
                else NormalHead(net, min_scale=1e-3),
                "x",
            )
        )


class Plain:
    """Maximum likelihood, sequentially on each task."""

    def __init__(self, stream: Stream, s: ContinualSettings, device: torch.device) -> None:
        self.s, self.nets = s, Nets(stream, s, device)

    def learn(self, task: int, data: DictDataset) -> None:
        maximum_likelihood(self.nets, task, data, self.s)

    def pairs(self, tasks: list[int]) -> list[Pair]:
        return [(self.nets.plain(task), nothing) for task in tasks]


class Together:
    """A variational posterior of all data so far, trained from scratch after each task: the
    reference for the other learners."""

    def __init__(self, stream: Stream, s: ContinualSettings, device: torch.device) -> None:
        self.stream, self.s, self.device = stream, s, device
        self.seen: list[DictDataset] = []

    def learn(self, task: int, data: DictDataset) -> None:
        self.seen.append(data)
        every, nets = merge(self.seen), Nets(self.stream, self.s, self.device)
        maximum_likelihood(nets, task, every, self.s)
        model = nets.bayesian(task, self.s.weight_prior)
        self.pair = model, MeanField(model, init_scale=self.s.init_scale).to(self.device)
        variational(*self.pair, every, self.s, self.s.epochs)

    def pairs(self, tasks: list[int]) -> list[Pair]:
        return [self.pair for _ in tasks]


def coreset_size(stream: Stream, s: ContinualSettings) -> int:
    """Size of the coreset of each task. Raises Refusal if no training data are left."""
    least = min(len(stream.train(task)) for task in range(stream.num_tasks))
    size = min(200, max(1, least // 4)) if s.coreset is None else s.coreset
    if size >= least:
        raise Refusal(
            f"--coreset {size} of each task, but the smallest of {stream.name} has {least} data; "
            f"take fewer, e.g. {max(1, least // 4)}, or fewer --tasks."
        )
    return size


class Online:
    r"""Variational continual learning, q_t(w) ~ q_{t-1}(w) p(D_t | w), initialised by maximum
    likelihood on the first task.

    coreset: the number of data of each task that are withheld from q_t. Before a test, a copy of
    q_t is trained on the coresets of all tasks so far (with one head per task: of the tested
    task).
    Source: Nguyen et al. 2018, arXiv:1710.10628, algorithm 1.
    """

    def __init__(
        self, stream: Stream, s: ContinualSettings, device: torch.device, *, coreset: int = 0
    ) -> None:
        self.stream, self.s, self.device, self.coreset = stream, s, device, coreset
        self.nets = Nets(stream, s, device)
        self.prior: WeightPrior = s.weight_prior
        self.posterior: dict[str, tuple[Tensor, Tensor]] = {}
        self.coresets: list[DictDataset] = []

    def learn(self, task: int, data: DictDataset) -> None:
        data, coreset = split_valid(data, self.coreset, seed=self.s.seed)
        if coreset is not None:
            self.coresets.append(coreset)
        if task == 0:
            maximum_likelihood(self.nets, task, data, self.s)
        model, guide = self.pair(task, self.prior)
        variational(model, guide, data, self.s, self.s.epochs)
        self.posterior |= {
            name: (loc.detach(), scale.detach()) for name, (loc, scale) in guide.moments().items()
        }
        self.prior = Previous(guide, otherwise=self.s.weight_prior)

    def pair(self, task: int, prior: WeightPrior) -> tuple[pv.Model, MeanField]:
        """Copies for training or testing: a model with `prior`, and a guide at the current
        posterior."""
        model = self.nets.bayesian(task, prior)
        return model, MeanField(model, init_scale=self.s.init_scale).start_at(self.posterior).to(
            self.device
        )

    def pairs(self, tasks: list[int]) -> list[Pair]:
        if not self.coreset:
            return [self.pair(task, self.prior) for task in tasks]
        if self.stream.heads > 1:
            return [self.refined(task, self.coresets[task]) for task in tasks]
        return len(tasks) * [self.refined(tasks[-1], merge(self.coresets))]

    def refined(self, task: int, coreset: DictDataset) -> Pair:
        model, guide = self.pair(task, Previous(self.pair(task, self.prior)[1]))
        variational(model, guide, coreset, self.s, self.s.coreset_epochs)
        return model, guide


def maximum_likelihood(nets: Nets, task: int, data: DictDataset, s: ContinualSettings) -> None:
    """Fit the weights as parameters: without latent variables the ELBO is log p(y | x)."""
    _fit(pv.ElboLoss(nets.plain(task), nothing), data, s, s.epochs)


def variational(
    model: pv.Model, guide: MeanField, data: DictDataset, s: ContinualSettings, epochs: int
) -> None:
    _fit(
        pv.ElboLoss(model, guide, num_data=len(data), elbo=TraceMeanField_ELBO()),
        data,
        s,
        epochs,
        context=pv.LocalReparameterization,
    )


def nothing(**data: Tensor) -> None:
    """The guide of a model without latent variables."""


def merge(data: list[DictDataset]) -> DictDataset:
    return DictDataset(
        **{name: torch.cat([part.tensors[name] for part in data]) for name in data[0].tensors}
    )


def _fit(
    loss: pv.ElboLoss,
    data: DictDataset,
    s: ContinualSettings,
    epochs: int,
    *,
    context: Callable[[], AbstractContextManager] = nullcontext,
) -> None:
    batches = Batches(data, s.batch_size, shuffle=True).to(next(loss.parameters()).device)
    pv.fit(
        loss,
        batches,
        epochs=epochs,
        lr=s.lr,
        compile=s.compile,
        hooks=[ProgressBar()],
        schedule=lambda optimizer: CosineAnnealingLR(optimizer, epochs),
        context=context,
    )
