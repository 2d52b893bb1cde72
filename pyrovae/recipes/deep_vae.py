"""A deep hierarchical VAE of images: convolutional features, latents in space, inference from the
top down."""

import dataclasses
from collections.abc import Sequence

from torch import Size, Tensor, nn

import pyrovae as pv
from pyrovae.heads import NormalHead
from pyrovae.nets import (
    Batched,
    BoundedScale,
    Downsampling,
    Place,
    ResidualCell,
    Standardized,
    Upsampling,
)
from pyrovae.posteriors import ResidualNormal
from pyrovae.priors import StandardNormal
from pyrovae.recipes.image_likelihoods import ImageLikelihood


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """The numbers of a deep VAE, each tuple with one entry for the resolutions 1/2, 1/4, ... of the
    image."""

    levels: tuple[int, ...]
    """Latent levels; at the coarsest resolution at least one, at the others perhaps none."""
    channels: tuple[int, ...]
    """Of features and states."""
    latents: int = 8
    """Channels of each level's z."""
    cells: int = 1
    """Residual cells of the features at each resolution, and of the state after each level."""

    def __post_init__(self) -> None:
        if len(self.levels) != len(self.channels) or not self.levels or self.levels[-1] < 1:
            raise ValueError(
                f"levels={self.levels}, channels={self.channels}: expected as many of each, one or more, and at least "
                "one level at the last, the coarsest resolution."
            )

    @property
    def depth(self) -> int:
        """Cells on the way from the first latents to the image."""
        return self.cells * (sum(self.levels) + len(self.levels))


def deep_vae(
    image_shape: Sequence[int], hierarchy: Hierarchy, likelihood: ImageLikelihood
) -> tuple[pv.Model, pv.Guide]:
    r"""p(x | z_1..L) \prod_l p(z_l | z_{<l}) and q(z_1..L | x) = \prod_l q(z_l | x, z_{<l}).

    z_1, the coarsest, is standard normal. The states s_l = f(s_{l-1}, z_l) are computed from the
    latents by the same nets in both programs; p(z_l | s_{l-1}) is normal, and the guide shifts and
    scales it by what the features h of x at that resolution tell (`ResidualNormal`).

    Shapes: x `(B, *image_shape)`; z_l `(B, latents, h, w)` with the h and w of its resolution.
    Source: Sonderby et al. 2016, arXiv:1602.02282; Vahdat & Kautz 2020, arXiv:2007.03898; Child
    2021, arXiv:2011.10650.

    Example:
        >>> import torch
        >>> from pyrovae.recipes.image_likelihoods import Bits
        >>> model, guide = deep_vae((1, 8, 8), Hierarchy((1, 2), (8, 8), latents=2), Bits())
        >>> {name: tuple(z.shape) for name, z in guide(x=torch.zeros(5, 1, 8, 8)).items()}
        {'z1': (5, 2, 2, 2), 'z2': (5, 2, 2, 2), 'z3': (5, 2, 4, 4)}
    """
    colours, height, width = image_shape
    sizes: list[tuple[int, ...]] = [(height, width)]
    for _ in hierarchy.levels:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    guide: dict[str, pv.Node | pv.Value] = _features(colours, hierarchy, likelihood)
    model: dict[str, pv.Node | pv.Value] = {}
    state: tuple[str, ...] = ()
    pending: list[nn.Module] = []  # what the next state, or x, does first
    count = 0
    for place in reversed(range(len(hierarchy.levels))):
        channels, size = hierarchy.channels[place], sizes[place + 1]
        for _ in range(hierarchy.levels[place]):
            count += 1
            if pending:
                model[f"u{place + 1}"] = guide[f"u{place + 1}"] = pv.Value(
                    nn.Sequential(*pending), *state
                )
                state, pending = (f"u{place + 1}",), []
            z, s = f"z{count}", f"s{count}"
            prior = _prior(channels, hierarchy.latents, size, first=not state)
            recognition = Recognition(channels, 2 * hierarchy.latents, above=bool(state))
            model[z] = pv.Node(prior, *state)
            guide[z] = pv.Node(
                ResidualNormal(BoundedScale(recognition, event_dim=3), prior),
                f"h{place + 1}",
                *state,
            )
            model[s] = guide[s] = pv.Value(
                State(hierarchy, channels, None if state else size), z, *state
            )
            state = (s,)
        if place:
            finer = hierarchy.channels[place - 1]
            pending += [Upsampling(channels, finer, sizes[place]), *_cells(finer, hierarchy)]
    del guide[s]  # only x looks at the last state
    output = Output(hierarchy.channels[0], likelihood.numbers * colours, size=sizes[0])
    model["x"] = pv.Node(
        likelihood.head(nn.Sequential(*pending, output), Size(image_shape)), *state
    )
    return pv.Model(**model), pv.Guide(**guide)


