"""The data of a VAE."""

import dataclasses
from typing import Annotated, Literal

from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import FromZero
from pyrovae.recipes.setting_rules import NotWith

CONDITIONS = (
    "none",
    "label",
    "own",
    "quadrants-1",
    "quadrants-2",
    "quadrants-3",
    "noise",
    "low-resolution",
)
"""Words of --condition, beside names of columns."""


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """The data set and how it is prepared."""

    dataset: str = "digits"
    """digits (ships with scikit-learn), mnist, fashion-mnist, kmnist, binarized-mnist
    (Larochelle's fixed binarisation), or a path: .npy, .npz (x, optional y, x_test, y_test,
    x_valid), .csv or .tsv (all columns are x), IDX (MNIST's format, also .gz; one file or a folder
    named as MNIST's) or a folder of images. For tables of numbers use --likelihood normal-learned. Named sets are read from
    $PYROVAE_DATA, or else from the cache folder, and downloaded there if missing."""
    binarize: Literal["dynamic", "static", "threshold", "none"] | None = None
    """How grey pixels become 0 or 1. dynamic: sampled again in every epoch; static: sampled once;
    threshold: cut at 0.5; none: left as they are. The default is dynamic for Bernoulli likelihoods
    (threshold for the digits, whose pixels are counts) and none for the others. Validation and
    test data are always sampled once."""
    valid_size: Annotated[
        FromZero | None,
        NotWith(
            "has no effect: that set brings its own validation data", dataset=("binarized-mnist",)
        ),
    ] = None
    """Number of training data held out for validation; by default a tenth, at most 1000. 0 for
    none."""
    condition: str = "none"
    """Model p(x | c): none, label, own (the c of your own .npz: c, c_test, c_valid, rows of numbers beside
    those of x), quadrants-1, -2 or -3 of the image (x is the rest), noise (the image with a fifth of its
    pixels replaced), low-resolution (the image at half its size), or the names of columns of a table, separated by
    commas: numbers as they are, other words one-hot; x is the other columns. Adds, for images, a figure with
    several samples for each condition, and a baseline without latent variables."""
    leave_out: tuple[int, ...] = ()
    """Classes, by their labels, of which no datum is trained, validated or tested on: to see by
    score.py --against-class whether data of an unseen class are found unusual."""

    def __post_init__(self) -> None:
        bounds.check(self)
