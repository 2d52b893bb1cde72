"""One training step as a replayed graph."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyrovae.capture.cuda_graph import Epilogue
from pyrovae.capture.graph import Captured
from pyrovae.core.errors import CaptureError
from pyrovae.core.handlers import RecordSupport, ValidateSupport
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.types import Batch
from pyrovae.losses.base import set_terms, terms_of
from pyrovae.losses.elbo_terms import Terms
from pyrovae.training.evaluate import Measured, measure
from pyrovae.training.finite import each_finite
from pyrovae.training.fused_adam import FusedAdam

if TYPE_CHECKING:
    from pyrovae.training.eager_step import MakeError, Steps


class ReplayedStep:
    """What is measured of a step, and the gradients of `trained_params`, from a replayed graph."""

    def __init__(self, eager: "Steps", batch: Batch, compiled: bool) -> None:
        self.eager = eager
        self.trained_params: list[Tensor] = []
        self.fused: FusedAdam | None = None
        self.update: Epilogue | None = None
        self.finite = torch.ones(0)
        self.replay = Captured(
            self._program,
            batch,
            modules=[eager.run.loss],
            reads=[eager.context],
            compiled=compiled,
        )

    def _program(self, batch: Batch) -> dict[str, Any]:
        eager = self.eager
        parameters = [
            parameter
            for group in eager.optimizer.param_groups
            for parameter in group["params"]
            if parameter.requires_grad
        ]
        if any(parameter._post_accumulate_grad_hooks for parameter in parameters):
            raise CaptureError(
                "a parameter has hooks after the accumulation of its gradient, which a replay does not do."
            )
        with torch.enable_grad():
            with RecordSupport() as supported, eager.context():
                value = eager.module(**batch)
            found = torch.autograd.grad(value, parameters, allow_unused=True)
        by_index = {
            index: gradient for index, gradient in enumerate(found) if gradient is not None
        }
        if eager.reduce is not None and len(by_index) < len(parameters):
            raise CaptureError(
                "it moves only some of the parameters, and other processes may move others."
            )
        trained_params = [parameters[index] for index in by_index]
        if list(map(id, trained_params)) != list(map(id, self.trained_params)):
            self.trained_params = trained_params
        gradients = [
            gradient
            if gradient.stride() == parameter.stride()
            else torch.empty_like(parameter).copy_(gradient)
            for parameter, gradient in zip(self.trained_params, by_index.values())
        ]  # fused updates go by memory
        norms = torch.ones(0, device=value.device)
        if eager.clip_norm is not None:
            norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
            norm = torch.linalg.vector_norm(norms)
            gradients = [
                gradient * (eager.clip_norm / (norm + 1e-6)).clamp(max=1.0)
                for gradient in gradients
            ]
        measured, terms = (
            measure(value, eager.pair, active_units=eager.active_units),
            terms_of(eager.pair),
        )
        self.names, self.sites = measured.names, list(measured.units)
        is_finite = torch.stack([torch.isfinite(value.detach()), *supported.good]).all()
        return {
            "numbers": measured.numbers,
            "fine": is_finite,
            "norms": norms,
            "units": list(measured.units.values()),
            "gradients": gradients,
            "terms": () if terms is None else (terms.log_px, terms.kl, terms.means),
        }

    def __call__(
        self, batch: Batch, fused: FusedAdam | None
    ) -> tuple[Measured, list[Tensor], Tensor]:
        """What was measured, gradients, and whether loss and data are as they should be; updated
        by `fused` if so.

        With `fused` it also says which gradients are `finite`.
        """
        if fused is not self.fused:
            # a function of its own for each: CUDA graphs, which hold its learning rate, are kept by it
            self.fused = fused
            self.update = None if fused is None else lambda leaves: self._update(leaves)
        with torch.no_grad():
            self.leaves = numbers, is_finite, _, *rest = self.replay.leaves(batch, self.update)
        self.gradients = self._gradients(self.leaves)
        return (
            Measured(self.names, numbers, dict(zip(self.sites, rest))),
            self.gradients,
            is_finite,
        )

    def _update(self, leaves: list[Tensor]) -> None:
        self._judge(leaves)
        if self.fused is not None:
            self.fused(self._gradients(leaves), skip=(~leaves[1]).float())

    def judge(self) -> None:
        """Note which gradients are `finite`, and take a step with others for one that is not fine."""
        self._judge(self.leaves)

    def _judge(self, leaves: list[Tensor]) -> None:
        self.finite = each_finite(self._gradients(leaves))
        leaves[1].logical_and_(self.finite.all())
        if self.eager.clip_norm is not None:  # one that is not finite has spoiled the others
            self.finite = leaves[2].isfinite()

    def _gradients(self, leaves: list[Tensor]) -> list[Tensor]:
        start = 3 + len(self.sites)
        return leaves[start : start + len(self.trained_params)]

    def set_terms(self) -> None:
        terms = self.replay.unflatten(self.leaves)["terms"]
        if terms:
            set_terms(self.eager.pair, Terms(*terms))

    def refuse(self, batch: Batch, value: Tensor, make_error: "MakeError") -> None:
        """Raise what the program itself raises, or for a loss or gradients that are not finite.

        Data outside the support may not matter, e.g. where they are masked.
        """
        with (
            preserve_state([self.eager.run.loss]),
            ValidateSupport(),
            self.eager.context(),
            torch.no_grad(),
        ):
            self.eager.module(**batch)
        if not torch.isfinite(value):
            self.set_terms()
            raise make_error(value, None, [])
        self.judge()
        if names := self.eager.not_finite(self.trained_params, self.finite):
            raise make_error(value, None, names)
