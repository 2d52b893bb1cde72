"""Sprites: every combination of factors once, each visible in the image as it says."""

import pytest
import torch

from pyrovae.data import DataError, load_sprites
from pyrovae.data.sprites import FACTORS


def everything(**options: int) -> tuple[torch.Tensor, torch.Tensor]:
    splits = load_sprites(**options)
    parts = [splits.train, splits.valid, splits.test]
    return tuple(torch.cat([part.tensors[name] for part in parts]) for name in ("x", "factors"))


@pytest.mark.parametrize("size, rotations", [(16, 1), (32, 1), (32, 3)])
def test_every_combination_has_an_image_of_its_own(size: int, rotations: int) -> None:
    x, factors = everything(size=size, rotations=rotations)
    count = 9 * (size // 2) ** 2 * rotations
    assert x.shape == (count, 1, size, size) and set(x.unique().tolist()) == {0.0, 1.0}
    assert factors.shape == (count, 4 if rotations == 1 else 5)
    assert len(factors.unique(dim=0)) == len(x.flatten(1).unique(dim=0)) == count
    assert factors.amin(0).eq(0).all()


def test_factors_are_what_they_say() -> None:
    x, factors = everything()
    named = dict(zip(FACTORS, factors.T))
    pixels = torch.arange(16.0)
    weight = x.sum((1, 2, 3)).double()
    across = (x.sum((1, 2)) * pixels).sum(1) / weight - named["x"]
    down = (x.sum((1, 3)) * pixels).sum(1) / weight - named["y"]
    for shape in range(3):
        for scale in range(3):
            kind = (named["shape"] == shape) & (named["scale"] == scale)
            assert across[kind].std() < 1e-5 and down[kind].std() < 1e-5
            assert weight[kind].std() == 0  # no position cuts a part off
            if scale:
                smaller = (named["shape"] == shape) & (named["scale"] == scale - 1)
                assert weight[kind][0] > weight[smaller][0]


def test_the_set_is_always_the_same_and_labelled_by_shape() -> None:
    first, again = load_sprites(), load_sprites()
    for name in ("x", "factors", "y"):
        assert torch.equal(first.train.tensors[name], again.train.tensors[name])
    assert torch.equal(first.test.tensors["y"], first.test.tensors["factors"][:, 0])
    assert first.levels == 2 and first.is_binary and first.event_shape == (1, 16, 16)


def test_impossible_sets_are_refused() -> None:
    with pytest.raises(DataError, match="size is 17, expected an even number"):
        load_sprites(size=17)
    with pytest.raises(DataError, match="size"):
        load_sprites(size=8)
    with pytest.raises(DataError, match="some images are equal"):
        load_sprites(rotations=40)
