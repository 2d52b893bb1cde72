"""What several metrics refuse: tensors of the wrong shape, NaN, invalid probabilities, labels
outside the classes."""

import torch
from torch import Tensor


def finite(name: str, values: Tensor) -> None:
    """Refuse `values` that hold no real numbers, are empty, NaN or infinite: a mean over them
    would be meaningless.

    Example:
        >>> finite("y", torch.zeros(3))
    """
    if not values.is_floating_point():
        raise ValueError(
            f"{name} has dtype {values.dtype}, expected real numbers. Use {name}.double()."
        )
    if values.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(values.shape)}, expected at least one number.")
    if bad := int((~values.isfinite()).sum()):
        raise ValueError(
            f"{name} holds {bad} values that are NaN or infinite, of {values.numel()}; expected finite ones. "
            "Find out which datum they come from: leaving them out would flatter the score."
        )


def shaped(name: str, values: Tensor, expected: tuple[int, ...], because: str) -> None:
    """Refuse another shape than `expected`: `(N,)` against `(N, 1)` would broadcast to `(N, N)` and
    give a number.

    Example:
        >>> shaped("y", torch.zeros(3), (3,), "one for each datum")
    """
    if values.shape != torch.Size(expected):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}, expected {tuple(expected)}: {because}. "
            f"Drop a trailing 1 with {name}.squeeze(-1)."
        )


def draws_and_targets(draws: Tensor, y: Tensor, name: str = "draws") -> None:
    """Refuse draws that are not `(S, N)` or targets that are not `(N,)`.

    Example:
        >>> draws_and_targets(torch.zeros(5, 3), torch.zeros(3))
    """
    if draws.dim() != 2:
        raise ValueError(
            f"{name} has shape {tuple(draws.shape)}, expected (S, N): draws lead, then data. Drop a trailing 1 "
            f"with {name}.squeeze(-1); score several targets one by one."
        )
    finite(name, draws)
    finite("y", y)
    shaped("y", y, (draws.shape[1],), f"one target for each datum of {name} {tuple(draws.shape)}")


def probabilities(probs: Tensor, lead: tuple[str, ...] = ("N",)) -> None:
    """Refuse anything but `(*lead, C)` probabilities, C >= 2, that sum to one within 1e-4
    (bfloat16: 4 of its steps).

    Example:
        >>> probabilities(torch.full((3, 4), 0.25))
    """
    expected = f"({', '.join((*lead, 'C'))})"
    if probs.dim() != len(lead) + 1 or probs.shape[-1] < 2:
        raise ValueError(
            f"probs has shape {tuple(probs.shape)}, expected {expected} with C >= 2 classes. Average draws first: "
            "probs.mean(0); stack the two classes of a single p: torch.stack([1 - p, p], -1)."
        )
    finite("probs", probs)
    if (lowest := probs.min()) < 0:
        raise ValueError(
            f"probs holds {lowest.item():.4g}, expected no negative number. Of logits take logits.softmax(-1)."
        )
    off = (probs.sum(-1, dtype=torch.float64) - 1).abs()
    if off.max() > max(1e-4, 4 * torch.finfo(probs.dtype).eps):
        raise ValueError(
            f"probs sums to {probs.flatten(0, -2)[off.argmax()].sum().item():.4g} over the classes of a datum, "
            "expected 1. Of logits take logits.softmax(-1); of log-probabilities, exp()."
        )


def labels(y: Tensor, probs: Tensor) -> Tensor:
    """`y` as int64, refused where it is not one class 0..C-1 for each row of the `(N, C)`
    probabilities.

    Example:
        >>> labels(torch.tensor([1, 0]), torch.full((2, 2), 0.5))
        tensor([1, 0])
    """
    shaped("y", y, probs.shape[:1], "one class for each row of probs")
    if y.is_floating_point() or y.is_complex():
        raise ValueError(
            f"y has dtype {y.dtype}, expected class labels as int64. Use y.long() if they are whole numbers."
        )
    y, classes = y.long(), probs.shape[-1]
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(
            f"y holds {y.min().item()}..{y.max().item()}, expected classes 0..{classes - 1} as probs has "
            f"{classes} columns. Number the classes from 0."
        )
    return y
