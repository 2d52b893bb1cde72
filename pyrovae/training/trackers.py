"""Hooks that send the history of a run to an experiment tracker: Weights & Biases, MLflow, or one's
own."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pyrovae.training.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Tracker(Protocol):
    """What the `Track` hook asks of a tracker."""

    def settings(self, values: Mapping[str, object]) -> object:
        """Record the settings of the run, once."""

    def metrics(self, values: Mapping[str, float], step: int) -> object:
        """Record one row of the history."""

    def figures(self, figures: Mapping[str, "Figure"], step: int) -> object:
        """Record figures by name."""

    def finish(self) -> object:
        """End the run."""


class Track:
    """A hook of `fit` that sends settings and every row of the history to a `Tracker`.

    settings: numbers, texts, lists, and mappings or dataclasses of them; nested names are joined by
    dots. Rows that a resumed run already has are not sent again. end: whether to end the tracker's
    run after the last epoch; leave it open to send figures.

    Example:
        >>> import torch
        >>> class Printed:
        ...     def settings(self, values): print(values)
        ...     def metrics(self, values, step): print(step, sorted(values))
        ...     def figures(self, figures, step): ...
        ...     def finish(self): print("done")
        >>> from pyrovae import ElboLoss, fit
        >>> hook = Track(Printed(), settings={"model": {"latent_dim": 2}})
        >>> _ = fit(ElboLoss(model, guide), {"x": torch.ones(3, 4)}, epochs=1, hooks=[hook])
        {'model.latent_dim': 2}
        1 ['active_units', 'beta', 'elbo', 'epoch', 'kl', 'loss', 'lr', 'reconstruction', 'seconds']
        done
    """

    def __init__(self, tracker: Tracker, *, settings: object = None, end: bool = True) -> None:
        self.tracker, self.settings, self.end = tracker, flat(settings), end

    def begin(self, run: Run) -> None:
        if self.settings:
            self.tracker.settings(self.settings)

    def __call__(self, run: Run) -> None:
        self.tracker.metrics(run.history[-1], run.epoch)

    def finish(self, run: Run) -> None:
        if self.end:
            self.tracker.finish()


class WandbTracker:
    """Weights & Biases, from what `wandb.init(...)` returns, or any object with `log(values,
    step=)`, `config.update(values)` and `finish()`.

    `image` makes of a figure what `log` takes; by default `wandb.Image`.
    """

    def __init__(self, run: Any, *, image: Any = None) -> None:  # noqa: ANN401  # wandb is no dependency
        self.run, self.image = run, image

    def settings(self, values: Mapping[str, object]) -> None:
        self.run.config.update(dict(values))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def figures(self, figures: Mapping[str, "Figure"], step: int) -> None:
        image = self.image
        if image is None:
            import wandb

            image = wandb.Image
        self.run.log({name: image(figure) for name, figure in figures.items()}, step=step)

    def finish(self) -> None:
        self.run.finish()


class MlflowTracker:
    """MLflow, from the module `mlflow` with an active run, or any object with `log_params`,
    `log_metrics(values, step=)`, `log_figure(figure, path)` and `end_run()`."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401  # mlflow is no dependency
        self.client = client

    def settings(self, values: Mapping[str, object]) -> None:
        self.client.log_params(dict(values))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.client.log_metrics(dict(values), step=step)

    def figures(self, figures: Mapping[str, "Figure"], step: int) -> None:
        for name, figure in figures.items():
            self.client.log_figure(figure, f"figures/{name}.png")

    def finish(self) -> None:
        self.client.end_run()


def flat(settings: object, prefix: str = "") -> dict[str, object]:
    """Nested settings with joined names; what is neither number nor text becomes text."""
    if settings is None and not prefix:
        return {}
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        settings = {
            field.name: vars(settings)[field.name] for field in dataclasses.fields(settings)
        }
    if isinstance(settings, Mapping):
        found: dict[str, object] = {}
        for name, value in settings.items():
            found |= flat(value, f"{prefix}{name}.")
        return found
    name = prefix.removesuffix(".")
    return {name: settings if isinstance(settings, (bool, int, float, str)) else str(settings)}
