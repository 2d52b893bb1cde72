"""Log-weights of one block of particles."""

from collections.abc import Callable

import torch
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.capture.auto import AutoCapture, Compile
from pyrovae.core.broadcasting import Particles
from pyrovae.core.errors import PairError
from pyrovae.core.handlers import RecordSupport, ValidateSupport
from pyrovae.core.log_weights import check_matched, log_joint
from pyrovae.core.modules import find_modules
from pyrovae.core.traces import Batch, is_local, plate_frame, sample_sites
from pyrovae.core.types import nodes_of


class Blocks:
    """Log-weights `(num, B)` of the data of a tile, or `(num, 1)` of all data jointly for
    `plate=None`; replayed from a captured graph where that saves time.

    Raises: PairError for data outside the likelihood's support, unmatched sites and programs that
    subsample.
    """

    def __init__(
        self,
        model: Callable,
        guide: Callable,
        chunk: int,
        plate: str | None,
        compile: Compile,
        particles: Particles = Particles(),
    ) -> None:
        self.model, self.guide, self.chunk, self.plate, self.particles = (
            model,
            guide,
            chunk,
            plate,
            particles,
        )
        # `for_batch` makes another guide for each tile, and programs that run one draw
        # at a time
        # would be captured as a graph of all draws
        self.compile = "off" if is_local(guide) or not particles.at_once else compile
        self.replays: dict[int, AutoCapture[dict[str, Tensor]]] = {}

    def __call__(self, guide: Callable, tile: Batch, num: int) -> Tensor:
        """`guide`: the pair's, or the one that its `for_batch` made for this tile."""
        if self.compile == "off":
            with ValidateSupport():
                return self._log_weights(guide, tile, num)
        if num not in self.replays:
            self.replays[num] = AutoCapture(
                lambda tile: self._checked(tile, num),
                find_modules(self.model, self.guide).values(),
                compile=self.compile,
            )
        result = self.replays[num](tile)
        if not result["good"]:
            with ValidateSupport():
                self._log_weights(guide, tile, num)  # raises the error of the data
        return result["log_weights"]

    def _checked(self, tile: Batch, num: int) -> dict[str, Tensor]:
        with RecordSupport() as supported:
            log_weights = self._log_weights(self.guide, tile, num)
        good = (
            torch.stack(supported.good).all()
            if supported.good
            else torch.ones((), dtype=torch.bool)
        )
        return {"log_weights": log_weights, "good": good}

    def _log_weights(self, guide: Callable, tile: Batch, num: int) -> Tensor:
        """Draw all at once; score by the model `chunk` particles at a time."""
        guide_trace = self.particles.run_guide(guide, tile, num)
        _refuse_subsampling("guide", guide_trace, self.plate)
        log_q = log_joint(guide_trace, num, plate=self.plate)
        log_p = []
        for start in range(0, num, self.chunk):
            size = min(self.chunk, num - start)
            draws = _particles_of(guide_trace, start, size) if size < num else guide_trace
            model_trace = self.particles.run_model(self.model, draws, tile, size)
            if self.plate is None:
                _refuse_subsampling("model", model_trace, None)
            check_matched(model_trace, guide_trace)
            log_p.append(log_joint(model_trace, size, plate=self.plate))
        log_weights = torch.cat(log_p).double() - log_q.double()
        return log_weights if self.plate is not None else log_weights.unsqueeze(-1)


def _particles_of(trace: Trace, start: int, size: int) -> Trace:
    part = trace.copy()
    for name, site in sample_sites(trace, observed=False).items():
        nodes_of(part)[name] = {**site, "value": site["value"][start : start + size]}
    return part


def _refuse_subsampling(role: str, trace: Trace, plate: str | None) -> None:
    """Raise PairError for subsampling in the plate, or in any plate for None."""
    for site in {
        **sample_sites(trace, observed=False),
        **sample_sites(trace, observed=True),
    }.values():
        for inside in (
            site["cond_indep_stack"] if plate is None else filter(None, [plate_frame(site, plate)])
        ):
            if inside.full_size not in (None, inside.size):
                remedy = (
                    "minibatches instead"
                    if plate is not None
                    else "all data as one batch, to a plate of their size"
                )
                raise PairError(
                    f"plate {inside.name!r} subsamples {inside.size} of {inside.full_size} data inside the "
                    f"{role}, so the rows of a batch are not those that were scored. Pass {remedy}."
                )
