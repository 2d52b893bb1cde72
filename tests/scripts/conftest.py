"""Finished runs that tests of several files only read, each trained once."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def bnn_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Bayesian neural network of `train_bnn.py`, which is not to be written to."""
    from test_bnn_scripts import QUICK
    from test_scripts import run

    folder = tmp_path_factory.mktemp("runs") / "bnn"
    run("train_bnn.py", *QUICK, "--splits", 1, "--out", folder)
    return folder
