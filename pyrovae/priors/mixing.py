"""The weights of a mixture."""

import pyro.distributions as dist
import torch
from torch import nn


class Mixing(nn.Module):
    r"""p(k) = pi_k over C components, with learned weights; equal at first.

    Shapes: distribution with batch (), event () and values 0 ... C - 1, which an `nn.Embedding`
    takes as they are.

    Example:
        >>> Mixing(4)().probs
        tensor([0.2500, 0.2500, 0.2500, 0.2500], grad_fn=<SoftmaxBackward0>)
    """

    def __init__(self, num_components: int) -> None:
        super().__init__()
        if num_components < 1:
            raise ValueError(f"num_components={num_components}, expected at least 1.")
        self.logits = nn.Parameter(torch.zeros(num_components))

    def forward(self) -> dist.Categorical:
        return dist.Categorical(logits=self.logits)
