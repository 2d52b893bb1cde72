"""Every method as the same few calls: a loss for each network, one `fit` for all of them, a guide
that predicts."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import pyro
import pyro.poutine as poutine
import torch
import torch.nn as nn
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor

import pyrovae as pv
from pyrovae.bnn import priors as weight_priors
from pyrovae.bnn.guides import Empirical, JointNormal, MCDropout, MeanField, PointEstimate, Radial
from pyrovae.bnn.posthoc import laplace, linearize, swag
from pyrovae.bnn.samplers import SGHMC, SGLD, Collect, cyclical
from pyrovae.bnn.samplers.hmc import Chains, hmc
from pyrovae.core.progress import progress_bar
from pyrovae.data import Batches, DictDataset, StackedBatches
from pyrovae.heads import CategoricalHead, NormalHead, SharedVarianceHead
from pyrovae.nets import MLP
from pyrovae.priors import InverseGammaPrior
from pyrovae.recipes.bnn_settings import SAMPLERS, BnnSettings
from pyrovae.recipes.bnn_task import Task, epochs_of
from pyrovae.recipes.bnn_training import Perturbed, StopAfter
from pyrovae.recipes.refusal import Refusal
from pyrovae.training.history import History
from pyrovae.training.hooks import ProgressBar

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


@dataclasses.dataclass
class Trained:
    """What training leaves: for each problem a pair that predicts."""

    pairs: list[tuple[Callable, Callable]]
    num_samples: int
    history: History | None
    seconds: float
    steps: int
    loss: nn.Module
    chains: Chains | None = None


def weight_prior(method: str, s: BnnSettings, net: nn.Module) -> weight_priors.WeightPrior:
    if method == "bbb-mixture":
        return weight_priors.scale_mixture(*s.mixture)
    if method == "bbb-hierarchical":
        return weight_priors.hierarchical(*s.hierarchical)
    scale = s.prior_scale
    prior = (
        weight_priors.fan_in(scale, scale) if s.prior == "fan-in" else weight_priors.normal(scale)
    )
    return (
        weight_priors.last_layer(net, prior)
        if method == "laplace" and s.laplace == "last-layer"
        else prior
    )


def build_model(method: str, s: BnnSettings, task: Task) -> pv.Model:
    """p(w) p(y | x, w) with fresh initial weights."""
    width = task.outputs * (2 if task.kind == "regression" and s.noise == "input" else 1)
    net = MLP(task.num_features, s.hidden, width, ACTIVATIONS[s.activation])
    net = pv.Bayesian(net, weight_prior(method, s, net))
    if task.kind == "classification":
        return pv.Model(y=pv.Node(CategoricalHead(net), "x"))
    if s.noise == "input":
        return pv.Model(y=pv.Node(NormalHead(net, min_scale=1e-3), "x"))
    return pv.Model(
        variance=pv.Global(InverseGammaPrior(1.0, 0.01)),
        y=pv.Node(SharedVarianceHead(net), "x", "variance"),
    )


def build_loss(method: str, s: BnnSettings, task: Task) -> pv.ElboLoss:
    model = build_model(method, s, task)
    if method in ("bbb", "bbb-mixture", "bbb-hierarchical"):
        guide = MeanField(model, init_scale=s.init_scale)
    elif method == "radial":
        guide = Radial(model, init_scale=s.init_scale)
    elif method in ("mc-dropout", "concrete-dropout"):
        guide = MCDropout(model, s.rate, learn_rate=method == "concrete-dropout")
    else:
        guide = PointEstimate(model, jacobian=method in (*SAMPLERS, "hmc"))
    closed_form = method in ("bbb", "bbb-hierarchical")
    return pv.ElboLoss(
        model,
        guide,
        num_data=task.num_data,
        beta=s.temperature,
        elbo=TraceMeanField_ELBO() if closed_form else None,
    )


def _sizes(method: str, s: BnnSettings, task: Task) -> tuple[int, bool, int]:
    """Members of an ensemble, whether all networks see the same data, and the number of problems."""
    members = s.members if method == "ensemble" else 1
    return members, task.num_splits == 1, task.num_splits * s.seeds


def untrained(method: str, s: BnnSettings, task: Task) -> nn.Module:
    """The loss of all networks as `train` builds it, for weights that are read from a file."""
    members, shared, problems = _sizes(method, s, task)
    losses = [build_loss(method, s, task) for _ in range(problems * members)]
    return losses[0] if len(losses) == 1 else pv.Stacked(losses, shared=shared)


AFTERWARDS = (*SAMPLERS, "hmc", "swag", "laplace")
"""Methods whose posterior is no part of the loss: it is stored beside the weights."""


def stored_guides(method: str, pairs: list[tuple[Callable, Callable]]) -> nn.ModuleList | None:
    """What of the posteriors the weights of the loss do not hold; None where they hold all."""
    return nn.ModuleList(guide for _, guide in pairs) if method in AFTERWARDS else None


def pairs_of(
    method: str, s: BnnSettings, task: Task, loss: nn.Module, num_draws: int
) -> list[tuple[Callable, Callable]]:
    """Models and guides of a trained loss, as in `Trained.pairs`; those of `stored_guides` have
    the right structure, `num_draws` draws among it, and numbers that are to be read."""
    members, _, problems = _sizes(method, s, task)
    pairs = []
    for index in range(problems):
        own = loss.member(index * members) if isinstance(loss, pv.Stacked) else loss
        model, guide = own.model, own.guide
        if method in (*SAMPLERS, "hmc"):
            values = guide.values()
            guide = Empirical(
                {name: v.new_zeros(num_draws, *v.shape) for name, v in values.items()}
            )
        elif method == "swag":
            guide = JointNormal(model, rank=s.swag_rank)
        elif method == "laplace":
            values = guide.values()
            net, rest = _net_and_rest(model, values)
            normal = MeanField(net) if s.laplace == "diagonal" else JointNormal(net)
            model, guide = linearize(model, values), _beside(normal, rest)
        elif method == "ensemble":
            guide = _ensemble(loss, members, index)
        pairs.append((model, guide))
    return pairs


def refuse_short(method: str, s: BnnSettings, task: Task) -> None:
    """Raise Refusal where training would end before a sampler has kept its draws."""
    epochs = epochs_of(s, task)
    kept = sum(map(_when(method, s, epochs), range(1, epochs + 1)))
    if method in (*SAMPLERS, "swag") and kept < (s.swag_rank + 1 if method == "swag" else 2):
        raise Refusal(
            f"{method} keeps one draw an epoch from the last part of training, here {kept} of {epochs} epochs; "
            "raise --steps" + (" or lower --swag-rank." if method == "swag" else ".")
        )


def train(
    method: str,
    s: BnnSettings,
    task: Task,
    *,
    hooks: tuple = (),
    seconds: float | None = None,
    device: torch.device = torch.device("cpu"),
    resume: Path | None = None,
    draws: Path | None = None,
) -> Trained:
    """Train all R networks of the task (times `members`) side by side; `seconds` ends it early,
    after an epoch.

    `draws`: a folder where samplers keep their draws, so that a run that resumes has them.
    """
    pyro.set_rng_seed(s.seed)
    members, shared, problems = _sizes(method, s, task)
    losses = [build_loss(method, s, task) for _ in range(problems * members)]
    first = {name: value[0, : s.batch_size] for name, value in task.train.tensors.items()}
    pv.check(losses[0].model, losses[0].guide, first, num_data=task.num_data)
    loss = (losses[0] if len(losses) == 1 else pv.Stacked(losses, shared=shared)).to(device)
    data = _batches(task, s, problems // task.num_splits * members, shared, device)
    epochs = epochs_of(s, task)
    refuse_short(method, s, task)
    collect = Collect(lambda: _read(loss), when=_when(method, s, epochs), folder=draws)
    optimizer, rates = _optimizer(method, s, task, epochs)
    trained = loss if not s.adversarial or method != "ensemble" else Perturbed(loss, s.adversarial)
    start, history, chains = time.perf_counter(), None, None
    local = s.local_reparameterization and isinstance(losses[0].guide, (MeanField, MCDropout))
    hooks = [
        *([collect] if method in (*SAMPLERS, "swag") else []),
        *hooks,
        *([StopAfter(seconds)] if seconds else []),
        ProgressBar(method),
    ]
    if method == "hmc":
        for hook in hooks:  # of which `fit` would be told
            getattr(hook, "begin", lambda run: None)(None)
        chains = _hmc(loss, losses, s, task, data)
    else:
        history = pv.fit(
            trained,
            data,
            epochs=epochs,
            optimizer=optimizer,
            schedule=rates,
            hooks=hooks,
            compile=s.compile,
            context=pv.LocalReparameterization if local else nullcontext,
            resume=resume,
        )
    pairs = [
        _pair(method, s, task, loss, members, index, collect, chains) for index in range(problems)
    ]
    seconds = time.perf_counter() - start
    steps = (
        len(history) * len(data)
        if history is not None
        else (s.hmc_warmup + s.hmc_samples) * s.hmc_leapfrogs
    )
    count = {"map": 1, "ensemble": members}.get(
        method, len(chains.accept) if chains else s.num_samples
    )
    if method in SAMPLERS:
        count = len(next(iter(collect.draws().values())))
    return Trained(pairs, count, history, seconds, steps, loss, chains)


def _optimizer(method: str, s: BnnSettings, task: Task, epochs: int) -> tuple[Callable, Callable]:
    """What moves the parameters, and how its rate falls."""
    if method in SAMPLERS:
        lr = s.sampler_lr or (0.01 if task.kind == "regression" else 0.05)
        kind, lr = (SGLD, lr) if method == "sgld" else (SGHMC, 0.1 * lr)
        return functools.partial(kind, lr=lr, num_data=task.num_data), cyclical(
            _cycle(epochs), lowest=0.05
        )
    adam = functools.partial(torch.optim.Adam, lr=s.lr)
    if method == "swag":  # to the mode, then at a constant rate about it
        return adam, lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: _swag_rate(epoch, epochs)
        )
    return adam, lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)


def _batches(
    task: Task, s: BnnSettings, repeat: int, shared: bool, device: torch.device
) -> Batches | StackedBatches:
    tensors = {name: value.to(device) for name, value in task.train.tensors.items()}
    if shared:
        return Batches(
            DictDataset(**{name: value[0] for name, value in tensors.items()}),
            s.batch_size,
            shuffle=True,
        )
    return StackedBatches(
        DictDataset(
            **{name: value.repeat_interleave(repeat, 0) for name, value in tensors.items()}
        ),
        s.batch_size,
    )


def _when(method: str, s: BnnSettings, epochs: int) -> Callable[[int], bool]:
    """Epochs whose weights are kept: the quiet end of each cycle of a sampler, the plateau of
    SWAG, evenly thinned."""
    if method == "swag":
        start, count = math.ceil(0.75 * epochs), max(s.swag_rank + 1, s.draws)
        every = max(1, (epochs - start) // count)
        return lambda epoch: epoch > start and (epoch - start) % every == 0
    length = _cycle(epochs)
    quiet = [
        epoch
        for epoch in range(1, epochs + 1)
        if epoch > length and (epoch - 1) % length >= 0.5 * length
    ]
    kept = set(quiet[:: max(1, len(quiet) // s.draws)])
    return kept.__contains__


def _cycle(epochs: int) -> int:
    return max(1, epochs // 5)


def _swag_rate(epoch: int, epochs: int) -> float:
    return max(0.1, 0.5 * (math.cos(math.pi * min(1.0, epoch / (0.75 * epochs))) + 1.0))


def _read(loss: nn.Module) -> Mapping[str, Tensor]:
    """The weights of all networks on the scale that training moves, `(R, ...)`."""
    if isinstance(loss, pv.Stacked):
        return loss.values(lambda member: member.guide.unconstrained())
    return {name: value.unsqueeze(0) for name, value in loss.guide.unconstrained().items()}


def _hmc(
    loss: nn.Module,
    losses: list[nn.Module],
    s: BnnSettings,
    task: Task,
    data: Batches | StackedBatches,
) -> Chains:
    """From the mode, on all data at once."""
    loss = loss if isinstance(loss, pv.Stacked) else pv.Stacked(losses, shared=True)
    pv.fit(
        loss,
        data,
        epochs=max(1, epochs_of(s, task) // 2),
        lr=s.lr,
        compile=s.compile,
        hooks=[ProgressBar("mode for hmc")],
    )
    thin = max(1, s.hmc_samples // s.draws)
    with progress_bar(total=s.hmc_warmup + s.draws * thin, desc="HMC", unit="path") as progress:
        return hmc(
            loss,
            data.data.tensors,
            num_data=task.num_data,
            num_samples=s.draws,
            thin=thin,
            warmup=s.hmc_warmup,
            num_steps=s.hmc_leapfrogs,
            step_size=1e-3,
            progress=lambda iteration: progress.update(),
        )


def _pair(
    method: str,
    s: BnnSettings,
    task: Task,
    loss: nn.Module,
    members: int,
    index: int,
    collect: Collect,
    chains: Chains | None,
) -> tuple[Callable, Callable]:
    """Model and guide of problem `index`."""
    own = loss.member(index * members) if isinstance(loss, pv.Stacked) else loss
    model, guide = own.model, own.guide
    if method == "ensemble":
        return model, _ensemble(loss, members, index)
    if method == "hmc":
        return model, Empirical({name: value[:, index] for name, value in chains.draws.items()})
    if method in SAMPLERS:
        return model, Empirical(
            {
                site.name: site.transform(collect.draws()[site.name][:, index])
                for site in guide.sites
            }
        )
    if method == "swag":
        moments = swag(
            {name: value[:, index] for name, value in collect.draws().items()}, rank=s.swag_rank
        )
        return model, JointNormal(model, rank=s.swag_rank).set(**moments)
    if method == "laplace":
        return linearize(model, guide.values()), _laplace(
            model, guide, s, task, task.split_of(index, s.seeds)
        )
    return model, guide


def _ensemble(loss: nn.Module, members: int, index: int) -> Empirical:
    values = [loss.member(index * members + member).guide.values() for member in range(members)]
    return Empirical({name: torch.stack([value[name] for value in values]) for name in values[0]})


def _net_and_rest(
    model: pv.Model, values: Mapping[str, Tensor]
) -> tuple[pv.Bayesian, dict[str, Tensor]]:
    """The net, and the values of sites that are none of its weights."""
    net = next(part for part in model.modules() if isinstance(part, pv.Bayesian))
    return net, {
        name: value.detach()
        for name, value in values.items()
        if not name.startswith(f"{net.name}.")
    }


def _beside(normal: nn.Module, rest: Mapping[str, Tensor]) -> nn.Module:
    """A guide of the net's weights, and the other sites where they are."""
    fixed = Empirical({name: value.unsqueeze(0) for name, value in rest.items()}) if rest else None
    return normal if fixed is None else pv.Joint(normal, fixed)


def _laplace(
    model: pv.Model, guide: PointEstimate, s: BnnSettings, task: Task, split: int
) -> nn.Module:
    """A normal over the weights, with the noise variance at its mode."""
    values = {name: value.detach() for name, value in guide.values().items()}
    net, rest = _net_and_rest(model, values)
    weights = {name: value for name, value in values.items() if name not in rest}
    rows = DictDataset(**{name: value[split] for name, value in task.train.tensors.items()})
    full = s.laplace != "diagonal"
    loc, spread = laplace(
        poutine.condition(model, data=rest), weights, Batches(rows, 256), full=full
    )
    normal = (
        JointNormal(net).set(loc, scale_tril=spread) if full else MeanField(net).set(loc, spread)
    )
    return _beside(normal, rest)
