"""Pyro's HMC and NUTS on a captured and compiled potential."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.infer import HMC
from torch import Tensor

from pyrovae.capture.auto import AutoCapture, Compile
from pyrovae.core.modules import find_modules
from pyrovae.core.types import Batch

logger = logging.getLogger(__name__)
Energy = Callable[[Mapping[str, Tensor]], Tensor]


class CompiledKernels:
    """Gives the kernels of all chains of one model one potential, captured as `AutoCapture` does.

    Draws are those of the eager kernel with the same seed up to rounding. Kernels other than
    Pyro's HMC and NUTS run as they are; with compile="on" the log says so.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> from pyro.infer import NUTS
        >>> def model() -> Tensor:
        ...     return pyro.sample("w", dist.Normal(0.0, 1.0))
        >>> kernel = CompiledKernels(model, compile="off").prepare(NUTS(model))
        >>> kernel.setup(10)
    """

    def __init__(self, model: Callable, *, compile: Compile) -> None:
        self.model, self.compile = model, compile
        self.potential: _CapturedPotential | None = None
        AutoCapture(_nothing, compile=compile)  # raises for an unknown word

    def prepare(self, kernel: Any) -> Any:  # noqa: ANN401 (Pyro's kernels have no common type)
        """Make `kernel.setup` use the captured potential. Returns the kernel."""
        if self.compile == "off":
            return kernel
        if not isinstance(kernel, HMC) or kernel.model is None:
            logger.log(
                logging.WARNING if self.compile == "on" else logging.INFO,
                "not compiled: %s, expected Pyro's HMC or NUTS of a model",
                type(kernel).__name__,
            )
            return kernel
        initialize = kernel._initialize_model_properties

        def initialize_and_capture(args: tuple, kwargs: dict[str, Any]) -> None:
            initialize(args, kwargs)
            if not kernel.initial_params:
                return
            if self.potential is None or not self.potential.agrees(
                kernel.potential_fn, kernel.initial_params
            ):
                modules = list(find_modules(self.model).values())
                self.potential = _CapturedPotential(kernel.potential_fn, modules, self.compile)
            kernel.potential_fn = self.potential

        setattr(kernel, "_initialize_model_properties", initialize_and_capture)  # noqa: B010 (of one kernel)
        return kernel


class _CapturedPotential:
    """U(params) whose gradient, by autograd, comes from the same call of one graph."""

    def __init__(self, energy: Energy, modules: list[torch.nn.Module], compile: Compile) -> None:
        self.energy = energy
        self.evaluate = AutoCapture(
            self._evaluate, modules, reads=[energy], compile=compile, probe=elsewhere
        )

    def __call__(self, params: Mapping[str, Tensor]) -> Tensor:
        return _StoredGradient.apply(self.evaluate, list(params), *params.values())

    def agrees(self, energy: Energy, params: Mapping[str, Tensor]) -> bool:
        """Whether this is the energy of another chain too."""
        with torch.no_grad():
            return torch.allclose(energy(params), self.energy(params), equal_nan=True)

    def _evaluate(self, params: Batch) -> list[Tensor]:
        with torch.enable_grad():
            values = {name: value.detach().requires_grad_() for name, value in params.items()}
            energy = self.energy(values)
            return [energy.detach(), *torch.autograd.grad(energy, list(values.values()))]


class _StoredGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,  # noqa: ANN401 (torch's own)
        evaluate: Callable[[Batch], list[Tensor]],
        names: list[str],
        *values: Tensor,
    ) -> Tensor:
        energy, *gradients = evaluate(dict(zip(names, values)))
        context.gradients = gradients
        return energy

    @staticmethod
    def backward(context: Any, push: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return (None, None, *(push * gradient for gradient in context.gradients))


def elsewhere(batch: Batch) -> Batch:
    """Another point, at which a graph is compared with its program: signs change, sizes too."""
    return {name: 0.3 - 0.7 * value for name, value in batch.items()}


def _nothing(batch: Batch) -> list[Tensor]:
    return []
