"""What settings may be: one declaration for help, checks and errors of every script."""

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Annotated, Literal

import command_line
import pytest
import torch
from script_context import script_context
from test_scripts import run

from pyrovae.recipes import bounds, nesting
from pyrovae.recipes.bounds import Count, Positive, Range, Seed, Share, Threads, Widths
from pyrovae.recipes.machine import choose_device
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.setting_rules import Naming, NotWith, OnlyWith, Several, refuse_unused


@dataclasses.dataclass(frozen=True)
class Example:
    kind: Literal["plain", "fancy"] = "plain"
    steps: Count = 5
    rate: Positive = 0.1
    share: Share = 0.0
    widths: Widths = (4,)
    pair: tuple[Positive, Annotated[float, Range(0, 3)]] = (1.0, 2.0)
    limit: Count | None = None
    seed: Seed = 0
    threads: Threads = 1
    name: str = "digits"
    """What to read."""
    out: Path | None = None
    colour: Annotated[float, OnlyWith(kind="fancy")] = 0.5
    """Of the hat."""
    depth: Annotated[Count, OnlyWith(widths=Several())] = 1
    draws: Annotated[Count, OnlyWith(names=Naming("vcl"), flag=True)] = 1
    names: str = "plain,vcl"
    flag: bool = False
    decay: Annotated[float, NotWith("does nothing", limit=(None,))] = 1.0

    def __post_init__(self) -> None:
        bounds.check(self)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "other"}, "--kind other: expected one of plain, fancy."),
        ({"steps": 0}, "--steps 0: expected at least 1."),
        ({"steps": 2.5}, "--steps 2.5: expected a whole number"),
        ({"steps": True}, "--steps True: expected a whole number"),
        ({"steps": 10**20}, "expected a whole number of at most 4294967295"),
        ({"rate": 0.0}, "expected a positive number"),
        ({"rate": float("nan")}, "--rate nan: expected a positive number"),
        ({"rate": float("inf")}, "expected a positive number"),
        ({"rate": "fast"}, "--rate fast: expected a positive number"),
        ({"share": 1.0}, "expected at least 0 and below 1"),
        ({"widths": (3, 0)}, "--widths 0: expected at least 1"),
        ({"widths": ()}, "expected at least one number"),
        ({"widths": 3}, "--widths 3: expected several values"),
        ({"pair": (1.0, 4.0)}, "--pair 4.0: expected from 0 to 3"),
        ({"pair": (1.0,)}, "--pair 1.0: expected 2 values"),
        ({"limit": 0}, "--limit 0: expected at least 1"),
        ({"seed": 2**32}, "--seed 4294967296: expected"),
        ({"seed": -1}, "expected from 0 to 4294967295"),
        ({"name": ""}, "--name '': expected a name"),
        ({"name": "a\0b"}, "expected a name"),
        ({"flag": 1}, "expected true or false"),
        ({"colour": float("inf")}, "--colour inf: expected a finite number"),
    ],
)
def test_values_outside_their_bounds_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(Refusal) as seen:
        Example(**changes)
    assert message in str(seen.value) and "\n" not in str(seen.value)


def test_values_within_their_bounds_pass() -> None:
    Example("fancy", 1, 1e-9, 0.999, (1,), (1, 3), 7, 2**32 - 1, 10**6, "x", Path("y"), -1, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 0.7}, "--colour 0.7 has no effect with --kind plain; it is for --kind fancy."),
        (
            {"depth": 2},
            "--depth 2 has no effect with --widths 4; it is for --widths with several numbers.",
        ),
        (
            {"draws": 2, "names": "plain"},
            "no effect with --names plain and no --flag; it is for --names vcl or --flag",
        ),
        ({"decay": 0.5}, "--decay 0.5 with no --limit does nothing."),
        ({"threads": 10**6}, "--threads 1000000: expected at most"),
    ],
)
def test_what_would_change_nothing_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(Refusal) as seen:
        refuse_unused(Example(**changes))
    assert message in str(seen.value)


def test_what_counts_or_is_the_default_passes() -> None:
    for changes in (
        {},
        {"colour": 0.5},
        {"kind": "fancy", "colour": 0.7},
        {"widths": (4, 4), "depth": 2},
        {"draws": 2, "names": "plain", "flag": True},
        {"decay": 0.5, "limit": 3},
    ):
        refuse_unused(Example(**changes))


def test_a_grid_may_set_for_all_what_one_run_uses() -> None:
    class Grid(Example):
        def variants(self) -> list[dict]:
            return [{"kind": "plain"}, {"kind": self.name}]

    refuse_unused(Grid(name="fancy", colour=0.7))
    with pytest.raises(Refusal, match="colour 0.7 has no effect"):
        refuse_unused(Grid(name="plain", colour=0.7))


