"""Experiment trackers get settings, rows and figures through the interfaces that they document."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

import pyrovae as pv
from pyrovae.heads import BernoulliHead, NormalHead
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal
from pyrovae.training.hooks import Checkpoint
from pyrovae.training.trackers import MlflowTracker, Track, WandbTracker, flat


class Calls:
    """Records every call."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple, dict[str, Any]]] = []
        self.config = SimpleNamespace(update=self.called("update"))

    def called(self, name: str) -> Any:  # noqa: ANN401
        return lambda *args, **kwargs: self.seen.append((name, args, kwargs))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return self.called(name)


def loss() -> pv.ElboLoss:
    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [4], 3)), "z"))
    return pv.ElboLoss(model, pv.Guide(z=pv.Node(NormalHead(MLP(3, [4], 4)), "x")))


@pytest.mark.parametrize(
    "make, names",
    [
        (WandbTracker, ("update", "log", "finish")),
        (MlflowTracker, ("log_params", "log_metrics", "end_run")),
    ],
)
def test_every_epoch_is_sent_once(make: type, names: tuple[str, ...], tmp_path: Path) -> None:
    data = [{"x": torch.ones(4, 3)}]
    calls = Calls()
    hooks = [Track(make(calls), settings={"lr": 1e-3}), Checkpoint(tmp_path / "c")]
    history = pv.fit(loss(), data, epochs=2, hooks=hooks)
    assert [name for name, *_ in calls.seen] == [names[0], names[1], names[1], names[2]]
    assert calls.seen[0][1] == ({"lr": 1e-3},)
    assert calls.seen[2][1] == (dict(history[1]),) and calls.seen[2][2] == {"step": 2}
    again = Calls()
    pv.fit(loss(), data, epochs=3, hooks=[Track(make(again))], resume=tmp_path / "c")
    assert [kwargs for name, _, kwargs in again.seen if name == names[1]] == [{"step": 3}]


def test_figures_are_sent_by_name() -> None:
    wandb, mlflow, figure = Calls(), Calls(), Figure()
    WandbTracker(wandb, image=lambda figure: ("image", figure)).figures({"a": figure}, 5)
    assert wandb.seen == [("log", ({"a": ("image", figure)},), {"step": 5})]
    MlflowTracker(mlflow).figures({"a": figure}, 5)
    assert mlflow.seen == [("log_figure", (figure, "figures/a.png"), {})]


def test_settings_are_flat() -> None:
    @dataclasses.dataclass
    class Part:
        sizes: tuple[int, ...] = (3, 4)
        name: str | None = None

    found = flat({"model": Part(), "lr": 0.1, "on": True})
    assert found == {"model.sizes": "(3, 4)", "model.name": "None", "lr": 0.1, "on": True}
    assert flat(None) == {}
