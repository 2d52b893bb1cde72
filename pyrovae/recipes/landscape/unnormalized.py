"""Families of bits without a density of their own: an energy, and generators."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.core.progress import progress_bar
from pyrovae.data import Batches, DictDataset
from pyrovae.evidence import annealed_importance, annealed_log_z
from pyrovae.heads import FlippedBernoulliHead, StraightThroughBernoulliHead
from pyrovae.losses import ContrastiveDivergence
from pyrovae.nets import MLP
from pyrovae.priors import RestrictedBoltzmann, StandardNormal
from pyrovae.recipes.landscape.family import Budget, Family, Images, Scores
from pyrovae.recipes.landscape.pairs import Pair, count, draw
from pyrovae.training.adversarial import Game, NonSaturating, Wasserstein, fit_adversarial
from pyrovae.training.hooks import ProgressBar

FLIP = 0.02
"""Probability that observation noise flips a pixel of a generator."""
LEAPFROG = 5


@dataclass
class Machine:
    """A restricted Boltzmann machine with its normaliser and the normaliser's standard error."""

    rbm: RestrictedBoltzmann
    log_z_se: float

    @property
    def num_parameters(self) -> int:
        return count(self.rbm)

    def score(self, x: Tensor) -> Scores:
        found = pv.log_evidence(pv.Model(x=self.rbm), None, {"x": x})
        return Scores(found.log_px, "annealed", shared_se=self.log_z_se)

    def sample(self, num: int) -> Tensor:
        return draw(pv.Model(x=self.rbm), num)


def fit_rbm(images: Images, budget: Budget) -> Machine:
    rbm = RestrictedBoltzmann(images.features, budget.hidden[0])
    data = Batches(DictDataset(x=images.train), budget.batch_size, shuffle=True)
    loss = ContrastiveDivergence(rbm, num_chains=budget.batch_size)
    pv.fit(loss, data, epochs=budget.epochs, lr=budget.lr, hooks=[ProgressBar()])
    means = images.train.mean(0).clamp(0.01, 0.99).logit()
    log_z, se = annealed_log_z(
        rbm,
        base=means,
        num_chains=100,
        num_steps=20 * budget.temperatures,
        progress=lambda steps: progress_bar(steps, unit="step", desc="log Z"),
    )
    rbm.store_log_z(log_z)
    return Machine(rbm, se)


@dataclass
class Generator(Pair):
    """A generator's program under flipped bits, scored by annealing from the prior."""

    budget: Budget

    def score(self, x: Tensor) -> Scores:
        budget = self.budget
        found = annealed_importance(
            self.model,
            {"x": x[: budget.annealed_data]},
            num_chains=budget.chains,
            num_steps=budget.temperatures,
            num_leapfrog=LEAPFROG,
            progress=lambda steps: progress_bar(steps, unit="step", desc="annealing"),
        )
        return Scores(found.log_px, "annealed")


def fit_game(images: Images, budget: Budget, game: Game, critic_steps: int) -> Generator:
    """The decoder of the VAE as generator, its draws seen by a critic of the same widths."""
    decoder = MLP(budget.latent_size, budget.hidden[::-1], images.features)
    critic = MLP(images.features, budget.hidden, 1, nn.SiLU)
    draws = StraightThroughBernoulliHead(decoder, temperature=1.0)

    def generate(num: int) -> Tensor:
        return draws(torch.randn(num, budget.latent_size)).rsample()

    fit_adversarial(
        generate,
        decoder,
        critic,
        Batches(DictDataset(x=images.train), budget.batch_size, shuffle=True),
        game=game,
        epochs=budget.epochs,
        critic_steps=critic_steps,
        lr=budget.lr / 2,
        progress=lambda epochs: progress_bar(epochs, unit="epoch"),
    )
    likelihood = FlippedBernoulliHead(decoder, flip=FLIP)
    model = pv.Model(z=StandardNormal(budget.latent_size), x=pv.Node(likelihood, "z"))
    return Generator(model, None, 0, budget)


NOISE = f"trained without a likelihood; log p(x) with pixels flipped with probability {FLIP}"
UNNORMALIZED = (
    Family(
        "rbm",
        "binary",
        fit_rbm,
        has_code=True,
        one_pass=False,
        note="log Z is low in expectation, log p(x) high; draws from Gibbs chains",
    ),
    Family("gan", "binary", lambda i, b: fit_game(i, b, NonSaturating(), 1), note=NOISE),
    Family("wgan-gp", "binary", lambda i, b: fit_game(i, b, Wasserstein(), 5), note=NOISE),
)
