"""The data of a VAE."""

import dataclasses
from typing import Annotated, Literal

from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import FromZero
from pyrovae.recipes.uses import NotWith

Condition = Literal[
    "none", "label", "quadrants-1", "quadrants-2", "quadrants-3", "noise", "low-resolution"
]


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """What is modelled."""

    dataset: str = "digits"
    """digits (ships with scikit-learn), mnist, fashion-mnist, kmnist, binarized-mnist
    (Larochelle's fixed binarisation), or a path: .npy, .npz (x, optional y, x_test, y_test,
    x_valid), IDX (MNIST's format, also .gz; one file or a folder named as MNIST's) or a folder of
    images. Tables of numbers go with --likelihood normal-learned. Sets are looked for in
    $PYROVAE_DATA, else in the cache folder, and downloaded there."""
    binarize: Literal["dynamic", "static", "threshold", "none"] | None = None
    """How grey pixels become 0 or 1: drawn anew at each visit, drawn once, cut at 0.5, not at all.
    By default dynamic for the Bernoulli (threshold for the digits, whose pixels count inked cells)
    and none for the other likelihoods. Validation and test data are always drawn once."""
    valid_size: Annotated[
        FromZero | None,
        NotWith(
            "says nothing: that set brings its own validation data", dataset=("binarized-mnist",)
        ),
    ] = None
    """Training data held out for validation; by default a tenth, at most 1000. 0 for none."""
    condition: Condition = "none"
    """Model p(x | c): c is the label, one to three quadrants of the image (x is the rest), the
    image with a fifth of its pixels replaced by noise, or the image at half its resolution. Adds a
    picture of many answers to each question and compares with a net without latent variables."""

    def __post_init__(self) -> None:
        bounds.check(self)
