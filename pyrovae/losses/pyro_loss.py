"""Estimators of Pyro that run the backward pass themselves, as losses."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
import torch.nn as nn
from pyro.infer import ELBO
from pyro.poutine.runtime import effectful
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pyrovae.core.batching import size_of
from pyrovae.core.param_store import local_param_scope
from pyrovae.core.traces import set_up
from pyrovae.losses.base import hold


@runtime_checkable
class HasLossAndGrads(Protocol):
    """An estimator that runs the backward pass itself, as most of Pyro's do."""

    def loss_and_grads(
        self, model: Callable, guide: Callable, *args: object, **kwargs: object
    ) -> object:
        """The loss, or a tuple of losses, as numbers."""


class PyroLoss(nn.Module):
    r"""The objective of `elbo.loss_and_grads`, divided by the number of data in the batch: for
    estimators that `ElboLoss` refuses.

    `RenyiELBO`, `ReweightedWakeSleep`, `TraceTailAdaptive_ELBO` and estimators of your own call
    `backward` and return Python numbers; here their surrogate becomes the gradient of the returned
    scalar, so that `fit` trains, checkpoints and captures them. Value and gradient are Pyro's, in
    nats, divided by B. It has no `terms`.

    The scales are those that the programs set: with sites outside the plate, or several data in
    one importance weight (`RenyiELBO`), the objective is not nats per datum of all data. Prefer
    `ElboLoss` and `IwaeLoss` where they accept the estimator.

    Raises: TypeError for an estimator without `loss_and_grads`.

    Example:
        >>> from pyro.infer import RenyiELBO
        >>> PyroLoss(model, guide, RenyiELBO(num_particles=5))(x=torch.ones(3, 4)).shape
        torch.Size([])
    """

    def __init__(self, model: Callable, guide: Callable, elbo: ELBO) -> None:
        super().__init__()
        if not isinstance(elbo, HasLossAndGrads):
            raise TypeError(
                f"elbo={elbo!r} has no loss_and_grads; pass an estimator such as RenyiELBO(num_particles=5)."
            )
        self.model, self.guide, self.elbo = model, guide, elbo
        self.found = hold(self, model, guide)

    def forward(self, **batch: Tensor) -> Tensor:
        set_up(self.guide, batch)
        with local_param_scope(), torch.enable_grad(), _RecordBackward() as recorded:
            value = self.elbo.loss_and_grads(self.model, self._guide_with_param, **batch)
        value = torch.as_tensor(value[0] if isinstance(value, tuple) else value)
        surrogate = sum(recorded.surrogates, torch.zeros(()))
        surrogate = surrogate if torch.is_grad_enabled() else surrogate.detach()
        return (value.detach() + surrogate - surrogate.detach()) / size_of(batch)

    def _guide_with_param(self, **batch: Tensor) -> object:
        """The guide with a `param` statement, without which estimators skip the backward pass."""
        _param(name="trained by its owner")
        return self.guide(**batch)


_param = effectful(lambda: torch.zeros(()), type="param")


class _RecordBackward(TorchFunctionMode):
    """`backward` records the scalar that it is called on, and `item` returns the tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.surrogates: list[Tensor] = []

    def __torch_function__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func is Tensor.backward:
            self.surrogates.append(args[0])
            return None
        return args[0].detach() if func is Tensor.item else func(*args, **(kwargs or {}))
