"""Exact draws of some sites of stacked chains, given the others."""

from collections.abc import Callable, Mapping
from typing import cast

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.bnn.guides.point_estimate import PointEstimate
from pyrovae.bnn.samplers.gibbs import Draw, check_draw
from pyrovae.core.param_store import local_param_scope
from pyrovae.losses.base import guide_of, programs_of, unwrap
from pyrovae.losses.elbo import ElboLoss
from pyrovae.losses.stacked import Stacked


class StackedGibbs:
    """Draw sites of each member from p(site | all other sites, its data), and put them in its
    parameters.

    draws: how to draw each site. Raises: ValueError for a name that is no latent site, for a draw
    that is no conditional of this model or has another shape than its site, and for a loss whose KL
    is weighted.
    """

    def __init__(
        self, loss: Stacked, batch: Mapping[str, Tensor], draws: Mapping[str, Draw]
    ) -> None:
        self.loss, self.batch, self.draws = loss, dict(batch), dict(draws)
        if not draws:
            self.held: dict[str, str] = {}
            return
        guide = cast(PointEstimate, guide_of(loss.template[0]))
        sites = {site.name: index for index, site in enumerate(guide.sites)}
        if missing := sorted(draws.keys() - sites.keys()):
            raise ValueError(
                f"{missing} are to be drawn, expected some of the sites {sorted(sites)}."
            )
        _refuse_weighted(unwrap(loss.template[0]))
        names = {id(value): name for name, value in loss.template[0].named_parameters()}
        self.held = {names[id(guide.loc[sites[name]])]: name for name in draws}
        """The parameter of each site, which a chain is not to move."""
        with local_param_scope(), pyro.validation_enabled(False):
            for name, draw in draws.items():
                check_draw(name, draw, lambda values: self._trace(0, values), self._values(0))

    @torch.no_grad()
    def __call__(self) -> bool:
        """Draw; whether there was anything to draw."""
        for name, site in self.held.items():
            parameter = dict(zip(self.loss.names, self.loss.stacked))[name]
            for index in range(self.loss.count):
                values = self._values(index)
                drawn = self.draws[site](self._trace(index, values))
                if drawn.shape != values[site].shape:
                    raise ValueError(
                        f"the draw of {site!r} has shape {tuple(drawn.shape)}, expected that of the site, "
                        f"{tuple(values[site].shape)}."
                    )
                parameter[index].copy_(self._unconstrained(site, drawn))
        return bool(self.held)

    def _values(self, index: int) -> dict[str, Tensor]:
        with self.loss.as_member(index) as loss:
            return cast(PointEstimate, guide_of(loss)).values()

    def _trace(self, index: int, values: Mapping[str, Tensor]) -> Trace:
        with self.loss.as_member(index) as loss:
            model = poutine.condition(_model(loss), data=dict(values))
            return poutine.trace(model).get_trace(**self.loss.rows(self.batch, index))

    def _unconstrained(self, name: str, value: Tensor) -> Tensor:
        guide = cast(PointEstimate, guide_of(self.loss.template[0]))
        site = next(site for site in guide.sites if site.name == name)
        return cast(Tensor, site.transform.inv(value))


def _refuse_weighted(loss: torch.nn.Module) -> None:
    if isinstance(loss, ElboLoss) and (loss.beta != 1.0 or loss.free_bits):
        raise ValueError(
            f"draws follow the conditionals of the posterior, but the loss has beta={loss.beta} and "
            f"free_bits={loss.free_bits}, so its chains keep another density. Leave both as they are by default."
        )


def _model(loss: torch.nn.Module) -> Callable:
    model, _ = cast("tuple[Callable, Callable]", programs_of(loss))
    return model
