"""Classifiers from few labels: the labels alone, M2, and M2 on the code of a VAE (M1+M2)."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

import pyrovae as pv
from pyrovae.data import Batches, DictDataset, Interleaved
from pyrovae.heads import BernoulliHead, NormalHead, StraightThroughCategoricalHead
from pyrovae.losses import SemiSupervisedLoss
from pyrovae.nets import MLP, Constant
from pyrovae.priors import StandardNormal
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, NotNegative, Positive, Range
from pyrovae.recipes.vae import autocast
from pyrovae.training.hooks import ProgressBar


@dataclasses.dataclass(frozen=True)
class Labels:
    """Data of which some have labels. x: bits `(N, D)`; y: classes `(L,)` of the rows `x[:L]`."""

    x: Tensor
    y: Tensor
    classes: int

    @property
    def features(self) -> int:
        return self.x.shape[1]

    def labelled(self) -> dict[str, Tensor]:
        one_hot = functional.one_hot(self.y, self.classes).to(self.x)
        return {"x": self.x[: len(self.y)], "y": one_hot}

    @classmethod
    def choose(cls, x: Tensor, y: Tensor, count: int, seed: int) -> "Labels":
        """As many labels of each class as of any other, to one; which data have them is drawn."""
        classes = int(y.max()) + 1
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        ranks = [order[y[order] == c] for c in range(classes)]
        turns = [rows[i] for i in range(max(map(len, ranks))) for rows in ranks if i < len(rows)]
        first = torch.stack(turns)
        return cls(x[first], y[first[:count]], classes)


@dataclasses.dataclass(frozen=True)
class Method:
    """How the nets are built and trained."""

    epochs: Count = 100
    """Passes through the data without labels."""
    batch_size: Count = 100
    lr: Positive = 1e-3
    hidden: tuple[Count, ...] = (500,)
    """Widths of the hidden layers of all nets."""
    latent_size: Count = 50
    classifier_weight: NotNegative = 5.0
    """Weight of the classifier's log-probability of the given labels, in nats per labelled datum."""
    dropout: Annotated[float, Range(0, 1)] = 0.5
    """Share of the inputs that the classifier does not see in training."""
    unlabelled_batches: Count = 1
    """Batches without labels for each one with labels; each datum's bound counts once."""
    precision: Literal["32", "bf16"] = "32"
    """bf16: networks in bfloat16 under autocast; densities and parameters stay in float32."""

    def __post_init__(self) -> None:
        bounds.check(self)

    def classifier(self, features: int, classes: int) -> nn.Module:
        """The net of q(y | x), and of the labels alone."""
        return nn.Sequential(nn.Dropout(self.dropout), MLP(features, self.hidden, classes))

    @property
    def context(self) -> Callable[[], AbstractContextManager]:
        return autocast(self.precision, torch.device("cpu"))


@dataclasses.dataclass(frozen=True)
class Learned:
    """A classifier of rows, and draws given a class where there is a model of the data."""

    classify: Callable[[Tensor], Tensor]
    draw: Callable[[Tensor], Tensor] | None = None
    """From one-hot classes `(n, C)` to rows."""

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        return (self.classify(x) == y).double().mean().item()


