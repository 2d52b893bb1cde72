"""LeNet, a small convolutional classifier."""

from collections.abc import Sequence

import torch.nn as nn
from torch import Tensor

from pyrovae.nets.batched import Batched


class LeNet(nn.Module):
    r"""Two convolutions with pooling and two hidden linear layers.

    5x5 convolutions to 6 and 16 channels, each followed by the activation and 2x2 max-pooling, then
    linear maps to 120, 84 and `out_features`. Max-pooling and ReLU in place of the averages and
    squashing of the source. All parameters are of linear and convolutional layers.

    Shapes: `(*batch, C, H, W)` -> `(*batch, out_features)`; H and W of at least 4.
    Source: LeCun, Bottou, Bengio & Haffner 1998, Proc. IEEE 86(11), figure 2.

    Example:
        >>> import torch
        >>> LeNet((1, 28, 28), 10)(torch.zeros(5, 3, 1, 28, 28)).shape
        torch.Size([5, 3, 10])
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_features: int,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        channels, height, width = in_shape
        if min(height, width) < 4:
            raise ValueError(
                f"in_shape={tuple(in_shape)}, expected images of at least 4x4 pixels, which are pooled twice."
            )
        self.in_shape = tuple(in_shape)
        places = (height // 4) * (width // 4)
        self.net = Batched(
            nn.Sequential(
                nn.Conv2d(channels, 6, 5, padding=2),
                activation(),
                nn.MaxPool2d(2),
                nn.Conv2d(6, 16, 5, padding=2),
                activation(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(16 * places, 120),
                activation(),
                nn.Linear(120, 84),
                activation(),
                nn.Linear(84, out_features),
            ),
            event_dim=3,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)
