"""Many independent trainings of one kind at once, e.g. of all splits of a data set."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyro
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.core.check import ANY_NUMBER, num_data_of
from pyrovae.core.independent_noise import independent_noise
from pyrovae.losses.base import set_terms, terms_of, unwrap
from pyrovae.losses.elbo_terms import Terms


class Stacked(nn.Module):
    r"""R losses of one structure as one loss: their tensors stacked, `(R, ...)`, evaluated by
    `torch.vmap`.

    `fit` then trains R small models in the time of one. Members share nothing, and Adam treats
    every number separately, so each is trained as it would be alone (except with `clip_norm`,
    which takes one norm of all). `member(r)` returns loss r with its present tensors.

    A batch holds `(R, B, *event)`, one batch for each member, or with `shared=True` `(B, *event)`
    for all. The value is the mean over members, nats per datum; the gradient is that of their sum.

    Raises: ValueError for an empty sequence and for batches of another leading size. Losses with
    score-function terms, enumeration or TorchScript do not vmap.

    Example:
        >>> from pyrovae import Bayesian, ElboLoss, Model, Node
        >>> from pyrovae.heads import FixedScaleNormalHead
        >>> from pyrovae.bnn.guides import MeanField
        >>> def make() -> ElboLoss:
        ...     net = Bayesian(nn.Linear(3, 1))
        ...     return ElboLoss(Model(y=Node(FixedScaleNormalHead(net, scale=0.1), "x")), MeanField(net), num_data=20)
        >>> Stacked([make() for _ in range(4)])(x=torch.zeros(4, 5, 3), y=torch.zeros(4, 5, 1)).shape
        torch.Size([])
    """

    def __init__(self, losses: Sequence[nn.Module], *, shared: bool = False) -> None:
        super().__init__()
        if not losses:
            raise ValueError("there is nothing to stack: the sequence of losses is empty.")
        self.count, self.shared = len(losses), shared
        for index, loss in enumerate(losses):
            _check_alike(losses[0], loss, index)
        parameters, buffers = torch.func.stack_module_state(list(losses))
        self.names = list(parameters)
        self.stacked = nn.ParameterList(
            nn.Parameter(value.detach(), value.requires_grad) for value in parameters.values()
        )
        self.buffer_names = list(buffers)
        for index, buffer in enumerate(buffers.values()):
            self.register_buffer(f"stacked_buffer_{index}", buffer)
        self.template = (copy.deepcopy(losses[0]),)  # in a tuple, so that it is no submodule
        self.terms: Terms | None = None

    def forward(self, **batch: Tensor) -> Tensor:
        losses = self.losses(batch)
        total = losses.sum()
        return total + (losses.mean() - total).detach()

    def losses(
        self, batch: dict[str, Tensor], tensors: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The loss of each member, `(R,)`. tensors: stacked ones, by `names`, in place of its own."""
        template = self.template[0].train(self.training)
        set_terms(template, None)
        self._check_rows(batch)

        def one(tensors: dict[str, Tensor], batch: dict[str, Tensor]) -> tuple:
            with independent_noise():
                loss = torch.func.functional_call(template, tensors, (), batch)
            terms = terms_of(template)
            return (loss, terms.log_px, terms.kl) if terms is not None else (loss, {}, {})

        with pyro.validation_enabled(False):  # validation reads values
            losses, log_px, kl = torch.vmap(
                one, in_dims=(0, None if self.shared else 0), randomness="different"
            )({**self._tensors(), **(tensors or {})}, batch)
        set_terms(template, None)
        if log_px:
            self.terms = Terms(
                {name: value.detach().mean() for name, value in log_px.items()},
                {name: value.detach().mean() for name, value in kl.items()},
                {},
            )
        return losses

    def values(self, read: Callable[[nn.Module], dict[str, Tensor]]) -> dict[str, Tensor]:
        """`read(loss)` of each member, e.g. `lambda loss: loss.guide.values()`, stacked `(R,
        ...)`."""

        def one(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            with self._with(tensors) as loss:
                return read(loss)

        return torch.vmap(one)(self._tensors())

    def run(
        self,
        program: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]],
        batch: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """`program(loss, batch)` of each member on its own data, stacked `(R, ...)`, with noise of
        its own, e.g. draws of its guide."""
        self.template[0].train(self.training)
        self._check_rows(batch)

        def one(tensors: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
            with self._with(tensors) as loss, independent_noise():
                return program(loss, batch)

        with pyro.validation_enabled(False):
            return torch.vmap(
                one, in_dims=(0, None if self.shared else 0), randomness="different"
            )(self._tensors(), batch)

    @contextmanager
    def as_member(self, index: int) -> Iterator[nn.Module]:
        """Loss `index`, without a copy, as long as the context lasts."""
        with self._with({name: value[index] for name, value in self._tensors().items()}) as loss:
            yield loss

    def member(self, index: int) -> nn.Module:
        """A copy of loss `index` on its own."""
        loss = copy.deepcopy(self.template[0])
        state = self._tensors()
        with torch.no_grad():
            for name, tensor in [*loss.named_parameters(), *loss.named_buffers()]:
                if name in state:
                    tensor.copy_(state[name][index])
        return loss

    @torch.no_grad()
    def put(self, index: int, loss: nn.Module) -> None:
        """Copy the tensors of a loss, `member(index)` with some of them changed, to that member."""
        state = self._tensors()
        for name, tensor in [*loss.named_parameters(), *loss.named_buffers()]:
            if name in state:
                state[name][index].copy_(tensor)

    @property
    def num_data(self) -> int | None:
        known = num_data_of(unwrap(self.template[0]))
        return None if known == ANY_NUMBER else known

    def rows(self, batch: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
        """The part of a batch that member `index` is trained on."""
        return {name: value if self.shared else value[index] for name, value in batch.items()}

    def size_of(self, batch: Mapping[str, Tensor]) -> int:
        """B, the number of data of each member."""
        return next(iter(batch.values())).shape[0 if self.shared else 1]

    def _check_rows(self, batch: Mapping[str, Tensor]) -> None:
        wrong = {
            name: tuple(value.shape)
            for name, value in batch.items()
            if not self.shared and len(value) != self.count
        }
        if wrong:
            raise ValueError(
                f"batches of shapes {wrong} for {self.count} stacked losses, expected ({self.count}, B, *event). "
                "Pass shared=True if all members see the same data."
            )

    @contextmanager
    def _with(self, tensors: dict[str, Tensor]) -> Iterator[nn.Module]:
        loss = self.template[0]
        with torch.nn.utils.stateless._reparametrize_module(loss, tensors):
            yield loss

    def _tensors(self) -> dict[str, Tensor]:
        buffers = {
            name: self.get_buffer(f"stacked_buffer_{index}")
            for index, name in enumerate(self.buffer_names)
        }
        return {**dict(zip(self.names, self.stacked)), **buffers}


def _check_alike(first: nn.Module, other: nn.Module, index: int) -> None:
    """Raise ValueError where Python numbers differ: all members use those of the first loss."""
    for (name, part), (_, twin) in zip(first.named_modules(), other.named_modules()):
        mine, theirs = (
            {
                key: value
                for key, value in vars(module).items()
                if isinstance(value, (bool, int, float, str))
            }
            for module in (part, twin)
        )
        wrong = sorted(
            key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)
        )
        if wrong:
            key = wrong[0]
            raise ValueError(
                f"stacked losses 0 and {index} differ in {f'{name}.{key}'.lstrip('.')}: {mine.get(key)} and "
                f"{theirs.get(key)}, but only tensors may. Stack losses of one structure."
            )