def test_help_shows_what_is_checked(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        command_line.parse(Example, "An example.", ["--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in (
        "What to read.",
        "a positive number",
        "at least 0 and below 1",
        "from 0 to 4294967295",
        "from 0 to 3",
        "fancy: Of the hat.",
        f"at most {os.cpu_count()}, the cores of this machine",
    ):
        assert words in text, words


def test_the_command_line_checks() -> None:
    assert (
        command_line.parse(
            Example, "", ["--widths", "3", "4", "--depth", "2", "--limit", "4"]
        ).limit
        == 4
    )
    for words, message in (
        (["--steps", "0"], "--steps 0"),
        (["--colour", "2"], "has no effect"),
        (["--name", ""], "after --name"),
        (["--name="], "after --name= is empty"),
    ):
        with pytest.raises(Refusal, match=message):
            command_line.parse(Example, "", words)


@dataclasses.dataclass(frozen=True)
class Around:
    example: Example = dataclasses.field(default_factory=lambda: Example(steps=7))


def test_the_command_line_has_the_defaults_of_the_outer_settings() -> None:
    assert command_line.parse(Around, "", []).example.steps == 7
    assert command_line.parse(Around, "", ["--steps", "2"]).example == Example(steps=2)


def test_settings_come_back_from_json() -> None:
    mine = Example(kind="fancy", widths=(3, 2), out=Path("somewhere"), limit=3)
    stored = json.loads(json.dumps(dataclasses.asdict(mine), default=str))
    assert nesting.from_json(Example, {**stored, "of an older version": 1}) == mine
    for damage, message in (
        ({**stored, "steps": "many"}, "--steps many"),
        ({**stored, "widths": None}, "--widths None"),
        ([], "expected a JSON object"),
        (None, "expected a JSON object"),
    ):
        with pytest.raises(Refusal, match=message):
            nesting.from_json(Example, damage)


REFUSED = {
    "train_vae.py": [
        ("--clip-norm 0", "--clip-norm 0.0: expected a positive number"),
        ("--seed -1", "from 0 to 4294967295"),
        ("--alpha 0.3", "it is for --objective renyi"),
        ("--capacity 3", "it is for --objective capacity"),
        ("--gamma 3", "it is for --objective capacity"),
        ("--objective iwae", "--particles 1 is the ELBO"),
        ("--objective dreg", "is the ELBO without the score of q"),
        ("--prior-components 9", "it is for --prior mixture, vamp"),
        ("--guide-transforms 3", "it is for --guide iaf"),
        ("--scale 0.2", "it is for --likelihood normal"),
        ("--lr-decay 0.5", "--lr-decay-epochs 0"),
        ("--lr-decay-epochs 5 --lr-decay 2", "above 0 and at most 1"),
        ("--upper-hidden 9", "with several numbers"),
        ("--threads 99999", "cores of this machine"),
        ("--dataset binarized-mnist --valid-size 9", "brings its own validation data"),
        ("--beta inf", "at least 0"),
        ("--epochs 99999999999999999999", "whole number of at most"),
        ("--guide-hidden 0", "at least 1"),
    ],
    "train_bnn.py": [
        ("--temperature -1", "--temperature -1.0: expected at least 0"),
        ("--members 3", "it is for --method ensemble"),
        ("--rate 2", "above 0 and below 1"),
        ("--steps 0", "at least 1"),
        ("--hidden 0", "at least 1"),
        (
            "--draws 7",
            "it is for --method stacking, swag, sgld, sghmc, hmc, nuts, gibbs, random-walk",
        ),
        ("--method sgld --lr 3", "samplers take --sampler-lr"),
        ("--method bbb-mixture --prior-scale 3", "a prior of its own"),
        ("--mixture 0.5 1 0 --method bbb-mixture", "--mixture 0.0: expected from 1e-10 to"),
        ("--prior-scale 1e300", "from 1e-10 to 10000000000.0"),
        ("--seeds 100000000", "from 1 to 10000"),
        ("--valid-fraction 1", "at least 0 and below 1"),
        ("--splits 0", "from 1 to 10000"),
        ("--lr nan", "a positive number"),
        ("--seeds 0", "from 1 to 10000"),
        ("--num-samples 0", "at least 1"),
        ("--batch-size 0", "at least 1"),
    ],
    "compare_bnn.py": [
        ("--methods map,bbb --members 3", "it is for --methods ensemble"),
        ("--methods map,", "--methods names"),
        ("--lr 0", "a positive number"),
        ("--seed 4294967296", "4294967295"),
    ],
    "compare_vae.py": [
        ("--grid alpha=0.1,0.2", "it is for --objective renyi"),
        ("--grid epochs=0", "--epochs 0: expected at least 1"),
        ("--grid lr=nan", "a positive number"),
        ("--grid objective=elbo,iwae", "--particles 1 is the ELBO"),
        ("--grid prior=standard,vamp --score-particles 0", "at least 1"),
        ("--grid prior=vamp --gap-data 5", "it is for --gaps"),
        ("--grid threads=99999", "cores of this machine"),
        ("--grid dataset=", "--dataset '': expected a name"),
    ],
    "continual.py": [
        ("--tasks 0", "from 1 to 1000"),
        ("--coreset 5 --methods vcl", "it is for --methods vcl-coreset"),
        ("--sort-by 2", "it is for --problem regression-stream"),
        ("--hidden", "at least one number"),
        ("--problem split-digits --tasks 7", "ten classes make 5 tasks"),
        ("--dataset yacht", "regression-stream"),
    ],
    "evaluate.py": [
        ("DIR --num-chains 3", "it is for --method ais or --table"),
        ("DIR --defensive 1", "at least 0 and below 1"),
        ("DIR --gap-steps 3", "it is for --gaps"),
        ("DIR --method ais --chunk 3", "it is for --method is, psis"),
        ("DIR --max-data 0", "at least 1"),
        ("DIR --refine -1", "at least 0"),
    ],
    "calibrate_posterior.py": [
        ("--methods exact,mcmc", "mcmc"),
        ("--simulations 10", "at least 40"),
        ("--compare-loop 600", "at most --simulations 500"),
        ("--correlation 1", "below 1"),
    ],
    "collapse.py": [
        ("--epochs 0", "at least 1"),
        ("--lr -1", "a positive number"),
        ("--threads 0", "at least 1"),
    ],
    "gradient_variance.py": [
        ("--epochs", "at least one number"),
        ("--epochs -1", "at least 0"),
        ("--lr 0", "positive"),
    ],
    "reproduce.py": [
        ("iwae --scale 0", "a positive number"),
        ("iwae --eval-data 0", "at least 1"),
        ("vamp --scale inf", "a positive number"),
    ],
    "benchmark.py": [
        ("--rounds 0", "at least 1"),
        ("--threads 0", "at least 1"),
        ("--seconds -1", "positive"),
    ],
}


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [(script, words, message) for script, asked in REFUSED.items() for words, message in asked],
)
def test_every_script_refuses_before_any_work(
    script: str, words: str, message: str, tmp_path: Path
) -> None:
    error = run(script, *words.split(), status=2, cwd=tmp_path)
    assert message in error and error.startswith("error: ") and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_grid_shares_settings_that_some_of_its_runs_use(tmp_path: Path) -> None:
    """Here only a set that is not there ends it."""
    asked = (
        "--grid",
        "objective=elbo,iwae",
        "particles=1,5",
        "+",
        "prior=mixture",
        "--prior-components",
        7,
    )
    assert "neither a data set nor a file" in run(
        "compare_vae.py", *asked, "--dataset", "nowhere", "--out", tmp_path, status=2
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/x/run.json"),
            "runs/x/run.json: No space left on device. Completed files",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "runs"),
            "runs: Permission denied. Completed files are kept",
        ),
        (OSError("odd"), "error: odd. Completed files"),
        (MemoryError(), "too little memory (MemoryError)"),
        (
            RuntimeError(
                "[enforce fail]\n DefaultCPUAllocator: can't allocate memory: you tried 4 bytes"
            ),
            "too little memory",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "too little memory (CUDA out of memory). Completed files are kept",
        ),
    ],
)
def test_what_the_machine_lacks_is_one_line(
    error: Exception, words: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop, script_context():
        raise error
    text = capsys.readouterr().err
    assert stop.value.code == 2 and words in text and len(text.splitlines()) == 1


def test_bugs_keep_their_traceback() -> None:
    for error in (RuntimeError("shapes"), ValueError("x"), KeyError("y")):
        with pytest.raises(type(error)), script_context():
            raise error


@pytest.mark.parametrize(
    "script",
    [
        "train_vae.py --epochs 1",
        "train_bnn.py --steps 9",
        "compare_bnn.py --steps 9",
        "compare_vae.py --grid epochs=1",
        "continual.py",
        "calibrate_posterior.py",
        "collapse.py",
        "gradient_variance.py",
        "reproduce.py iwae --dataset digits --scale 1e-6",
        "benchmark.py import --rounds 1",
    ],
)
def test_a_file_where_a_folder_should_be(script: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        assert f"error: --out {out}: expected a folder that can be written" in run(
            *script.split(), "--out", out, status=2
        )
    assert (tmp_path / "file").read_text() == "mine"


def test_a_device_without_numbers_is_refused() -> None:
    with pytest.raises(Refusal, match="--device meta is not available here"):
        choose_device("meta")
