"""Paths of the no-U-turn sampler, of many chains at once."""

from collections.abc import Callable, Iterable

import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.bnn.samplers.nuts_step import kinetic, leaf, to_compare, turns
from pyrovae.bnn.samplers.replayed import Replayed, elsewhere
from pyrovae.bnn.samplers.stacked_chains import Move
from pyrovae.capture.auto import Compile
from pyrovae.core.types import Batch

EDGE = ("q", "p", "gradient")
DRAWN = ("drawn", "drawn_energy", "drawn_gradient")


class NutsPath:
    """A path of each chain, and the draw of one of its points.

    q: where the chains begin, `(C, D)`. value_and_gradient: U `(C,)` in nats and its gradient there.
    modules: those that this function uses.
    """

    def __init__(
        self,
        q: Tensor,
        value_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
        modules: Iterable[nn.Module],
        max_depth: int,
        compile: Compile,
    ) -> None:
        self.q, self.value_and_gradient, self.max_depth = q, value_and_gradient, max_depth
        self.variance = torch.ones_like(self.q)
        """The squared scale of each number of each chain, `(C, D)`."""
        self.here: tuple[Tensor, Tensor] | None = None
        """U and its gradient at `q`, unless what they depend on has changed."""
        self.leaf = Replayed(leaf(value_and_gradient), modules, compile=compile, probe=elsewhere)

    @torch.no_grad()
    def __call__(self, step: Tensor) -> Move:
        path = self._begin(step)
        total, left, right = path["start"], _part(path, EDGE), _part(path, EDGE)
        momenta, log_weight = path["p"], torch.zeros_like(total)
        growing, drawn = path["alive"], _part(path, DRAWN)
        for depth in range(self.max_depth):
            forward = torch.rand_like(total) < 0.5
            path |= _where(forward, right, left) | {"step": torch.where(forward, step, -step)}
            path = self._subtree(path, growing, 2**depth)
            whole = path["alive"]
            taken = torch.rand_like(total).log() < path["log_weight"] - log_weight
            drawn = _where(whole & taken, path, drawn)
            left = _where(whole & ~forward, path, left)
            right = _where(whole & forward, path, right)
            momenta = momenta + path["momenta"]
            log_weight = torch.logaddexp(log_weight, path["log_weight"])
            growing = whole & ~turns(left["p"], right["p"], momenta, self.variance)
            if not growing.any():
                break
        self.q, self.here = drawn["drawn"], (drawn["drawn_energy"], drawn["drawn_gradient"])
        return Move(path["accept"] / path["leaves"], total, path["diverged"])

    @torch.no_grad()
    def reasonable_step(self) -> Tensor:
        """For each chain a power of 2 at which one leapfrog step is accepted with a probability of
        about 0.8, as in algorithm 4 of Hoffman & Gelman 2014."""
        step = torch.ones_like(self.q[:, 0])
        begun = self._begin(step)

        def accepts(step: Tensor) -> Tensor:
            return self.leaf({**begun, "step": step})["accept"] > 0.8

        grows = accepts(step)
        going = torch.ones_like(grows)
        for _ in range(50):
            step = torch.where(going, torch.where(grows, 2.0 * step, 0.5 * step), step)
            going = going & (accepts(step) == grows)
            if not going.any():
                break
        return step

    def _begin(self, step: Tensor) -> dict[str, Tensor]:
        """Paths of no length yet."""
        energy, gradient = self.here or self.value_and_gradient(self.q)
        p = torch.randn_like(self.q) / self.variance.sqrt()
        zero = torch.zeros_like(energy)
        return {
            **{"q": self.q, "p": p, "gradient": gradient, "variance": self.variance},
            **{"drawn": self.q, "drawn_energy": energy, "drawn_gradient": gradient},
            **{"start": energy + kinetic(p, self.variance), "step": step},
            **{"log_weight": zero - torch.inf, "momenta": torch.zeros_like(p)},
            **{"accept": zero, "leaves": zero, "diverged": zero.bool(), "alive": ~zero.bool()},
        }

    def _subtree(self, path: dict[str, Tensor], growing: Tensor, leaves: int) -> dict[str, Tensor]:
        """`leaves` more leapfrog steps of the chains that grow; those are alive at the end that did
        not turn."""
        path = path | {
            "alive": growing,
            "log_weight": torch.full_like(path["start"], -torch.inf),
            "momenta": torch.zeros_like(path["p"]),
        }
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        for index in range(leaves):
            path |= self.leaf(path)
            p, momenta, alive = path["p"], path["momenta"], path["alive"]
            place, others = to_compare(index)
            if index % 2 == 0:
                kept[place] = p, momenta - p
            for other in others:
                first, before = kept[other]
                alive = alive & ~turns(first, p, momenta - before, self.variance)
            path["alive"] = alive
            if index % 2 and not alive.any():
                break
        return path


def _part(path: Batch, names: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: path[name] for name in names}


def _where(condition: Tensor, new: Batch, old: Batch) -> dict[str, Tensor]:
    """The entries of `old`, those of `new` for the chains of `condition`."""
    return {
        name: torch.where(condition if value.dim() == 1 else condition[:, None], new[name], value)
        for name, value in old.items()
    }
