"""A trained Bayesian neural network, to predict with."""

import dataclasses

from pyrovae.data import Batches, DictDataset
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_task import load_task
from pyrovae.recipes.loaded_run import LoadedRun


@dataclasses.dataclass(frozen=True)
class TrainedBnn(LoadedRun):
    """A run of `train_bnn.py`."""

    settings: BnnSettings

    def _load(self, split: str, network: int) -> Batches | None:
        task = load_task(self.settings)
        self.folder.refuse_other_data(task.digest())
        part = {"train": task.train, "valid": task.valid, "test": task.test}[split]
        row = task.split_of(network, self.settings.run.seeds)
        if part is None:
            return None
        return Batches(
            DictDataset(**{name: value[row] for name, value in part.tensors.items()}), 1000
        )
