"""What codes of data are good for: neighbours, classes that can be read off them, maps."""

import dataclasses
import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pyrovae.recipes.wording import share

FOLDS = 5
Map = Literal["active", "pca", "tsne"]


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """The share of data whose class is found, and its standard error over data."""

    value: float
    se: float
    num_data: int

    def __str__(self) -> str:
        found = share(self.value, self.se, of=f"{self.num_data}", spec=".4f", sign="+-")
        return found if found.endswith(")") else f"{found} (N = {self.num_data})"


def information_of(mean: Tensor, scale: Tensor) -> Tensor:
    """KL of q(z_d | x) to N(0, 1) by dim, averaged over data, in nats, `(D,)`: how much of a dim is
    used."""
    variance = scale**2
    return 0.5 * (mean**2 + variance - 1 - variance.log()).mean(0)


def nearest(codes: Tensor, num: int) -> Tensor:
    """The `num` nearest rows of each of N codes, itself left out, nearest first, `(N, num)`."""
    from sklearn.neighbors import NearestNeighbors

    num = min(num, len(codes) - 1)
    found = NearestNeighbors(n_neighbors=num + 1).fit(codes.numpy()).kneighbors(codes.numpy())[1]
    own = np.arange(len(codes))[:, None]
    # of equal codes another may come first, and the row itself not at all
    others = np.argsort(found == own, axis=1, kind="stable")[:, :num]
    return torch.from_numpy(np.take_along_axis(found, others, 1).astype(np.int64))


def probe(
    codes: Tensor, y: Tensor, *, kind: Literal["knn", "linear"], seed: int = 0
) -> Accuracy | None:
    """How well classes can be predicted from standardised codes, by the 5 nearest neighbours or by
    logistic regression, in 5-fold cross-validation; None where a class has less than 5 data.

    It measures whether the code separates the classes, not how well a classifier could do on x.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    counts = y.unique(return_counts=True)[1]
    if len(counts) < 2 or int(counts.min()) < FOLDS:
        return None
    classifier = KNeighborsClassifier(5) if kind == "knn" else LogisticRegression(max_iter=1000)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), classifier)
    right = cross_val_predict(model, codes.numpy(), y.numpy(), cv=folds) == y.numpy()
    value = float(right.mean())
    return Accuracy(value, math.sqrt(value * (1 - value) / len(right)), len(right))


def plane(
    codes: Tensor, kl: Tensor, kind: Map, *, seed: int = 0
) -> tuple[Tensor, tuple[str, str], str]:
    """Codes on a map of two dims, `(N, 2)`, the names of its axes, and what it shows.

    active: the two dims of largest KL, `kl` `(D,)`. pca: the first two principal components.
    tsne: t-SNE (van der Maaten & Hinton 2008), which keeps neighbours and not distances.
    """
    if codes.shape[1] == 2:
        return codes, ("latent 0", "latent 1"), "both latent dims"
    if kind == "active":
        first, second = sorted(kl.argsort(descending=True)[:2].tolist())
        axes = f"latent {first}", f"latent {second}"
        return codes[:, [first, second]], axes, f"the 2 of {codes.shape[1]} dims of largest KL"
    if kind == "pca":
        centred = codes - codes.mean(0)
        _, s, v = torch.linalg.svd(centred, full_matrices=False)
        share = float((s[:2] ** 2).sum() / (s**2).sum())
        axes = "principal component 1", "principal component 2"
        return centred @ v[:2].T, axes, f"{share:.0%} of the variance of the means"
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(codes) - 1) / 3)
    places = TSNE(perplexity=perplexity, random_state=seed, init="pca").fit_transform(
        codes.numpy()
    )
    what = f"t-SNE, perplexity {perplexity:.0f}: it shows neighbours, not distances"
    return torch.from_numpy(places), ("t-SNE 1", "t-SNE 2"), what
