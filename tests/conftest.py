"""Every test starts alike: one thread, float64, seed 0, Pyro's validation on, an empty parameter
store."""

import functools
import gc
import inspect
import os
from collections.abc import Iterator

import pyro
import pytest
import torch

torch.set_num_threads(1)
# for speed: tyro reads the source of the settings anew for every command line, and no test pulls
# the plug of the disk
inspect.getsource = functools.cache(inspect.getsource)
os.fsync = lambda handle: None


def pytest_collection_finish() -> None:
    """What is imported by now stays, so the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 100)


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    pyro.clear_param_store()
    pyro.enable_validation(True)
    torch.set_default_dtype(torch.float64)
    pyro.set_rng_seed(0)
    yield
    torch.set_default_dtype(torch.float32)
    left = list(pyro.get_param_store().keys())
    pyro.clear_param_store()
    if "uses_param_store" not in request.fixturenames:
        assert not left, f"the engine left {left} in Pyro's global store"


@pytest.fixture
def uses_param_store() -> None:
    """For tests of Pyro's own SVI, and of programs that call pyro.param."""


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Steps are captured but not compiled, which is quick and exact; a fallback fails the test."""
    monkeypatch.setattr("pyrovae.capture.graph.compile_graph", lambda graph, inputs: graph)
    monkeypatch.setattr("pyrovae.capture.graph.use_fastest_route", lambda graph: None)
    yield
    from test_capture import warnings_of  # once the tests are on the path

    assert not warnings_of(caplog)
