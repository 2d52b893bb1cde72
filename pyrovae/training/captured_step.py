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
from pyrovae.training.averages import Measured, measure
from pyrovae.training.finite_check import each_finite
from pyrovae.training.fused_adam import FusedAdam

if TYPE_CHECKING:
    from pyrovae.training.eager_step import MakeError, Steps


class ReplayedStep:
    """One captured step: it returns the loss, its terms and the gradients of `trained_params`."""

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
        ]  # fused updates read memory in its own order
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
        """Replay: return the loss and terms, the gradients, and whether loss and data are valid;
        `fused` updates the parameters if they are, and then sets which gradients are `finite`.

        With `fused` it also says which gradients are `finite`.
        """
        if fused is not self.fused:
            # one function for each `fused`: the CUDA graph cache is keyed by it, and
            # the graph holds its learning rate
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
        """Set which gradients are `finite`; where one is not, neither is the step."""
        self._judge(self.leaves)

    def _judge(self, leaves: list[Tensor]) -> None:
        self.finite = each_finite(self._gradients(leaves))
        leaves[1].logical_and_(self.finite.all())
        if (
            self.eager.clip_norm is not None
        ):  # the norm of a gradient that is not finite makes all clipped gradients non-finite
            self.finite = leaves[2].isfinite()

    def _gradients(self, leaves: list[Tensor]) -> list[Tensor]:
        start = 3 + len(self.sites)
        return leaves[start : start + len(self.trained_params)]

    def set_terms(self) -> None:
        terms = self.replay.unflatten(self.leaves)["terms"]
        if terms:
            set_terms(self.eager.pair, Terms(*terms))

    def refuse(self, batch: Batch, value: Tensor, make_error: "MakeError") -> None:
        """Re-run the program eagerly; raise its own error, or the one for a loss or gradient
        that is not finite. Data outside the support are no error where they are masked.

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
