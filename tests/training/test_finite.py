"""A gradient that is not finite stops a run before the step, whoever takes it."""

import functools
from types import SimpleNamespace

import pyro
import pytest
import torch
from test_capture import deferred
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.losses import Lagging, PyroLoss
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal
from pyrovae.training.finite_check import are_finite, each_finite

X = torch.ones(6, 4, dtype=torch.float64)
GOOD, BAD = {"x": X}, {"x": torch.zeros_like(X)}


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrovae.capture.graph.compile_graph", lambda graph, inputs: graph)


class Root(nn.Module):
    """A finite loss whose slope at x = 0 is infinite, times zero: NaN in the gradient of `root`
    alone."""

    def __init__(self) -> None:
        super().__init__()
        self.root, self.other = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return (self.root * x).sum().square().sqrt() + self.other.square().sum()


class Late:
    """From the second epoch on, the second batch is a bad one."""

    def __init__(self) -> None:
        self.epoch = -1  # `fit` looks at the first batch before

    def __iter__(self) -> object:
        self.epoch += 1
        yield from [GOOD, BAD if self.epoch > 1 else GOOD, GOOD]


def stops(
    loss: nn.Module,
    words: str = "the gradient of root is not finite",
    data: object = None,
    **options: object,
) -> None:
    """And leaves finite parameters; those of the first epoch and one step where nothing is
    deferred."""
    with pytest.raises(
        pv.NonFiniteLossError,
        match=f"{words}.* in epoch 2, batch 1, though the loss is .*The step was not",
    ):
        pv.fit(loss, Late() if data is None else data, epochs=3, **options)
    assert all(parameter.isfinite().all() for parameter in loss.parameters())


OPTIMIZERS = [
    None,
    lambda ps: torch.optim.SGD(ps, lr=1e-2, momentum=0.9),
    lambda ps: torch.optim.AdamW(ps, foreach=True),
    lambda ps: pyro.optim.ClippedAdam({"lr": 1e-2}),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS[:3])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("compile", ["off", "on"])
def test_a_gradient_that_is_not_finite_stops_the_run(
    uncompiled: None, compile: str, clip_norm: float | None, optimizer: object
) -> None:
    stops(Root(), compile=compile, clip_norm=clip_norm, optimizer=optimizer, lr=1e-2)


def test_an_optimiser_of_pyro() -> None:
    stops(Root(), optimizer=pyro.optim.ClippedAdam({"lr": 1e-2}))


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_nobody_waits_for_the_device(
    monkeypatch: pytest.MonkeyPatch, uncompiled: None, clip_norm: float | None
) -> None:
    deferred(monkeypatch)
    monkeypatch.setattr(
        "pyrovae.training.eager_step.are_finite",
        lambda gradients: pytest.fail("waits") if late.epoch > 1 else are_finite(gradients),
    )
    late = Late()
    stops(Root(), data=late, compile="on", clip_norm=clip_norm)


def test_the_step_is_not_taken(uncompiled: None) -> None:
    for compile in ("off", "on"):
        loss = Root()
        stops(loss, compile=compile)
        other = Root()
        pv.fit(other, [GOOD], epochs=4, compile=compile)
        assert all(torch.equal(a, b) for a, b in zip(loss.parameters(), other.parameters()))


def vae(root: bool = True) -> tuple[pv.Model, pv.Guide]:
    """Whose encoder takes a root of the data."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.net = nn.Parameter(torch.ones(4)), MLP(4, [8], 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.net((self.scale * x).square().sum(-1, keepdim=True).sqrt() + x)

    return (
        pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z")),
        pv.Guide(z=pv.Node(NormalHead(Encoder()), "x")),
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Lagging(pv.ElboLoss(*vae()), guide_steps=2),
        lambda: PyroLoss(*vae(), pyro.infer.RenyiELBO(num_particles=2)),
        lambda: pv.IwaeLoss(*vae(), num_particles=2, gradient="dreg"),
        lambda: pv.ElboLoss(*vae()),
    ],
)
@pytest.mark.parametrize("compile", ["off", "on"])
@pytest.mark.filterwarnings("ignore::pyrovae.CollapseWarning")
def test_losses_of_every_kind(uncompiled: None, make: object, compile: str) -> None:
    stops(make(), r"the gradient of .*scale\b.*is not finite", compile=compile)


@pytest.mark.parametrize("compile", ["off", "on"])
def test_losses_side_by_side(uncompiled: None, compile: str) -> None:
    class Late2(Late):
        def __iter__(self) -> object:
            return ({"x": torch.stack([GOOD["x"], batch["x"]])} for batch in super().__iter__())

    stops(
        pv.Stacked([pv.ElboLoss(*vae()) for _ in range(2)]),
        r"the gradient of stacked\..* is not finite",
        data=Late2(),
        compile=compile,
    )


def test_a_fabric_that_scales_gradients_judges_them_itself() -> None:
    """As a gradient scaler does: what overflows is a step to skip, with a smaller scale in the
    next."""
    skipped = []

    class Skips(torch.optim.SGD):
        def step(self, closure: None = None) -> None:
            skipped.append(
                not all(
                    p.grad.isfinite().all() for group in self.param_groups for p in group["params"]
                )
            )
            if not skipped[-1]:
                super().step()

    plain = SimpleNamespace(
        setup=lambda module, optimizer: (module, optimizer), backward=Tensor.backward
    )
    stops(Root(), fabric=plain)
    scales = SimpleNamespace(**vars(plain), _precision=SimpleNamespace(scaler=object()))
    pv.fit(Root(), Late(), epochs=2, fabric=scales, optimizer=functools.partial(Skips, lr=1e-3))
    assert skipped == [False] * 4 + [True, False]


def test_large_gradients_are_no_infinite_ones() -> None:
    """Their squares are beyond float32."""

    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(3, dtype=torch.float32))

        def forward(self, x: Tensor) -> Tensor:
            return (1e30 * self.w).sum() + 0 * x.sum()

    assert len(pv.fit(Large(), [{"x": X.float()}], epochs=2)) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("bad", [None, torch.nan, torch.inf, -torch.inf])
def test_every_kind_of_number(dtype: torch.dtype, bad: float | None) -> None:
    tensors = [
        torch.randn(3, 4).to(dtype).t(),
        torch.empty(0),
        torch.randn(5, dtype=torch.float64),
        torch.tensor(1e30),
    ]
    if bad is not None:
        tensors[0][1, 2] = bad
    before = [tensor.clone() for tensor in tensors]
    assert bool(are_finite(tensors)) == (bad is None) and each_finite(tensors).tolist() == [
        bad is None,
        True,
        True,
        True,
    ]
    assert all(
        torch.equal(a.nan_to_num(), b.nan_to_num()) if not a.is_complex() else a.shape == b.shape
        for a, b in zip(tensors, before)
    )
    assert are_finite([])


def test_a_sparse_gradient() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(5, 2, sparse=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.words(x).square().sum(-1).sqrt().mean()

    words, batch = Words(), {"x": torch.arange(3)}
    pv.fit(words, [batch], epochs=1, optimizer=lambda ps: torch.optim.SGD(ps, lr=1e-3))
    with torch.no_grad():
        words.words.weight[1] = 0.0
    with pytest.raises(pv.NonFiniteLossError, match="gradient of words.weight"):
        pv.fit(words, [batch], epochs=1, optimizer=lambda ps: torch.optim.SGD(ps, lr=1e-3))
