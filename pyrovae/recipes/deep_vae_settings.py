"""The settings of train_deep_vae.py."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

import pyrovae as pv
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import FromZero, NotNegative
from pyrovae.recipes.deep_vae import Hierarchy
from pyrovae.recipes.vae_run_settings import RunSettings

SIZES = {
    "small": Hierarchy((1, 1), (16, 16), latents=2),
    "cpu": Hierarchy((0, 3, 3), (32, 64, 64), latents=8),
    "gpu": Hierarchy((0, 8, 8), (128, 256, 256), latents=16, cells=2),
}


@dataclasses.dataclass(frozen=True)
class DeepModelSettings:
    """Data, model and objective."""

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, kmnist, binarized-mnist, or the path of images: .npy, .npz (x,
    optional x_test, x_valid), IDX, a folder."""
    likelihood: Literal["bernoulli", "logistic-mixture", "normal"] = "bernoulli"
    """bernoulli: bits; grey pixels are drawn again in every epoch (the digits are cut at 0.5).
    logistic-mixture: grey or colour levels. normal: numbers from 0 to 1, one learned scale."""
    size: Literal["small", "cpu", "gpu"] = "small"
    """small: 2 levels, for 8x8 digits. cpu: 6 levels at 7x7 and 4x4 of a 28x28 image, some hours on
    two cores. gpu: 16 levels."""
    kl_warmup: FromZero = 5
    """Epochs in which the weight of the KL rises from 0 to 1."""
    free_bits: NotNegative = 0.0
    """Nats per datum of each level that are not penalised."""

    def __post_init__(self) -> None:
        bounds.check(self)


@dataclasses.dataclass(frozen=True)
class DeepSettings:
    """All settings of a deep VAE and its training."""

    GROUPS: ClassVar[dict[str, str]] = {"model": "model", "run": "run"}

    model: DeepModelSettings = DeepModelSettings()
    run: RunSettings = RunSettings()

    @property
    def out(self) -> Path | None:
        return self.run.out

    @property
    def resume(self) -> bool:
        return self.run.resume

    @property
    def seed(self) -> int:
        return self.run.seed

    def beta(self, steps_per_epoch: int) -> float | pv.LinearWarmup:
        steps = self.model.kl_warmup * steps_per_epoch
        return pv.LinearWarmup(steps) if steps else 1.0
