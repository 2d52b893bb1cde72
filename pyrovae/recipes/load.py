"""Load a finished run from its folder."""

import json
from pathlib import Path

import torch

from pyrovae.recipes import nesting
from pyrovae.recipes.bnn_methods import METHODS
from pyrovae.recipes.bnn_rebuild import rebuild, sizes_of
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.deep_vae_run import likelihood_of, make_pair
from pyrovae.recipes.deep_vae_run import make_loss as deep_loss
from pyrovae.recipes.deep_vae_settings import DeepSettings
from pyrovae.recipes.loaded_run import LoadedRun
from pyrovae.recipes.machine import choose_device
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.resumed_settings import EARLIER
from pyrovae.recipes.run_folder import Folder
from pyrovae.recipes.tables import read_csv
from pyrovae.recipes.trained_bnn import TrainedBnn
from pyrovae.recipes.trained_deep_vae import TrainedDeepVae
from pyrovae.recipes.trained_vae import TrainedVae
from pyrovae.recipes.vae import make_loss, proposal_of
from pyrovae.recipes.vae_pair import build
from pyrovae.recipes.vae_settings import Settings
from pyrovae.training.checkpoint import load_weights
from pyrovae.training.history import History


def load_run(path: str | Path, *, device: str | torch.device = "cpu") -> LoadedRun:
    """Load the model, guide, loss, settings, history and metrics of a finished run of
    `train_vae.py`, `train_deep_vae.py` or `train_bnn.py`, on any device; data are loaded only by `.data(split)`.

    Raises: Refusal (a ValueError) for a folder without a finished run, or of an unknown version;
    CheckpointError for weights that are damaged or of another structure.

    Example:
        >>> load_run("runs/nothing-here")
        Traceback (most recent call last):
            ...
        pyrovae.recipes.refusal.Refusal: runs/nothing-here is not a folder; expected the folder of a run.
    """
    path = Path(path)
    if not path.is_dir():
        raise Refusal(f"{path} is not a folder; expected the folder of a run.")
    script = script_of(path)
    if script not in _LOADERS:
        raise Refusal(f"{path} holds a run of {script}; expected one of {' or '.join(_LOADERS)}.")
    folder = Folder(path, script)
    run = folder.read()
    if "metrics" not in run or not folder.weights.exists():
        raise Refusal(f"the run in {path} has not finished; continue it with --resume.")
    loaded = _LOADERS[script](folder, run, choose_device(str(device)))
    loaded.loss.eval()
    for pair in loaded.pairs:
        for program in pair:
            program.eval()
    return loaded


def script_of(path: Path) -> str:
    """The script that wrote run.json; `Folder.read` validates the rest.

    Raises: Refusal for a folder without a run."""
    try:
        return str(json.loads((path / "run.json").read_text())["script"])
    except FileNotFoundError as error:
        raise Refusal(f"{path} holds no run.json, so it is not the folder of a run.") from error
    except KeyError as error:
        raise Refusal(
            f"{path / 'run.json'} is not a run.json of this version (it names no script)."
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise Refusal(f"{path / 'run.json'} is damaged or of another version.") from error


def _load_vae(folder: Folder, run: dict, device: torch.device) -> LoadedRun:
    settings, data = Settings.from_json(run["arguments"]), run["data"]
    model, guide = build(settings, tuple(data["x_shape"]), data["levels"], data["num_conditions"])
    loss = make_loss(model, guide, settings, steps_per_epoch=data["steps_per_epoch"])
    load_weights(loss, folder.weights)
    loss.to(device)
    pair = model, proposal_of(loss)
    history = _history(folder)
    return TrainedVae(folder.path, settings, *pair, [pair], loss, history, run["metrics"], run)


def _load_deep(folder: Folder, run: dict, device: torch.device) -> LoadedRun:
    settings, data = nesting.from_json(DeepSettings, run["arguments"]), run["data"]
    likelihood = likelihood_of(settings, data["levels"])
    model, guide = make_pair(settings, data["event_shape"], likelihood)
    loss = deep_loss(model, guide, settings, data["steps_per_epoch"])
    load_weights(loss, folder.weights)
    loss.to(device)
    pair = model, guide
    history = _history(folder)
    return TrainedDeepVae(folder.path, settings, *pair, [pair], loss, history, run["metrics"], run)


def _load_bnn(folder: Folder, run: dict, device: torch.device) -> LoadedRun:
    arguments, data = run["arguments"], run["data"]
    settings = nesting.from_json(BnnSettings, EARLIER | nesting.flatten(arguments["settings"]))
    method, count = METHODS[arguments["method"]], run["num_samples"]
    task = sizes_of(data, rows=data["num_train"], splits=data["num_splits"])
    loss, pairs = rebuild(method, settings, task, folder.weights, folder.posterior, device)
    history = _history(folder)
    return TrainedBnn(
        folder.path, settings, *pairs[0], pairs, loss, history, run["metrics"], run, count
    )


def _history(folder: Folder) -> History | None:
    if not folder.history.exists():
        return None
    rows = read_csv(folder.history)
    return History([{name: float(text) for name, text in row.items() if text} for row in rows])


_LOADERS = {
    "train_vae.py": _load_vae,
    "train_bnn.py": _load_bnn,
    "train_deep_vae.py": _load_deep,
}
