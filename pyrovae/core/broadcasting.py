"""How K draws of a pair run: all at once where its programs broadcast over particles, else one at
a time."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from pyro.poutine import Trace

from pyrovae.core._broadcast_check import TRIED, find_fault
from pyrovae.core._single_draws import draw_of, run_one, stacked
from pyrovae.core.modules import find_modules
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.provenance import are_noted
from pyrovae.core.traces import for_batch, run_guide, run_model, set_up
from pyrovae.core.types import Batch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Particles:
    """Runs guide and model under K particles and returns traces of values `(K, B, *event)`; a
    program that does not broadcast runs once for each particle."""

    guide_broadcasts: bool = True
    model_broadcasts: bool = True

    @classmethod
    def of(
        cls, model: Callable, guide: Callable, batch: Batch, *, inputs: Batch | None = None
    ) -> "Particles":
        """Test on one batch whether the programs broadcast; the guide is given `inputs` (by
        default the whole batch).

        A program broadcasts if three particles at once have the same log-probabilities, at every
        site, as the same draws one at a time. A warning is logged where it does not (`alpha[g]`
        indexes the dim of the particles; a layer takes only matrices of weights), and where two
        runs of one draw differ, so that the test cannot tell. Random streams, parameters and
        buffers stay as they are.

        Raises: what the programs raise on a single draw; PairError for a plate where the particles
        belong.
        """
        # under a handler that redraws for each datum no two runs agree, and its layers broadcast
        if are_noted():
            return cls()
        inputs = batch if inputs is None else inputs
        guide = for_batch(guide, inputs)
        set_up(guide, inputs)
        with preserve_state(find_modules(model, guide).values()), torch.no_grad():
            faults = [
                find_fault(
                    "guide",
                    lambda: run_guide(guide, inputs, TRIED),
                    lambda draw: run_one(guide, draw, inputs),
                )
            ]
            draws = cls(faults[0] is None).run_guide(guide, inputs, TRIED)
            faults += [
                find_fault(
                    "model",
                    lambda: run_model(model, draws, batch, TRIED),
                    lambda draw: run_one(model, draw, batch),
                    draws,
                )
            ]
        for fault in filter(None, faults):
            logger.warning("draws run one at a time, which is slower: %s", fault)
        return cls(*(fault is None for fault in faults))

    @property
    def at_once(self) -> bool:
        return self.guide_broadcasts and self.model_broadcasts

    def run_guide(self, guide: Callable, batch: Batch, num: int) -> Trace:
        if self.guide_broadcasts:
            return run_guide(guide, batch, num)
        guide = for_batch(guide, batch)
        return stacked([run_guide(guide, batch) for _ in range(num)])

    def run_model(self, model: Callable, draws: Trace, batch: Batch, num: int) -> Trace:
        if self.model_broadcasts:
            return run_model(model, draws, batch, num)
        return stacked([run_one(model, draw_of(draws, index), batch) for index in range(num)])
