"""Which settings a resumed run may change, and which it may lack."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from pyrovae.recipes.nesting import defaults_of, flatten
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.setting_rules import without_effect

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAY_CHANGE = {
    "epochs",
    "out",
    "resume",
    "device",
    "threads",
    "compile",
    "eval_particles",
    "eval_data",
    "tensorboard",
    "track",
    "bands",
    "predictor",
}
"""Settings that a resumed run may change."""
ADDED = {
    "laplace_scale",
    "corrupt",
    "corrupt_level",
    "contractive",
    "track",
    "leave_out",
    "target",
    "task",
    "predictor",
    "laplace_rank",
    "prior_groups",
    "nuts_depth",
    "net",
    "random_walk_steps",
    "chains",
}
"""Settings that came after the first runs of schema 3 (to which every new setting belongs whose
default is what a run without it did): a resumed run that lacks them has their defaults."""
EARLIER = {"prior_fit": "none"}
"""What runs that lack a setting did, where that is not its default."""


def refuse_to_resume(content: dict, settings: "DataclassInstance", path: Path) -> None:
    """Raise Refusal if a run can not be resumed under these settings.

    content: of its run.json at `path`.
    """
    new, old = flatten(as_json(settings)), flatten(content["arguments"])
    usual = _plain(defaults_of(type(settings)) | EARLIER)
    old |= {name: usual[name] for name in (new.keys() - old.keys()) & (ADDED | EARLIER.keys())}
    if lacking := sorted(new.keys() - old.keys()):
        raise Refusal(
            f"{path} lacks the settings {', '.join(lacking)}, so it is of an earlier version; start a new run."
        )
    epochs = find_epochs(content, new)
    if epochs is not None:
        raise Refusal(
            f"the run in {path.parent} has trained {epochs} epochs; --epochs counts all of them, "
            f"so give at least as many, not {new['epochs']}."
        )
    changed = [
        f"--{name.replace('_', '-')} was {old[name]}, is {new[name]}"
        for name in new
        if name not in MAY_CHANGE | without_effect(settings) and old[name] != new[name]
    ]
    if changed:
        raise Refusal("a resumed run keeps its settings, but " + "; ".join(changed) + ".")


def find_epochs(old: dict, new: dict) -> int | None:
    """The epochs a run has trained, if they exceed those requested now; else None."""
    done = old.get("epochs_done")
    return done if isinstance(done, int) and new.get("epochs", done) < done else None


def as_json(settings: "DataclassInstance") -> dict:
    """A settings dataclass as plain JSON values."""
    return _plain(dataclasses.asdict(settings))


def _plain(values: dict) -> dict:
    return json.loads(json.dumps(values, default=str))
