"""A folder has one owner and one history, and what is damaged or lost in it is named or made anew."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_bnn_scripts import QUICK as BNN
from test_scripts import QUICK, run

from pyrovae.core.process_ids import host, is_running, machine, started
from pyrovae.recipes.folder_lock import NAME, owned
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import (
    find_result,
    read_arrays,
    read_result,
    write_arrays,
    write_result,
)
from pyrovae.recipes.run_folder import SCHEMA
from pyrovae.recipes.tables import write_csv

QUIET = (*QUICK, "--dataset", "mine.npz")
"""Of files that can be changed."""


def mine(folder: Path, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (60, 5)).astype(np.float32)
    np.savez(folder / "mine.npz", x=x)
    np.savez(folder / "targets.npz", x=x, y=rng.normal(size=60))


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    with owned(tmp_path / "run"):
        with (
            pytest.raises(Refusal, match=f"process {os.getpid()} on {host()}"),
            owned(tmp_path / "run"),
        ):
            pass
        assert (tmp_path / "run" / NAME).exists()
    assert not (tmp_path / "run").exists()  # nothing came of it
    with owned(tmp_path / "run"):
        (tmp_path / "run" / "file").write_text("")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]


def test_another_process_is_refused_until_it_dies(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pyrovae.recipes.folder_lock import owned\n"
        "with owned(Path(sys.argv[1])): print('mine', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout.readline() == "mine\n"
        error = run("train_vae.py", *QUICK, "--out", tmp_path, status=2)
        assert (
            f"is being written to by process {process.pid} on {host()}" in error
            and "Traceback" not in error
        )
        for script, more in (
            ("compare_vae.py", ("--grid", "prior=standard")),
            ("compare_bnn.py", ()),
            ("continual.py", ()),
            ("calibrate_posterior.py", ()),
            ("collapse.py", ()),
            ("train_bnn.py", ()),
        ):
            assert f"process {process.pid}" in run(script, *more, "--out", tmp_path, status=2)
        assert [path.name for path in tmp_path.iterdir()] == [NAME]
    finally:
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    while process.poll() is None:
        time.sleep(0.01)
    process.stdout.close()
    with owned(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("change", "free"),
    [
        ({"started": "another boot 1"}, started(os.getpid()) is not None),
        ({"started": None}, False),
        ({"machine": "00000000", "host": "elsewhere", "pid": 999_999_999}, False),
    ],
)
def test_whose_a_lock_is(tmp_path: Path, change: dict, free: bool) -> None:
    """An id used again is another process; one of another machine cannot be asked."""
    lock = {
        "pid": os.getpid(),
        "host": host(),
        "machine": machine(),
        "started": started(os.getpid()),
        **change,
    }
    (tmp_path / NAME).write_text(json.dumps(lock))
    if free:
        with owned(tmp_path):
            pass
        return
    with (
        pytest.raises(Refusal, match=f"process {lock['pid']} on {lock['host']}.*remove .*{NAME}"),
        owned(tmp_path),
    ):
        pass
    assert json.loads((tmp_path / NAME).read_text()) == lock


def test_a_lock_that_its_process_never_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrovae.recipes.folder_lock.PAUSE", 0.0)
    (tmp_path / NAME).write_text("")
    with owned(tmp_path):
        pass
    (tmp_path / NAME).write_text("{")
    with pytest.raises(Refusal, match="an unknown process"), owned(tmp_path):
        pass


def test_processes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    assert (
        is_running(os.getpid())
        and not is_running(int(done.stdout))
        and started(int(done.stdout)) is None
    )


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    mine(tmp_path)
    run("train_vae.py", *QUIET, "--out", "run", cwd=tmp_path)
    return tmp_path / "run"


def test_a_run_has_one_history(finished: Path) -> None:
    again = (*QUIET, "--epochs", 3, "--out", "run", "--resume")
    first = json.loads((finished / "run.json").read_text())
    assert (
        first["script"] == "train_vae.py"
        and first["schema"] == SCHEMA
        and len(first["data"]["sha256"]) == 64
    )
    run("train_vae.py", *again, cwd=finished.parent)
    one, two = json.loads((finished / "run.json").read_text())["sessions"]
    assert (
        one == first["sessions"][0]
        and one["started"] < one["ended"] < two["started"] < two["ended"]
    )
    assert (
        one["outcome"] == two["outcome"] == "finished"
        and one["changed"] == {}
        and two["changed"] == {"epochs": [2, 3]}
    )
    assert two["versions"]["torch"] and two["device"] == "cpu" and not (finished / NAME).exists()


def test_what_is_refused_leaves_the_run_as_it_was(finished: Path) -> None:
    again, cwd = (*QUIET, "--epochs", 3, "--out", "run", "--resume"), finished.parent
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}

    def refused(words: str, script: str = "train_vae.py", ask: tuple = again) -> None:
        kept = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
        error = run(script, *ask, status=2, cwd=cwd)
        assert words in error and error.strip().splitlines()[-1].startswith("error: "), error
        assert {
            path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()
        } == kept

    mine(cwd, seed=1)
    refused("the data are not those the run in run began with")
    refused("the data are not those the run in run began with", "evaluate.py", ("run",))
    mine(cwd)
    for damaged in (before["checkpoint.safetensors"][:2000], before["weights.safetensors"]):
        (finished / "checkpoint.safetensors").write_bytes(damaged)
        refused("checkpoint.safetensors is ")
    (finished / "checkpoint.safetensors").write_bytes(before["checkpoint.safetensors"])
    refused(
        "holds a run of train_vae.py, not of train_bnn.py",
        "train_bnn.py",
        ("--dataset", "targets.npz", *BNN, "--out", "run", "--resume"),
    )
    contents = read_result(finished / "run.json")
    for lost in ("script", "arguments", "data", "sessions", "schema"):
        write_result(
            finished / "run.json",
            {name: value for name, value in contents.items() if name != lost},
        )
        refused("is not a run.json of this version")
        refused("is not a run.json of this version", "evaluate.py", ("run",))
    del contents["arguments"]["run"]["lr"]
    write_result(finished / "run.json", contents)
    refused("lacks the settings lr")
    for text in ("[]", "{", before["run.json"].decode().replace("0.001", "0.002", 1)):
        (finished / "run.json").write_text(text)
        refused("run.json is damaged")
    (finished / "run.json").write_bytes(before["run.json"])
    run("train_vae.py", *again, cwd=cwd)


def test_another_network_is_resumed_on_its_data_alone(tmp_path: Path) -> None:
    mine(tmp_path)
    ask = (
        "train_bnn.py",
        "--dataset",
        "targets.npz",
        "--method",
        "map",
        "--splits",
        2,
        *BNN,
        "--out",
        "run",
    )
    run(*ask, cwd=tmp_path)
    before = (tmp_path / "run" / "run.json").read_bytes()
    mine(tmp_path, seed=1)
    assert "the data are not those" in run(*ask, "--resume", status=2, cwd=tmp_path)
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"")
    mine(tmp_path)
    assert "damaged" in run(*ask, "--resume", status=2, cwd=tmp_path)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_results_are_what_was_written(tmp_path: Path) -> None:
    path, arrays, table = tmp_path / "x.json", tmp_path / "x.npz", tmp_path / "t" / "x.csv"
    assert find_result(path) is None
    with pytest.raises(Refusal, match="there is no file"):
        read_result(path)
    write_arrays(arrays, {"a": np.arange(3.0)})
    write_csv(table, [{"a": 1}, {"b": "2,3"}])
    assert table.read_text() == 'a,b\n1,\n,"2,3"\n'
    content = {
        "mean": 0.1,
        "few": (1, 2),
        "none": None,
        "nan": float("inf"),
        "names": {"b": 1, "a": 2},
    }
    write_result(path, content, files=[arrays, table])
    assert {**read_result(path), "few": (1, 2)} == {
        **content,
        "digests": find_result(path)["digests"],
    }
    whole = path.read_text()
    for text in (whole[:-9], whole.replace("0.1", "0.2"), "[]", "{}", ""):
        path.write_text(text)
        with pytest.raises(Refusal, match=r"x\.json is damaged \(.*\); remove it") as error:
            find_result(path)
        assert "\n" not in str(error.value)
    path.write_text(whole)
    np.testing.assert_array_equal(read_arrays(arrays)["a"], np.arange(3.0))
    for file in (arrays, table):
        kept = file.read_bytes()
        file.write_bytes(kept[:-1])
        with pytest.raises(Refusal, match=f"{file.name} is damaged"):
            find_result(path)
        file.unlink()
        assert find_result(path) is None
        file.write_bytes(kept)
    arrays.write_bytes(b"PK")
    with pytest.raises(Refusal, match="x.npz is damaged"):
        read_arrays(arrays)


def test_a_comparison_of_networks_makes_anew_what_is_lost(tmp_path: Path) -> None:
    ask = ("compare_bnn.py", "--methods", "map,bbb", "--splits", 2, *BNN, "--out", tmp_path)
    run(*ask)
    kept = (tmp_path / "methods" / "bbb.json").read_bytes()
    for lost in ("arviz/map.nc", "methods/map.npz", "methods/map.json"):
        (tmp_path / lost).unlink()
        run(*ask)
        assert (tmp_path / lost).exists() and (
            tmp_path / "methods" / "bbb.json"
        ).read_bytes() == kept
    for damaged in ("methods/map.json", "methods/map.npz", "arviz/map.nc", "settings.json"):
        whole = (tmp_path / damaged).read_bytes()
        (tmp_path / damaged).write_bytes(whole[: len(whole) // 2])
        error = run(*ask, status=2)
        assert f"{damaged} is damaged" in error and error.strip().splitlines()[-1].startswith(
            "error: "
        )
        (tmp_path / damaged).write_bytes(whole)


def test_a_grid_makes_anew_what_is_lost(tmp_path: Path) -> None:
    ask = (
        "compare_vae.py",
        "--grid",
        "prior=standard",
        *QUICK,
        "--score-particles",
        20,
        "--score-data",
        30,
        "--out",
        tmp_path,
    )
    run(*ask)
    folder, table = tmp_path / "prior=standard", (tmp_path / "table.csv").read_text()
    for lost in ("evidence.npz", "evidence.json"):
        (folder / lost).unlink()
        run(*ask)
        assert (folder / lost).exists() and (tmp_path / "table.csv").read_text() == table
    for damaged in ("evidence.npz", "evidence.json", "run.json"):
        whole = (folder / damaged).read_bytes()
        (folder / damaged).write_bytes(whole[: len(whole) // 2])
        assert f"{damaged} is damaged" in run(*ask, status=2)
        (folder / damaged).write_bytes(whole)


def test_a_grid_goes_on_with_the_data_it_began_with(tmp_path: Path) -> None:
    ask = ("compare_vae.py", "--dataset", tmp_path / "x.npy", *QUICK, "--score-particles", 5)
    bits = np.random.default_rng(0).integers(0, 2, (60, 12)).astype(np.uint8)
    np.save(tmp_path / "x.npy", bits)
    run(*ask, "--out", tmp_path / "out", "--grid", "prior=standard")
    np.save(tmp_path / "x.npy", 1 - bits)
    message = run(*ask, "--out", tmp_path / "out", "--grid", "prior=standard,flow", status=2)
    assert "the data are not those the run" in message


def test_continual_results_are_checked(tmp_path: Path) -> None:
    ask = ("continual.py", "--tasks", 1, "--methods", "plain", "--epochs", 1, "--out", tmp_path)
    run(*ask)
    (tmp_path / "continual.json").write_text((tmp_path / "continual.json").read_text()[:-100])
    assert "continual.json is damaged" in run(*ask, status=2)


def test_a_lock_that_is_a_link_to_nowhere_or_no_text(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to(tmp_path / "nowhere")
    assert "dangling link" in run("train_vae.py", *QUICK, "--out", tmp_path, status=2)
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").write_bytes(b"\xff\xfe\x00")
    assert "is being written to" in run("train_vae.py", *QUICK, "--out", tmp_path, status=2)


def test_a_run_does_not_shrink(tmp_path: Path) -> None:
    run("train_vae.py", *QUICK, "--out", tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    command = ("train_vae.py", *QUICK, "--epochs", 1, "--resume", "--out", tmp_path / "run")
    assert "has trained 2 epochs" in run(*command, status=2)
    assert (tmp_path / "run" / "run.json").read_bytes() == before
