"""Autoencoders as compositions: plain, denoising, sparse and contractive ones are the formulas of
their papers."""

import math

import pytest
import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.data import Batches, DictDataset
from pyrovae.heads import DeltaHead, FixedScaleNormalHead
from pyrovae.losses import Penalized, squared_jacobian
from pyrovae.nets import MLP, Corrupted
from pyrovae.priors import Flat, Laplace

X, Z, SCALE, RATE, WEIGHT = 6, 2, 0.5, 0.2, 0.3


def nets(hidden: tuple[int, ...] = (8,)) -> tuple[MLP, MLP]:
    return MLP(X, hidden, Z, nn.Tanh), MLP(Z, hidden, X, nn.Tanh)


def autoencoder(kind: str, encoder: nn.Module, decoder: nn.Module) -> nn.Module:
    prior = Laplace(Z, scale=RATE) if kind == "sparse" else Flat(Z)
    model = pv.Model(z=prior, x=pv.Node(FixedScaleNormalHead(decoder, scale=SCALE), "z"))
    guide = pv.Guide(z=pv.Node(DeltaHead(encoder), "noisy" if kind == "denoising" else "x"))
    loss = pv.ElboLoss(model, guide)
    return (
        Penalized(loss, lambda x, **_: squared_jacobian(encoder, x), weight=WEIGHT)
        if kind == "contractive"
        else loss
    )


def by_hand(kind: str, encoder: nn.Module, decoder: nn.Module, x: Tensor, noisy: Tensor) -> Tensor:
    """Squared error over 2 scale^2 with the normal's constant, and what each kind adds."""
    z = encoder(noisy if kind == "denoising" else x)
    error = ((x - decoder(z)) ** 2).sum(-1) / (2 * SCALE**2) + 0.5 * X * math.log(
        2 * math.pi * SCALE**2
    )
    if kind == "sparse":
        error = error + z.abs().sum(-1) / RATE + Z * math.log(2 * RATE)
    if kind == "contractive":
        jacobian = torch.func.vmap(torch.func.jacrev(encoder))(x)
        projection = (torch.randn_like(z).unsqueeze(-2) @ jacobian).squeeze(-2)
        error = error + WEIGHT * projection.square().sum(-1)
    return error.mean()


@pytest.mark.parametrize("kind", ["plain", "denoising", "sparse", "contractive"])
def test_the_loss_and_its_gradient_are_the_formula(kind: str) -> None:
    encoder, decoder = nets()
    x = torch.randn(7, X)
    noisy = x + torch.randn(7, X)
    parameters, results = [*encoder.parameters(), *decoder.parameters()], []
    loss = autoencoder(kind, encoder, decoder)
    for compute in (
        lambda: loss(x=x, noisy=noisy),
        lambda: by_hand(kind, encoder, decoder, x, noisy),
    ):
        torch.manual_seed(1)
        value = compute()
        results.append((value, *torch.autograd.grad(value, parameters)))
    for got, expected in zip(*results):
        torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-10)


def test_the_contractive_penalty_is_the_jacobian_of_the_paper() -> None:
    # one sigmoid layer, Rifai et al. 2011: ||J||^2 = sum_j (h_j (1 - h_j))^2 sum_i W_ji^2
    encoder = nn.Sequential(nn.Linear(X, Z), nn.Sigmoid())
    x = torch.randn(50, X)
    h = encoder(x)
    exact = ((h * (1 - h)) ** 2 @ encoder[0].weight.square().sum(-1)).mean()
    draws = torch.stack([squared_jacobian(encoder, x).detach() for _ in range(1000)])
    assert abs(draws.mean() - exact) < 5 * draws.std() / 1000**0.5


def data(num: int = 200) -> Tensor:
    """Points near a plane."""
    plane = torch.linalg.qr(torch.randn(X, Z)).Q
    return torch.randn(num, Z) @ (plane * torch.tensor([2.0, 1.0])).T + 0.1 * torch.randn(num, X)


def train(loss: nn.Module, x: Tensor, epochs: int = 100, batch_size: int = 100) -> pv.History:
    def corrupt(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**batch, "noisy": batch["x"] + torch.randn_like(batch["x"])}

    decay = lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)  # noqa: E731
    batches = Batches(DictDataset(x=x), batch_size, shuffle=True, transform=corrupt)
    return pv.fit(loss, batches, epochs=epochs, lr=2e-2, schedule=decay)


def test_a_linear_autoencoder_finds_the_principal_components() -> None:
    x = data()
    x = x - x.mean(0)
    encoder, decoder = nets(())
    history = train(autoencoder("plain", encoder, decoder), x, epochs=250, batch_size=50)
    best = torch.linalg.svdvals(x)[Z:].square().sum() / len(
        x
    )  # what no linear code of Z numbers can keep
    error = ((x - decoder(encoder(x))) ** 2).sum(-1).mean()
    assert best <= error < 1.05 * best
    assert history["kl"][-1] == 0 and "active_units" not in history.names


@pytest.mark.parametrize("kind", ["plain", "denoising", "sparse", "contractive"])
def test_training_reconstructs(kind: str) -> None:
    x, (encoder, decoder) = data(), nets()
    noisy = x + torch.randn_like(x)
    train(autoencoder(kind, encoder, decoder), x)
    seen = noisy if kind == "denoising" else x
    error = ((x - decoder(encoder(seen))) ** 2).sum(-1).mean()
    if (
        kind == "denoising"
    ):  # six dims of noise 1 come in; the code lets through what lies in the plane
        assert error < 0.5 * ((noisy - x) ** 2).sum(-1).mean()
    else:  # sparse and contractive ones pay for their penalty
        assert error < (0.05 if kind == "plain" else 0.6) * ((x - x.mean(0)) ** 2).sum(-1).mean()


def test_each_penalty_does_what_it_is_for() -> None:
    x, size, slope = data(), {}, {}
    for kind in ("plain", "sparse", "contractive"):
        torch.manual_seed(3)
        encoder, decoder = nets()
        train(autoencoder(kind, encoder, decoder), x)
        size[kind] = encoder(x).abs().mean()
        slope[kind] = torch.func.vmap(torch.func.jacrev(encoder))(x).square().sum((1, 2)).mean()
    assert size["sparse"] < 0.5 * size["plain"] and slope["contractive"] < 0.5 * slope["plain"]


@pytest.mark.parametrize("kind, level", [("noise", 0.5), ("mask", 0.25)])
def test_inputs_are_corrupted_in_training_alone(kind: str, level: float) -> None:
    net = Corrupted(nn.Identity(), kind, level)
    x = 1 + torch.rand(2000, 5)
    seen = net(x)
    if kind == "noise":
        assert abs((seen - x).std() - level) < 0.02 and abs((seen - x).mean()) < 0.03
    else:
        zero = seen == 0
        assert abs(zero.double().mean() - level) < 0.03 and torch.equal(seen[~zero], x[~zero])
    assert torch.equal(net.eval()(x), x)


@pytest.mark.parametrize("kind, level", [("noise", 0.0), ("mask", 1.0), ("blur", 0.5)])
def test_other_corruptions_are_refused(kind: str, level: float) -> None:
    with pytest.raises(ValueError, match="expected 'noise'"):
        Corrupted(nn.Identity(), kind, level)
