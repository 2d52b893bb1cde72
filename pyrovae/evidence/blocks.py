"""Log-weights of a block of particles that is drawn and scored together."""
from collections.abc import Callable

import torch
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.errors import PairError
from pyrovae.handlers import InSupport, Supported
from pyrovae.reach import modules_of
from pyrovae.replays import Compile, Replays
from pyrovae.traces import Batch, check_matched, frame, log_joint, run_guide, run_model, sample_sites


class Blocks:
    """`(num, B)` log-weights of the data of a tile, replayed where it pays.

    Raises: PairError for data outside the likelihood's support, unmatched sites and guides that subsample.
    """

    def __init__(self, model: Callable, guide: Callable, chunk: int, plate: str, compile: Compile) -> None:
        self.model, self.guide, self.chunk, self.plate = model, guide, chunk, plate
        self.compile = "off" if hasattr(guide, "for_batch") else compile  # which makes another guide for each tile
        self.replays: dict[int, Replays] = {}

    def __call__(self, guide: Callable, tile: Batch, num: int) -> Tensor:
        """`guide` is the pair's, or what it became for this tile."""
        if self.compile == "off":
            with InSupport():
                return self._log_weights(guide, tile, num)
        if num not in self.replays:
            self.replays[num] = Replays(lambda tile: self._checked(tile, num), modules_of(self.model, self.guide).values(),
                                        compile=self.compile)
        result = self.replays[num](tile)
        if not result["good"]:
            with InSupport():
                self._log_weights(guide, tile, num)  # says what is wrong with the data
        return result["log_weights"]

    def _checked(self, tile: Batch, num: int) -> dict[str, Tensor]:
        with Supported() as supported:
            log_weights = self._log_weights(self.guide, tile, num)
        good = torch.stack(supported.good).all() if supported.good else torch.ones((), dtype=torch.bool)
        return {"log_weights": log_weights, "good": good}

    def _log_weights(self, guide: Callable, tile: Batch, num: int) -> Tensor:
        """Drawn at once, scored by the model `chunk` particles at a time."""
        guide_trace = run_guide(guide, tile, num)
        _refuse_subsampling(guide_trace, self.plate)
        log_q = log_joint(guide_trace, num, plate=self.plate)
        log_p = []
        for start in range(0, num, self.chunk):
            size = min(self.chunk, num - start)
            draws = _particles_of(guide_trace, start, size) if size < num else guide_trace
            model_trace = run_model(self.model, draws, tile, size)
            check_matched(model_trace, guide_trace)
            log_p.append(log_joint(model_trace, size, plate=self.plate))
        return torch.cat(log_p).double() - log_q.double()


def _particles_of(trace: Trace, start: int, size: int) -> Trace:
    part = trace.copy()
    for name, site in sample_sites(trace, observed=False).items():
        part.nodes[name] = {**site, "value": site["value"][start:start + size]}
    return part


def _refuse_subsampling(guide_trace: Trace, plate: str) -> None:
    for site in sample_sites(guide_trace, observed=False).values():
        inside = frame(site, plate)
        if inside is not None and inside.full_size not in (None, inside.size):
            raise PairError(f"plate {plate!r} subsamples {inside.size} of {inside.full_size} data inside the guide, so the "
                            "rows of a batch are not those that were scored. Pass minibatches instead.")
