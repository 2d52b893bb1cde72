"""A net that looks at nothing."""

import torch
from torch import Tensor, nn

from pyrovae.nets.mlp import Shape, as_shape


class Constant(nn.Module):
    r"""One learned output for all inputs, or without any: heads on it are densities without
    parents.

    Shapes: `out_shape`, zeros at first.

    Example:
        >>> from pyrovae.heads import BernoulliHead
        >>> BernoulliHead(Constant(3))().base_dist.probs
        tensor([0.5000, 0.5000, 0.5000], grad_fn=<SigmoidBackward0>)
    """

    def __init__(self, out_shape: Shape) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(as_shape(out_shape)))

    def forward(self, *parents: Tensor) -> Tensor:
        return self.value
