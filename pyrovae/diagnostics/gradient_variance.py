"""The variance of a loss's gradients."""

import pyro
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.core.param_store import local_param_scope
from pyrovae.core.parameters import find_parameters
from pyrovae.core.preserve_state import preserve_state


def gradient_moments(
    loss: nn.Module, batch: dict[str, Tensor], num_draws: int
) -> dict[str, tuple[Tensor, Tensor]]:
    r"""Mean and variance of the gradient of `loss(**batch)` over the loss's own noise, by
    parameter.

    The variance is that of one draw, with divisor `num_draws` - 1; the sum over all elements is
    the total variance E ||g - E g||^2, by which estimators of one objective compare. Both have the
    parameter's shape.

    The mode is not changed, and every draw starts from the same buffers (a warm-up does not
    advance). Parameters, their `.grad`, buffers and random streams are left as they were, so that
    a second call makes the same draws.

    Raises: ValueError for less than two draws; PairError as `fit` does for a loss that depends on
    no trainable tensor.

    Example:
        >>> from pyrovae import ElboLoss, Guide, Node
        >>> from pyrovae.heads import NormalHead
        >>> from pyrovae.nets import MLP
        >>> loss = ElboLoss(model, Guide(z=Node(NormalHead(MLP(4, [8], 2 * 2)), "x")))
        >>> moments = gradient_moments(loss, {"x": torch.eye(4)}, num_draws=10)
        >>> sum(variance.sum() for _, variance in moments.values()) > 0
        tensor(True)
    """
    if num_draws < 2:
        raise ValueError(f"num_draws={num_draws}, but a variance takes at least 2.")
    with preserve_state([loss]):
        parameters = find_parameters(loss, batch)
        means = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        squares = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        for index in range(num_draws):
            with (
                local_param_scope(),
                pyro.validation_enabled(False),
                preserve_state([loss], random=False),
            ):
                gradients = torch.autograd.grad(
                    loss(**batch), list(parameters.values()), allow_unused=True
                )
            with torch.no_grad():
                for name, gradient in zip(
                    parameters, gradients
                ):  # Welford 1962: no difference of large squares
                    gradient = torch.zeros_like(means[name]) if gradient is None else gradient
                    difference = gradient - means[name]
                    means[name] += difference / (index + 1)
                    squares[name] += difference * (gradient - means[name])
    return {name: (means[name], squares[name] / (num_draws - 1)) for name in parameters}