def _features(
    colours: int, hierarchy: Hierarchy, likelihood: ImageLikelihood
) -> dict[str, pv.Node | pv.Value]:
    """The features h1, h2, ... of x, at each resolution from those at the one before."""
    found: dict[str, pv.Node | pv.Value] = {}
    before, parent = colours, "x"
    for place, channels in enumerate(hierarchy.channels):
        net: nn.Module = nn.Sequential(
            Downsampling(before, channels), *_cells(channels, hierarchy)
        )
        if place == 0:
            net = Standardized(net, likelihood.mean, likelihood.scale)
        before, parent, name = channels, f"h{place + 1}", parent
        found[parent] = pv.Value(net, name)
    return found


def _cells(channels: int, hierarchy: Hierarchy) -> list[nn.Module]:
    return [ResidualCell(channels, depth=hierarchy.depth) for _ in range(hierarchy.cells)]


def _prior(channels: int, latents: int, size: tuple[int, ...], *, first: bool) -> nn.Module:
    if first:
        return StandardNormal(latents, *size)
    net = Batched(nn.Sequential(nn.SiLU(), nn.Conv2d(channels, 2 * latents, 1)), 3)
    return NormalHead(BoundedScale(net, event_dim=3), event_dim=3)


class Recognition(nn.Module):
    """Numbers from the features of x and the state above: their 1x1 convolutions added, then a 3x3
    and a 1x1 convolution. What has no particles is not repeated for them."""

    def __init__(self, channels: int, numbers: int, *, above: bool) -> None:
        super().__init__()
        self.features = Batched(nn.Sequential(nn.SiLU(), nn.Conv2d(channels, channels, 1)), 3)
        self.above = (
            Batched(nn.Sequential(nn.SiLU(), nn.Conv2d(channels, channels, 1)), 3)
            if above
            else None
        )
        last = nn.Conv2d(channels, numbers, 1)
        for parameter in last.parameters():
            parameter.data *= 0.1  # the guide starts near the prior
        self.both = Batched(
            nn.Sequential(nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU(), last),
            event_dim=3,
        )

    def forward(self, features: Tensor, *above: Tensor) -> Tensor:
        h = self.features(features)
        return self.both(h if self.above is None else h + self.above(*above))


class State(nn.Module):
    """What is known after a level: the state before it, or at the top one number for each place,
    plus a 1x1 convolution of z; then residual cells."""

    def __init__(self, hierarchy: Hierarchy, channels: int, first: tuple[int, ...] | None) -> None:
        super().__init__()
        self.z = Batched(nn.Conv2d(hierarchy.latents, channels, 1), 3)
        self.first = None if first is None else Place(channels, first)
        self.cells = nn.Sequential(*_cells(channels, hierarchy))

    def forward(self, z: Tensor, *above: Tensor) -> Tensor:
        new = self.z(z)
        return self.cells(above[0] + new if self.first is None else self.first(new))


class Output(nn.Module):
    """A state at half the size of the image, or a pixel more, to numbers for each pixel."""

    def __init__(self, channels: int, numbers: int, *, size: Sequence[int]) -> None:
        super().__init__()
        self.height, self.width = size
        self.net = Batched(
            nn.Sequential(
                nn.SiLU(),
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(channels, 4 * numbers, 3, padding=1),
                nn.PixelShuffle(2),
            ),
            event_dim=3,
        )

    def forward(self, state: Tensor) -> Tensor:
        return self.net(state)[..., : self.height, : self.width]
