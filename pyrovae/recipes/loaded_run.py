"""What every run that is loaded from its folder holds."""

import dataclasses
from pathlib import Path

import torch.nn as nn

from pyrovae.data import Batches
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.run_folder import Folder
from pyrovae.recipes.vae_settings import Settings
from pyrovae.training.history import History


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """What `load_run` gives back, in eval mode: a `TrainedVae` or a `TrainedBnn`.

    model, guide: the trained pair; of a Bayesian net with several splits or seeds, the first.
    pairs: all of them, split by split, the seeds of one after another.
    loss: the objective with the trained weights. settings: those of the script, typed.
    history: a row an epoch (None for chains that `fit` did not train). metrics: those of run.json.
    num_samples: the draws of the weights that the scores of a Bayesian net took (None for a VAE).
    """

    path: Path
    settings: Settings | BnnSettings
    model: nn.Module
    guide: nn.Module
    pairs: list[tuple[nn.Module, nn.Module]]
    loss: nn.Module
    history: History | None
    metrics: dict
    run: dict
    num_samples: int | None = None

    @property
    def folder(self) -> Folder:
        return Folder(self.path, self.run["script"])

    def data(self, split: str = "test", *, network: int = 0) -> Batches:
        """Batches of a split ("train", "valid" or "test") as the run saw it: scaled, binarised,
        flattened; of a Bayesian net, those of the given network's own split.

        Raises: Refusal where the data are not those of the run, or have no such split; DataError
        where they cannot be had.
        """
        if split not in ("train", "valid", "test"):
            raise Refusal(f"there is no split {split!r}; expected train, valid or test.")
        found = self._load(split, network)
        if found is None:
            raise Refusal(f"the run in {self.path} held out no {split} data.")
        return found

    def _load(self, split: str, network: int) -> Batches | None:
        raise NotImplementedError
