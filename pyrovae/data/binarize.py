"""Turning grey levels in [0, 1] into pixels in {0, 1}, which is what a Bernoulli likelihood
scores."""

import torch
from torch import Tensor

from pyrovae.data.errors import DataError


def dynamic(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Batch with x drawn afresh from Bernoulli(x), by torch's global generator, each time it is
    visited.

    A transform for the ``Batches`` of a training set; scores on data drawn this way are not those
    on a fixed binarisation (``static``). Nothing is checked here: x in [0, 1] is the data set's
    promise, checked when it is built.

    Shapes: x (B, *event), probabilities -> x (B, *event) in {0, 1}, same dtype; the other entries
    pass unchanged.

    Source: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519
    (procedure after Salakhutdinov & Murray 2008).

    Example:
        >>> import torch
        >>> from pyrovae.data import dynamic
        >>> dynamic({"x": torch.tensor([[0.0, 1.0]])})["x"]
        tensor([[0., 1.]])
    """
    x = batch["x"]
    return {
        **batch,
        "x": (torch.rand_like(x) < x).to(x.dtype),
    }  # a third of the time of torch.bernoulli on CPU


def static(x: Tensor, *, seed: int) -> Tensor:
    """One draw from Bernoulli(x), the same for the same seed, by a private generator.

    The draw is made on the CPU, so it does not depend on x's device; torch's global generators are
    left as they were. It is not Larochelle's fixed binarisation of MNIST, which is a file: see
    ``load_binarized_mnist``.

    Shapes: x (N, *event), probabilities -> (N, *event) in {0, 1}.

    Raises:
        DataError: x is not floating point, holds NaN, or leaves [0, 1].

    Source: the idea of a draw fixed once is Larochelle & Murray 2011, AISTATS.

    Example:
        >>> import torch
        >>> from pyrovae.data import static
        >>> x = torch.full((2, 3), 0.5)
        >>> torch.equal(static(x, seed=1), static(x, seed=1))
        True
    """
    check_unit(x)
    generator = torch.Generator(device="cpu").manual_seed(seed)
    uniform = torch.rand(x.shape, generator=generator, dtype=x.dtype)
    return (uniform.to(x.device) < x).to(x.dtype)


def threshold(x: Tensor) -> Tensor:
    """Pixels above one half become 1, the others 0.

    Shapes: x (N, *event) -> (N, *event) in {0, 1}.

    Raises:
        DataError: x is not floating point, holds NaN, or leaves [0, 1].

    Example:
        >>> import torch
        >>> from pyrovae.data import threshold
        >>> threshold(torch.tensor([0.2, 0.5, 0.7]))
        tensor([0., 0., 1.])
    """
    check_unit(x)
    return (x > 0.5).to(x.dtype)


def check_unit(x: Tensor, name: str = "x") -> None:
    """Refuse x unless it is floating point, with all values in [0, 1].

    Raises:
        DataError: with the range seen.

    Example:
        >>> import torch
        >>> check_unit(torch.rand(2, 3))
    """
    if not x.is_floating_point():
        raise DataError(
            f"{name} has dtype {x.dtype}, expected floating point in [0, 1]. "
            f"For 0-255 pixels use {name} / 255."
        )
    low, high = x.aminmax()
    if not (low >= 0 and high <= 1):  # so written that NaN is refused too
        raise DataError(
            f"{name} ranges over [{float(low):.4g}, {float(high):.4g}], expected probabilities in [0, 1]: "
            "only these can be binarised. Divide 0-255 pixels by 255 and remove NaN; of measurements, use "
            "binarize='none' with a likelihood of real numbers, such as LearnedScaleNormalHead."
        )
