"""The standing attacks at small counts: `python tests/reliability ATTACK --full` is the large one.

They run one after another in a process of their own, whose children fork: gradients of other tests
may have left threads in this one, which a fork does not take along.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyrovae

HERE = Path(__file__).parent
ATTACKS = ("kills", "mutations", "inputs", "soak")


@pytest.fixture(scope="module")
def said() -> str:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(pyrovae.__file__).parent.parent),
    }
    done = subprocess.run(
        [sys.executable, str(HERE), *ATTACKS], capture_output=True, text=True, env=environment
    )
    found = done.stdout + done.stderr
    assert done.returncode == int("FAILED" in done.stdout), found
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the attacks fork their children")
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_is_lost_silent_or_hung(attack: str, said: str) -> None:
    assert f"{attack}: passed" in said, said
