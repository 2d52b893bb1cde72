"""Convolutional classifiers: their shapes, each datum on its own, all weights those of layers."""

import pytest
import torch
from torch import nn

import pyrovae as pv
from pyrovae.bnn.guides import MeanField
from pyrovae.heads import CategoricalHead
from pyrovae.nets import LeNet, ResNet

NETS = {
    "lenet": lambda: LeNet((1, 9, 8), 3),
    "resnet8": lambda: ResNet((3, 9, 8), 3, width=0.25),
    "resnet20": lambda: ResNet((1, 9, 8), 3, blocks=3, width=0.125),
}


@pytest.mark.parametrize("name", NETS)
def test_a_datum_does_not_depend_on_its_neighbours(name: str) -> None:
    net = NETS[name]()
    x = torch.randn(2, 5, *net.in_shape)
    whole = net(x)
    assert whole.shape == (2, 5, 3)
    assert torch.allclose(whole[1, 3], net(x[1, 3].unsqueeze(0))[0])
    whole.sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in net.parameters())


def test_depths_are_those_of_their_names() -> None:
    for blocks, depth in ((1, 8), (3, 20)):
        net = ResNet((3, 32, 32), 10, blocks=blocks)
        layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        shortcuts = [m for m in layers if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
        assert len(layers) - len(shortcuts) == depth and len(shortcuts) == 2
    assert sum(p.numel() for p in ResNet((3, 32, 32), 10, blocks=3).parameters()) > 270_000
    for wrong in (lambda: ResNet((1, 8, 8), 3, blocks=0), lambda: LeNet((1, 3, 8), 3)):
        with pytest.raises(ValueError, match="expected"):
            wrong()
    with pytest.raises(ValueError, match="one number"):  # a norm would set it to 0
        ResNet((1, 4, 4), 3, width=0.125)
    assert ResNet((1, 4, 4), 3, width=0.25)(torch.randn(1, 1, 4, 4)).any()


@pytest.mark.parametrize("name", NETS)
def test_weights_of_particles_and_noise_of_each_datum(name: str) -> None:
    shape = NETS[name]().in_shape
    flat = nn.Sequential(nn.Unflatten(-1, shape), NETS[name]())
    net = pv.Bayesian(flat, event_dim=1)
    assert net.only_layers_use
    model = pv.Model(y=pv.Node(CategoricalHead(net), "x"))
    guide = MeanField(model, init_scale=0.05)
    x, y = torch.randn(6, *shape).flatten(1), torch.arange(6) % 3
    assert pv.log_predictive(model, guide, {"x": x, "y": y}, num_samples=4).shape == (6,)
    loss = pv.ElboLoss(model, guide, num_data=6)
    with pv.LocalReparameterization():
        value = loss(x=x, y=y)
    assert value.isfinite()
    value.backward()
    assert all(rho.grad.any() for rho in guide.rho)
