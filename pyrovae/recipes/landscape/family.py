"""What every family of the landscape is given, and what it gives back."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import torch
from torch import Tensor

from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, Positive

Kind = Literal["exact", "bound", "importance", "annealed"]
"""Exact log p(x); a lower bound; an importance-sampled lower bound; annealed importance sampling."""
Table = Literal["binary", "real"]


@dataclass(frozen=True)
class Images:
    """Images as rows: bits for the table "binary"; for "real", dequantised grey levels, shifted and
    scaled to mean 0 and variance 1 over all pixels."""

    train: Tensor
    """`(N, D)`; for "real" whole levels, dequantised anew at each visit by `visit`."""
    valid: Tensor
    test: Tensor
    shape: tuple[int, ...]
    """(C, H, W)."""
    levels: int | None = None
    loc: float = 0.0
    scale: float = 1.0

    @property
    def features(self) -> int:
        return self.test.shape[1]

    def visit(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A training batch with noise of its own: u uniform within each level."""
        if self.levels is None:
            return batch
        x = (batch["x"] + torch.rand_like(batch["x"])) / self.levels
        return {**batch, "x": (x - self.loc) / self.scale}

    def trained_on(self) -> Tensor:
        """All training rows, dequantised once."""
        return self.visit({"x": self.train})["x"]

    def scored_on(self, count: int, seed: int) -> Self:
        """The same images with at most `count` test rows, chosen at random."""
        if len(self.test) <= count:
            return self
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(self.test), generator=generator)[:count]
        return dataclasses.replace(self, test=self.test[rows])

    def log_units(self) -> float:
        """What log p of a row is more than log P of its levels, per row: P(levels) >= p(x) / levels^D."""
        if self.levels is None:
            return 0.0
        return self.features * float(torch.tensor(self.levels * self.scale).log())

    def pixels(self, rows: Tensor) -> Tensor:
        """Rows as images with values in [0, 1], `(n, C, H, W)`."""
        return (rows * self.scale + self.loc).clamp(0, 1).reshape(-1, *self.shape)


@dataclass(frozen=True)
class Budget:
    """What each family may spend. Nets of all families have the same widths, and all that are trained
    by gradients pass as often through the data at most."""

    epochs: Count = 200
    """Maximum number of passes through the training data."""
    patience: Count = 20
    """Stop when the validation bound has not risen for so many epochs, and keep the best weights."""
    batch_size: Count = 100
    lr: Positive = 1e-3
    hidden: tuple[Count, ...] = (200, 200)
    """Widths of the hidden layers."""
    latent_size: Count = 16
    """Real latents; bits and codes are stated with their family."""
    components: Count = 50
    """Components of mixtures."""
    eval_data: Count = 1000
    """Maximum number of test data that are scored, chosen at random."""
    num_particles: Count = 500
    """K of importance-sampled log p(x)."""
    chains: Count = 8
    """Chains of annealed importance sampling for each datum."""
    temperatures: Count = 500
    """Its steps."""
    annealed_data: Count = 100
    """Maximum number of those data that it scores."""

    def __post_init__(self) -> None:
        bounds.check(self)


@dataclass(frozen=True)
class Scores:
    """log p(x) of test data in nats."""

    log_px: Tensor
    """`(N,)`, one value for each of the first N test data."""
    kind: Kind
    shared_se: float = 0.0
    """Standard error of what all data share, such as log Z."""

    @property
    def mean(self) -> float:
        return self.log_px.double().mean().item()

    @property
    def se(self) -> float:
        """Of the mean, over test data and from what they share."""
        over_data = self.log_px.double().std().item() / len(self.log_px) ** 0.5
        return (over_data**2 + self.shared_se**2) ** 0.5


class Fitted(Protocol):
    """A trained family."""

    @property
    def num_parameters(self) -> int:
        """Numbers that were learned."""

    def score(self, x: Tensor) -> Scores:
        """log p(x) of rows."""

    def sample(self, num: int) -> Tensor:
        """Rows drawn from the model."""


@dataclass(frozen=True)
class Family:
    """One entry of the landscape."""

    name: str
    table: Table
    fit: Callable[[Images, Budget], Fitted]
    is_exact: bool = False
    """log p(x) is exact."""
    has_code: bool = False
    """A datum has a latent code."""
    one_pass: bool = True
    """A draw takes one pass of the nets."""
    any_query: bool = False
    """p(part of x | the rest) is exact, for any part."""
    note: str = ""
    """What to keep in mind about its number."""

    def abilities(self) -> Mapping[str, bool]:
        """By the words of the figure."""
        return {
            "exact log p(x)": self.is_exact,
            "latent code": self.has_code,
            "one-pass draws": self.one_pass,
            "any conditional": self.any_query,
        }
