"""What the engine takes for data: mappings, tuples, arrays, in one precision."""

import numpy as np
import pyro
import pytest
import torch
from torch import nn

import pyrovae as pv
from pyrovae.bnn.guides import MeanField
from pyrovae.core.batching import batches, exemplar_of
from pyrovae.heads import FixedScaleNormalHead


def pair() -> tuple[pv.Model, MeanField]:
    """In float32, as nets are in practice."""
    net = pv.Bayesian(nn.Linear(3, 1, dtype=torch.float32))
    return pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.3).float(), "x")), MeanField(net)


X, Y = np.random.default_rng(0).normal(size=(6, 3)), np.zeros((6, 1))
SAME = {
    "tensors": {"x": torch.tensor(X, dtype=torch.float32)},
    "arrays": {"x": X},
    "float64": {"x": torch.tensor(X)},
    "named tensor": torch.tensor(X, dtype=torch.float32),
    "named array": X,
    "read-only": np.broadcast_to(X, X.shape),
}


@pytest.mark.parametrize("kind", SAME)
def test_data_of_one_meaning_give_one_result(kind: str) -> None:
    model, guide = pair()
    names = None if isinstance(SAME[kind], dict) else ("x",)

    def results(data: object, names: tuple[str, ...] | None) -> list[torch.Tensor]:
        pyro.set_rng_seed(1)
        moments = pv.predict_moments(model, guide, data, num_samples=4, names=names)
        draws = pv.predict(model, guide, data, num_samples=4, names=names)
        return [moments.mean, moments.epistemic, draws["y"]]

    expected, got = results(SAME["tensors"], None), results(SAME[kind], names)
    assert got[0].shape == (6, 1) and got[2].shape == (4, 6, 1)
    for mine, other in zip(got, expected):
        assert torch.equal(mine, other)


def test_the_siblings_take_arrays_too() -> None:
    model, guide = pair()
    data = {"x": X, "y": Y}
    pv.fit(pv.ElboLoss(model, guide, num_data=6), data, epochs=1)
    pv.fit(pv.ElboLoss(model, guide, num_data=6), [(X, Y)] * 2, names=("x", "y"), epochs=1)
    assert pv.log_predictive(model, guide, data, num_samples=3).shape == (6,)
    assert pv.posterior_draws(model, guide, data, num_samples=3)["log_likelihood"]["y"].shape == (
        3,
        6,
    )


def test_rows_of_a_tensor_are_no_batches() -> None:
    (batch,) = batches(torch.ones(4, 2), ("x",), None)
    assert batch["x"].shape == (4, 2)
    assert [batch["x"].shape for batch in batches([torch.ones(4, 2)] * 2, ("x",), None)] == [
        (4, 2)
    ] * 2


def test_precision_follows_where_that_is_safe() -> None:
    def dtype(value: object, like: object) -> torch.dtype:
        (batch,) = batches({"x": value}, None, like)
        return batch["x"].dtype

    single, double, half = (
        torch.zeros((), dtype=kind) for kind in (torch.float32, torch.float64, torch.bfloat16)
    )
    assert dtype(X, single) == dtype(torch.tensor(X), single) == torch.float32
    assert (
        dtype(X.astype(np.float32), double)
        == dtype(torch.ones(2, dtype=torch.float32), double)
        == torch.float64
    )
    assert dtype(torch.tensor(X), half) == dtype(torch.tensor(X), None) == torch.float64
    assert dtype(X.astype(np.float32), None) == torch.float64  # the default here, see conftest
    assert (
        dtype(np.arange(3), single) == torch.int64
        and dtype(np.array([True]), single) == torch.bool
    )
    both = nn.ModuleList(
        [nn.Linear(1, 1, dtype=torch.float32), nn.Linear(1, 1, dtype=torch.float64)]
    )
    assert dtype(torch.tensor(X), exemplar_of(both)) == torch.float64


@pytest.mark.parametrize(
    "data, names, message",
    [
        (
            torch.ones(4, 3),
            None,
            r"are a Tensor of shape \(4, 3\), expected mappings .* names=\('x',\)\.$",
        ),
        (X, ("x", "y"), r"are a ndarray of shape \(6, 3\), .* one name and not \('x', 'y'\)"),
        (
            {"x": np.array(["a", "b"])},
            None,
            r"batch\['x'\] is an array of dtype <U1, expected numbers",
        ),
    ],
)
def test_the_rest_is_refused_in_a_sentence(
    data: object, names: tuple[str, ...] | None, message: str
) -> None:
    model, guide = pair()
    for run in (pv.predict, pv.predict_moments, pv.log_predictive, pv.posterior_draws):
        with pytest.raises(pv.PairError, match=message):
            run(model, guide, data, num_samples=2, names=names)
