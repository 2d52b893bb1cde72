"""The settings of train_vae.py."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from pyrovae.recipes import nesting
from pyrovae.recipes.vae_combinations import refuse_combinations
from pyrovae.recipes.vae_data_settings import DataSettings
from pyrovae.recipes.vae_model_settings import ModelSettings
from pyrovae.recipes.vae_objective_settings import ObjectiveSettings
from pyrovae.recipes.vae_run_settings import RunSettings


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a VAE and its training. Names are unique across the parts, so that flags,
    grids and `nesting.build` use them without a prefix.

    Example:
        >>> s = nesting.build(Settings, {"latent_dim": (8,), "epochs": 3})
        >>> s.model.latent_dim, s.run.epochs, s.data.dataset
        ((8,), 3, 'digits')
    """

    GROUPS: ClassVar[dict[str, str]] = {
        "data": "data",
        "model": "model",
        "objective": "objective",
        "run": "run",
    }

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    run: RunSettings = RunSettings()

    def __post_init__(self) -> None:
        refuse_combinations(self.data, self.model, self.objective)

    @property
    def out(self) -> Path | None:
        return self.run.out

    @property
    def resume(self) -> bool:
        return self.run.resume

    @property
    def seed(self) -> int:
        return self.run.seed

    @classmethod
    def from_json(cls, arguments: object) -> "Settings":
        """Settings from run.json, nested or (schema 2) flat; latent_dim may be a single number."""
        values = nesting.flatten(arguments)
        if isinstance(size := values.get("latent_dim"), int):
            values["latent_dim"] = [size]
        return nesting.from_json(cls, values)
