"""The parts that make up a method for Bayesian neural networks."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch.nn as nn
from pyro.infer import ELBO

import pyrovae as pv
from pyrovae.recipes.bnn_nets import (
    GuideFactory,
    PriorFactory,
    build_model,
    monte_carlo_kl,
    normal_prior,
    point,
    sampler_state,
)
from pyrovae.recipes.bnn_posteriors import OwnGuide, Posterior
from pyrovae.recipes.bnn_samplers import Sampler
from pyrovae.recipes.bnn_schedules import ADAM, Kept, Optimization
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import Task, epochs_of
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.setting_rules import NotWith, OnlyWith
from pyrovae.training.run import Run


def one_network(s: BnnSettings) -> int:
    return 1


def as_it_is(loss: nn.Module, s: BnnSettings) -> nn.Module:
    return loss


def fits_all(s: BnnSettings, task: Task) -> None:
    """For methods that every task suits."""


def no_hooks(s: BnnSettings, task: Task) -> Sequence[Callable[[Run], object]]:
    return ()


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of the table `METHODS`: the parts that make up a method."""

    name: str
    description: str
    """For `--help`."""
    guide: GuideFactory
    posterior: Posterior = OwnGuide()
    prior: PriorFactory = normal_prior
    elbo: Callable[[], ELBO | None] = monte_carlo_kl
    optimization: Optimization = ADAM
    kept: Kept | None = None
    """The epochs whose weights are draws of the posterior; None where there are none."""
    chains: Sampler | None = None
    """Markov chains in place of `fit`."""
    members: Callable[[BnnSettings], int] = one_network
    """Networks, or chains, of each problem."""
    objective: Callable[[nn.Module, BnnSettings], nn.Module] = as_it_is
    """From the ELBO to the training objective."""
    hooks: Callable[[BnnSettings, Task], Sequence[Callable[[Run], object]]] = no_hooks
    """Hooks of `fit` that belong to the method; they are called before those that save."""
    refuse_task: Callable[[BnnSettings, Task], None] = fits_all
    """Raises Refusal for a task that the method does not suit."""
    settings: tuple[str, ...] = ()
    """The settings this method uses among those that only some methods use."""
    ignored: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Settings without effect on this method, unlike on the others -> the reason."""

    @property
    def is_point(self) -> bool:
        """Whether the guide is a point mass, so that the KL is -log p(w)."""
        return self.guide in (point, sampler_state)

    def build_loss(self, s: BnnSettings, task: Task) -> pv.ElboLoss:
        """The ELBO of one network; for samplers, its energy per datum."""
        model = build_model(self.prior, s, task)
        guide = self.guide(s, model, task)
        beta = 1.0 if "temperature" in self.ignored else s.inference.temperature
        return pv.ElboLoss(model, guide, num_data=task.num_data, beta=beta, elbo=self.elbo())

    def build_losses(self, s: BnnSettings, task: Task) -> list[pv.ElboLoss]:
        """The ELBOs of all networks of a task: problem by problem, member by member."""
        problems = task.num_splits * s.run.seeds
        return [self.build_loss(s, task) for _ in range(problems * self.members(s))]

    def num_chains(self, s: BnnSettings) -> int:
        """Markov chains of each problem; 1 for methods without."""
        return 1 if self.chains is None else self.members(s)

    def keeps(self, s: BnnSettings, epochs: int) -> Callable[[int], bool]:
        """Whether the weights after an epoch are kept."""
        return self.kept.epochs(s, epochs) if self.kept is not None else lambda epoch: False

    def refuse(self, s: BnnSettings, task: Task) -> None:
        """Raise Refusal for a task that the method does not suit, and if training ends before enough
        draws are kept."""
        self.refuse_task(s, task)
        if self.kept is None:
            return
        epochs = epochs_of(s, task)
        count = sum(map(self.keeps(s, epochs), range(1, epochs + 1)))
        if count < self.kept.least(s):
            raise Refusal(
                f"{self.name} keeps one draw an epoch from the last part of training, here {count} of {epochs} "
                f"epochs; raise --steps{self.kept.remedy}."
            )


def stack(losses: Sequence[pv.ElboLoss], task: Task) -> nn.Module:
    """One loss of all networks; they share the data if the task has one split."""
    if len(losses) == 1:
        return losses[0]
    return pv.Stacked(losses, shared=task.num_splits == 1)


def rules(methods: Iterable[Method]) -> dict[str, OnlyWith | NotWith]:
    """Setting -> the rule that names the methods that use or ignore it, for a command line with
    `--method`."""
    users: dict[str, list[str]] = {}
    others: dict[str, tuple[str, list[str]]] = {}
    for method in methods:
        for name in method.settings:
            users.setdefault(name, []).append(method.name)
        for name, why in method.ignored.items():
            others.setdefault(name, (why, []))[1].append(method.name)
    return {
        **{name: OnlyWith(method=tuple(names)) for name, names in users.items()},
        **{name: NotWith(why, method=tuple(names)) for name, (why, names) in others.items()},
    }
