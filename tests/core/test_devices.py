"""Programs keep to the device of their data: no mixing, no waiting for it, nothing copied to it in
each step."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch.utils.backend_registration

HERE = Path(__file__).parent.parent
NUMBERS_OF_OTHERS = {  # which torch lets meet tensors of any device
    "objective RenyiELBO",
    "objective RenyiELBO, vectorised",
    "objective wake-sleep",  # Pyro starts sums from a zero
    "objective stacked",
}  # torch's vmap makes tensors of Python numbers

pytestmark = pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no backends in Python",
)


@cache
def problems() -> dict[str, list[str]]:
    """By case, found by a process of its own: a backend once named stays for all."""
    result = subprocess.run(
        [sys.executable, HERE / "far_device.py"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{HERE.parent}"},
    )
    assert not result.returncode, result.stderr
    return json.loads(result.stdout)


def test_nothing_leaves_the_device() -> None:
    found = {name: what for name, what in problems().items() if what and not name.startswith("a ")}
    assert found.keys() <= NUMBERS_OF_OTHERS, found
    assert all(" cpu ()" in line for what in found.values() for line in what), found


def test_what_leaves_it_is_found() -> None:
    assert {
        name: what[0].split(" ")[0] for name, what in problems().items() if name.startswith("a ")
    } == {
        "a constant left behind": "FakeTensorDeviceMismatchError",
        "a number left behind": "aten.mul.Tensor",
        "a look at a value": "DataDependentOutputException",
    }
