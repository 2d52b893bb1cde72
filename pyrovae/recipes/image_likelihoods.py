"""Likelihoods of images on nets that return `numbers` channels for each colour."""

from typing import Protocol

from torch import Size, nn

from pyrovae.heads import BernoulliHead, DiscretizedLogisticMixtureHead, LearnedScaleNormalHead


class ImageLikelihood(Protocol):
    """p(x | numbers of each pixel), and the units of x."""

    @property
    def numbers(self) -> int:
        """Channels for each colour."""

    @property
    def mean(self) -> float:
        """What is subtracted from x in an encoder."""

    @property
    def scale(self) -> float:
        """By what x is divided then."""

    def head(self, net: nn.Module, image_shape: Size) -> nn.Module:
        """The likelihood on a net that returns `(*batch, numbers * C, H, W)`."""


class Bits:
    """Pixels in {0, 1}.

    Example:
        >>> import torch
        >>> Bits().head(nn.Identity(), Size([1, 2, 2]))(torch.zeros(3, 1, 2, 2)).batch_shape
        torch.Size([3])
    """

    numbers, mean, scale = 1, 0.5, 0.5

    def head(self, net: nn.Module, image_shape: Size) -> nn.Module:
        return BernoulliHead(net, event_dim=len(image_shape))


class Levels:
    """Whole numbers from 0 to levels - 1 as discretised mixtures of logistics, colours independent
    given the net.

    Example:
        >>> import torch
        >>> likelihood = Levels(256, num_components=5)
        >>> net = nn.Conv2d(4, likelihood.numbers * 3, 1)
        >>> likelihood.head(net, Size([3, 8, 8]))(torch.zeros(2, 4, 8, 8)).event_shape
        torch.Size([3, 8, 8])
    """

    def __init__(self, levels: int, *, num_components: int = 5) -> None:
        self.levels, self.num_components = levels, num_components
        self.numbers = 3 * num_components
        self.mean = self.scale = (levels - 1) / 2

    def head(self, net: nn.Module, image_shape: Size) -> nn.Module:
        return DiscretizedLogisticMixtureHead(
            net, self.num_components, levels=self.levels, event_shape=image_shape
        )


class RealPixels:
    """Real numbers from 0 to 1, normal with one learned standard deviation.

    Example:
        >>> import torch
        >>> RealPixels().head(nn.Identity(), Size([3, 2, 2]))(torch.zeros(5, 3, 2, 2)).event_shape
        torch.Size([3, 2, 2])
    """

    numbers, mean, scale = 1, 0.5, 0.5

    def head(self, net: nn.Module, image_shape: Size) -> nn.Module:
        return LearnedScaleNormalHead(net, initial_scale=0.3, event_dim=len(image_shape))
