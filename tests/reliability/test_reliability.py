"""The standing attack at small counts: `python tests/reliability ATTACK --full` is the large one.

Each runs in a process of its own, whose children fork: gradients of other tests may have left
threads in this one, which a fork does not take along.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyrovae

HERE = Path(__file__).parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the attacks fork their children")
@pytest.mark.parametrize("attack", ["kills", "mutations", "inputs", "soak"])
def test_nothing_is_lost_silent_or_hung(attack: str) -> None:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(pyrovae.__file__).parent.parent),
    }
    done = subprocess.run(
        [sys.executable, str(HERE), attack], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
