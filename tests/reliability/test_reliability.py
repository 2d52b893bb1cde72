"""The standing attack at small counts: `python tests/reliability ATTACK --full` is the large one."""

import os
from pathlib import Path

import bad_inputs
import kills
import mutations
import pytest
import soak

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the attacks fork their children")


@pytest.mark.parametrize("script", kills.COMMANDS)
def test_a_killed_run_ends_as_if_nobody_had_disturbed_it(script: str, tmp_path: Path) -> None:
    report = kills.attack(script, tmp_path, kills=1, seed=0)
    assert report.kills >= 1 and not report.different and not report.failed, report


@pytest.mark.parametrize("writer", mutations.READERS)
def test_a_changed_file_is_refused_or_read_as_it_was(writer: str, tmp_path: Path) -> None:
    report = mutations.attack(writer, tmp_path, mutations=3, seed=0)
    assert report.mutations and not report.silent and not report.tracebacks, report


def test_bad_settings_and_files_are_refused_in_a_line(tmp_path: Path) -> None:
    report = bad_inputs.attack(tmp_path, inputs=40, seed=0)
    assert report.refused > 20 and not report.tracebacks and not report.hangs, report


def test_steps_and_fits_leave_nothing_behind() -> None:
    steps = soak.steps(4000, compile="on", every=1, say=lambda text: None)
    fits = soak.fits(6, every=1, say=lambda text: None)
    for readings in (steps[1:], fits[2:]):
        assert (
            len({reading.open_files for reading in readings})
            == 1
            == len({reading.tensors for reading in readings})
        )
