"""What every run that is loaded from its folder holds."""

import dataclasses
from pathlib import Path

import torch.nn as nn

from pyrovae.data import Batches
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.deep_vae_settings import DeepSettings
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.run_folder import Folder
from pyrovae.recipes.vae_settings import Settings
from pyrovae.training.history import History


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """The result of `load_run`, with all modules in eval mode: a `TrainedVae`, a
    `TrainedDeepVae` or a `TrainedBnn`.

    model, guide: the trained pair; for a Bayesian net with several splits or seeds, the first one.
    pairs: all pairs, ordered by split, then by seed.
    loss: the objective with the trained weights. settings: the settings of the script.
    history: one row per epoch (None for HMC). metrics: as in run.json.
    num_samples: weight samples used for the scores of a Bayesian net (None for a VAE).
    """

    path: Path
    settings: Settings | DeepSettings | BnnSettings
    model: nn.Module
    guide: nn.Module
    pairs: list[tuple[nn.Module, nn.Module]]
    loss: nn.Module
    history: History | None
    metrics: dict
    run: dict
    num_samples: int | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, metrics={self.metrics})"

    @property
    def folder(self) -> Folder:
        return Folder(self.path, self.run["script"])

    def data(self, split: str = "test", *, network: int = 0) -> Batches:
        """Batches of a split ("train", "valid" or "test") as the run used it: scaled, binarised,
        flattened; for a Bayesian net, of the split of the given network.

        Raises: Refusal if the data differ from those of the run or lack that split; DataError if
        they cannot be loaded.
        """
        if split not in ("train", "valid", "test"):
            raise Refusal(f"there is no split {split!r}; expected train, valid or test.")
        found = self._load(split, network)
        if found is None:
            raise Refusal(f"the run in {self.path} held out no {split} data.")
        return found

    def evaluate(self) -> dict:
        """The metrics of run.json computed again, on the same test data and by the same seed: on the
        same kind of machine bit for bit those of `metrics`. No random stream moves.

        Left out is the baseline of conditional VAEs, another net that would be trained.
        Raises: as `data`.
        """
        raise NotImplementedError

    def _load(self, split: str, network: int) -> Batches | None:
        raise NotImplementedError
