"""Keep the draws of a chain."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from pyrovae.core.errors import CheckpointError
from pyrovae.training.run import Run
from pyrovae.training.tensor_file import read_tensors, write_tensors


class Collect:
    """A hook of `fit` that keeps `read()` after each epoch from `start` on, every `every` epochs,
    or where `when(epoch)`.

    read: a function to tensors by name, e.g. `guide.values` of a `PointEstimate`. folder: where
    each draw is written as a safetensors file too; a run that resumes there goes on with the draws
    of the epochs before its checkpoint.

    Example:
        >>> from pyrovae.training.run import Run
        >>> collect = Collect(lambda: {"w": torch.ones(2)}, when=lambda epoch: epoch > 1)
        >>> collect.keep(1), collect.keep(2), collect.draws()["w"].shape
        (None, None, torch.Size([1, 2]))
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str, Tensor]],
        *,
        start: int = 1,
        every: int = 1,
        when: Callable[[int], bool] | None = None,
        folder: str | Path | None = None,
    ) -> None:
        self.read = read
        self.when = when or (lambda epoch: epoch >= start and (epoch - start) % every == 0)
        self.folder = None if folder is None else Path(folder)
        self.kept: dict[int, dict[str, Tensor]] = {}
        for path in (
            sorted(self.folder.glob("draw-*.safetensors")) if self.folder is not None else ()
        ):
            self.kept[int(path.stem.removeprefix("draw-"))] = _read(path)

    def __call__(self, run: Run) -> None:
        self.keep(run.epoch)

    def keep(self, epoch: int) -> None:
        """Keep the draw of this epoch; draws of later epochs, from a longer run, are removed."""
        for later in [known for known in self.kept if known >= epoch]:
            del self.kept[later]
            if self.folder is not None:
                _file(self.folder, later).unlink(missing_ok=True)
        if not self.when(epoch):
            return
        self.kept[epoch] = {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in self.read().items()
        }
        if self.folder is not None:
            write_tensors(
                _file(self.folder, epoch),
                self.kept[epoch],
                {"names": json.dumps(list(self.kept[epoch]))},
            )

    def draws(self) -> dict[str, Tensor]:
        """`(S, *shape)` by name. Raises ValueError before the first draw."""
        if not self.kept:
            raise ValueError(
                "no draw was kept: no epoch so far was one to keep. Train longer, or lower `start`."
            )
        draws = list(self.kept.values())
        return {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]}


def _read(path: Path) -> dict[str, Tensor]:
    """The draws in the order in which they were written: safetensors sorts names, and `swag`
    needs the order of the net."""
    tensors, metadata, vouched_for = read_tensors(path)
    if not vouched_for or "names" not in metadata:
        raise CheckpointError(
            f"{path} is no draw that this version wrote, or is damaged; begin the run anew."
        )
    return {name: tensors[name] for name in json.loads(metadata["names"])}


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"draw-{epoch:06d}.safetensors"