def supervised(data: Labels, m: Method) -> Learned:
    """The classifier's net alone, on the labelled rows, for as many steps as the others."""
    net = m.classifier(data.features, data.classes)
    batch = data.labelled()
    size = min(m.batch_size, len(data.y))
    batches = Batches(DictDataset(**batch), size, shuffle=True)
    steps = m.epochs * -(-len(data.x) // m.batch_size) // m.unlabelled_batches
    pv.fit(
        _CrossEntropy(net),
        batches,
        epochs=max(1, steps // len(batches)),
        lr=m.lr,
        hooks=[ProgressBar("labels")],
        context=m.context,
    )
    net.eval()
    return Learned(lambda x: net(x).argmax(-1))


class _CrossEntropy(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(self.net(x), y)


def m2(data: Labels, m: Method, *, code: nn.Module | None = None) -> Learned:
    """p(y) p(z) p(x | y, z), the class summed over where it is not given.

    With a `code`, q(c | x) of `latent_size` numbers, x is a new draw of c in each pass.
    """
    size, classes = m.latent_size, data.classes
    features = data.features if code is None else size
    decoder = MLP(size + classes, m.hidden[::-1], features if code is None else 2 * features)
    likely = BernoulliHead(decoder) if code is None else NormalHead(decoder)
    prior = Constant(classes).requires_grad_(False)  # as many of each class, as labels are chosen
    model = pv.Model(
        y=StraightThroughCategoricalHead(prior),
        z=StandardNormal(size),
        x=pv.Node(likely, "z", "y"),
    )
    guide = pv.Guide(
        y=pv.Node(StraightThroughCategoricalHead(m.classifier(features, classes)), "x"),
        z=pv.Node(NormalHead(MLP(features + classes, m.hidden, 2 * size)), "x", "y"),
    )
    share = m.unlabelled_batches * len(data.y) / len(data.x)
    loss = SemiSupervisedLoss(model, guide, weight=m.classifier_weight, bound_weight=share)
    transform = None if code is None else _draws(code)
    plain = Batches(DictDataset(x=data.x), m.batch_size, shuffle=True, transform=transform)
    labelled = Batches(
        DictDataset(**data.labelled()),
        min(m.batch_size, len(data.y)),
        shuffle=True,
        transform=transform,
    )
    both = Interleaved(plain, labelled, every=m.unlabelled_batches)
    pv.fit(loss, both, epochs=m.epochs, lr=m.lr, hooks=[ProgressBar("M2")], context=m.context)
    loss.eval()

    @torch.no_grad()
    def draw(y: Tensor) -> Tensor:
        """The mean of x for a draw of z and each class."""
        return likely(torch.randn(len(y), size), y).mean

    return Learned(lambda x: loss.classify(x=x), draw)


def m1_m2(data: Labels, m: Method) -> Learned:
    """A VAE on all rows, and M2 on draws of its code; classified is the code's mean."""
    size = m.latent_size
    encoder = NormalHead(MLP(data.features, m.hidden, 2 * size))
    decoder = BernoulliHead(MLP(size, m.hidden[::-1], data.features))
    model = pv.Model(z=StandardNormal(size), x=pv.Node(decoder, "z"))
    guide = pv.Guide(z=pv.Node(encoder, "x"))
    batches = Batches(DictDataset(x=data.x), m.batch_size, shuffle=True)
    pv.fit(
        pv.ElboLoss(model, guide),
        batches,
        epochs=m.epochs,
        lr=m.lr,
        hooks=[ProgressBar("M1")],
        context=m.context,
    )

    # a code has few numbers, none to spare
    upper = m2(data, dataclasses.replace(m, dropout=0.0), code=encoder)

    @torch.no_grad()
    def classify(x: Tensor) -> Tensor:
        return upper.classify(encoder(x).mean)

    @torch.no_grad()
    def draw(y: Tensor) -> Tensor:
        """The mean of x for a draw of the code given each class."""
        return decoder(_drawn(upper, y)).mean

    return Learned(classify, draw)


def _draws(code: nn.Module) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """A batch with a draw of the code in place of its x."""

    @torch.no_grad()
    def transform(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**batch, "x": code(batch["x"]).sample()}

    return transform


def _drawn(upper: Learned, y: Tensor) -> Tensor:
    if upper.draw is None:
        raise ValueError("the upper model has no draws.")
    return upper.draw(y)


METHODS: dict[str, Callable[[Labels, Method], Learned]] = {
    "supervised": supervised,
    "m2": m2,
    "m1+m2": m1_m2,
}
NONE = float("nan")
PUBLISHED: dict[str, dict[int, tuple[float, float]]] = {
    "supervised": {100: (25.81, NONE), 600: (11.44, NONE), 1000: (10.7, NONE), 3000: (6.04, NONE)},
    "m2": {100: (11.97, 1.71), 600: (4.94, 0.13), 1000: (3.60, 0.56), 3000: (3.92, 0.63)},
    "m1+m2": {100: (3.33, 0.14), 600: (2.59, 0.05), 1000: (2.40, 0.02), 3000: (2.18, 0.04)},
}
"""Error in per cent on MNIST and its spread, where one is given: Kingma et al. 2014, arXiv:1406.5298, table 1."""
