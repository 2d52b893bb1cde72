"""Functions of the `Run` that `fit` calls after each epoch, in the order given; those with a
`finish` are also called at the end."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pyrovae.core.progress import progress_bar
from pyrovae.training.checkpoint import load_weights, save_checkpoint, save_weights
from pyrovae.training.run import Run

if TYPE_CHECKING:
    from tqdm import tqdm


@runtime_checkable
class Begins(Protocol):
    """A hook that is also called before the first epoch."""

    def begin(self, run: Run) -> object:
        """Called when all arguments and files have been checked."""


@runtime_checkable
class Finishes(Protocol):
    """A hook that is also called at the end."""

    def finish(self, run: Run) -> object:
        """Called after the last epoch."""


class Checkpoint:
    """Save the whole run to `path` after every `every` epochs and at the end, for
    `fit(resume=path)`."""

    def __init__(self, path: str | Path, *, every: int = 1) -> None:
        self.path, self.every = Path(path), every

    def __call__(self, run: Run) -> None:
        if run.finished or run.epoch % self.every == 0:
            save_checkpoint(run, self.path)


class HistoryFile:
    """Write the history as CSV after every epoch."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __call__(self, run: Run) -> None:
        run.history.to_csv(self.path)


class EarlyStopping:
    """Stop when `monitor` has not risen (a loss: fallen) for `patience` epochs, and end every run
    at its best weights.

    The best weights are kept in the file `path`, and the waiting is read off the history, so a
    resumed run decides as an unbroken one. `start`: epochs that do not count, e.g. those of a KL
    warm-up. Put it before `Checkpoint`, which then also saves the decision.

    Raises: KeyError where the history has no such column (no `valid` data).
    """

    def __init__(
        self, path: str | Path, *, patience: int, monitor: str = "valid_elbo", start: int = 0
    ) -> None:
        if patience < 1:
            raise ValueError(f"patience={patience}, expected at least one epoch.")
        self.path, self.patience, self.monitor, self.start = Path(path), patience, monitor, start

    def __call__(self, run: Run) -> None:
        since_best = self._since_best(run)
        if since_best == 0:
            save_weights(run, self.path)
        run.stop = run.stop or (since_best is not None and since_best >= self.patience)

    def finish(self, run: Run) -> None:
        if self._since_best(run):
            load_weights(run, self.path)

    def _since_best(self, run: Run) -> int | None:
        sign = -1 if self.monitor.endswith("loss") else 1
        values = [
            -math.inf if math.isnan(value) else sign * value
            for value in run.history[self.monitor][self.start :]
        ]
        return (
            len(values) - 1 - max(range(len(values)), key=values.__getitem__) if values else None
        )


class ProgressBar:
    """Show epochs, time left and the latest ELBO on standard error (tqdm); `desc` stands before
    them."""

    def __init__(self, desc: str | None = None) -> None:
        self.desc = desc
        self.bar: tqdm | None = None

    def __call__(self, run: Run) -> None:
        if self.bar is None:
            self.bar = progress_bar(
                total=run.epochs, initial=run.epoch - 1, unit="epoch", desc=self.desc
            )
        row = run.history[-1]
        names = ("elbo", "valid_elbo", "kl", "active_units") if "elbo" in row else ("loss",)
        self.bar.set_postfix(
            {name: f"{row[name]:.4g}" for name in names if name in row}, refresh=False
        )
        self.bar.update()

    def finish(self, run: Run) -> None:
        if self.bar is not None:
            self.bar.close()


class TensorBoard:
    """Write every number of the history to TensorBoard event files in `folder` (needs the
    tensorboard package)."""

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "the TensorBoard hook needs the tensorboard package: pip install tensorboard"
            ) from error
        self.writer = SummaryWriter(str(folder))

    def __call__(self, run: Run) -> None:
        for name, value in run.history[-1].items():
            if name != "epoch":
                self.writer.add_scalar(name, value, run.epoch)
        self.writer.flush()

    def finish(self, run: Run) -> None:
        self.writer.close()
