"""Pyro's HMC and NUTS on a captured and compiled potential."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from pyro.infer import HMC
from torch import Tensor
from torch.distributions import Transform

from pyrovae.capture.auto import AutoCapture, Compile
from pyrovae.core.modules import find_modules
from pyrovae.core.types import Batch

logger = logging.getLogger(__name__)
GIVEN = "given."
"""Begins the names, in a batch, of sites that the kernel does not move."""
Energy = Callable[[Mapping[str, Tensor]], Tensor]


@runtime_checkable
class Wraps(Protocol):
    """A kernel that moves some sites by another kernel, as `Gibbs` does."""

    kernel: Any
    values: dict[str, Tensor]
    """The other sites, which the potential of `kernel` reads."""
    own: dict[str, Transform]
    """To the unconstrained scale, for each site of `values`."""
    discrete: list[str]
    """Those of them that are discrete."""


class CompiledKernels:
    """Gives the kernels of all chains of one model one potential, captured as `AutoCapture` does.

    Draws are those of the eager kernel with the same seed up to rounding. Kernels other than
    Pyro's HMC and NUTS, and those beside discrete sites, run as they are; with compile="on" the log
    says so.

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
        self.shared: _CapturedPotential | None = None
        AutoCapture(_nothing, compile=compile)  # raises for an unknown word

    def prepare(self, kernel: Any) -> Any:  # noqa: ANN401 (Pyro's kernels have no common type)
        """Make `kernel.setup` use the captured potential. Returns the kernel."""
        if self.compile == "off":
            return kernel
        mover, beside = (kernel.kernel, kernel) if isinstance(kernel, Wraps) else (kernel, None)
        if not isinstance(mover, HMC) or mover.model is None:
            self._say(f"{type(mover).__name__}, expected Pyro's HMC or NUTS of a model")
            return kernel
        initialize = mover._initialize_model_properties

        def initialize_and_capture(args: tuple, kwargs: dict[str, Any]) -> None:
            initialize(args, kwargs)
            if beside is not None and beside.discrete:
                self._say(f"sites {beside.discrete} are discrete")
            elif mover.initial_params:
                values, own = (beside.values, beside.own) if beside is not None else ({}, {})
                mover.potential_fn = self._potential(mover, values, own)

        setattr(mover, "_initialize_model_properties", initialize_and_capture)  # noqa: B010 (of one kernel)
        return kernel

    def _potential(
        self, mover: HMC, values: dict[str, Tensor], own: Mapping[str, Transform]
    ) -> Energy:
        """The potential of a kernel: captured for an earlier chain, if it is the same."""
        params = mover.initial_params
        if self.shared is None or not self.shared.agrees(mover.potential_fn, params, values):
            modules = list(find_modules(self.model).values())
            self.shared = _CapturedPotential(
                mover.potential_fn, modules, self.compile, values, own
            )
        shared = self.shared
        return lambda params: shared(params, values)

    def _say(self, reason: str) -> None:
        logger.log(
            logging.WARNING if self.compile == "on" else logging.INFO, "not compiled: %s", reason
        )


class _CapturedPotential:
    """U(params; values) whose gradient in params, by autograd, comes from the same call of one graph.

    energy: U(params), which reads the dict `values`. transforms: of these to the unconstrained scale.
    """

    def __init__(
        self,
        energy: Energy,
        modules: list[torch.nn.Module],
        compile: Compile,
        values: dict[str, Tensor],
        transforms: Mapping[str, Transform],
    ) -> None:
        self.energy, self.values, self.transforms = energy, values, transforms
        self.evaluate = AutoCapture(
            self._evaluate, modules, reads=[energy], compile=compile, probe=self._elsewhere
        )

    def __call__(self, params: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Tensor:
        given = {GIVEN + name: value for name, value in values.items()}
        return _StoredGradient.apply(
            lambda batch: self.evaluate({**batch, **given}), list(params), *params.values()
        )

    def agrees(
        self, energy: Energy, params: Mapping[str, Tensor], values: dict[str, Tensor]
    ) -> bool:
        """Whether this is the energy of another chain too."""
        with torch.no_grad(), self._at(values):
            return torch.allclose(energy(params), self.energy(params), equal_nan=True)

    def _evaluate(self, batch: Batch) -> list[Tensor]:
        params, given = _apart(batch)
        with torch.enable_grad(), self._at(given):
            params = {name: value.detach().requires_grad_() for name, value in params.items()}
            energy = self.energy(params)
            return [energy.detach(), *torch.autograd.grad(energy, list(params.values()))]

    @contextmanager
    def _at(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Let `energy` read these values."""
        before = dict(self.values)
        self.values.update(values)
        try:
            yield
        finally:
            self.values.update(before)

    def _elsewhere(self, batch: Batch) -> Batch:
        params, given = _apart(batch)
        moved = {
            GIVEN + name: self.transforms[name].inv(
                elsewhere({name: self.transforms[name](value)})[name]
            )
            for name, value in given.items()
        }
        return {**elsewhere(params), **moved}


def _apart(batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters, and the values of the sites beside them."""
    params = {name: value for name, value in batch.items() if not name.startswith(GIVEN)}
    given = {name.removeprefix(GIVEN): batch[name] for name in batch.keys() - params.keys()}
    return params, given


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
