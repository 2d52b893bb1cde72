"""The no-U-turn sampler on the weights of many small nets at once."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pyrovae.bnn.samplers.gibbs import Draw
from pyrovae.bnn.samplers.nuts_step import kinetic, leaf, to_compare, turns
from pyrovae.bnn.samplers.replayed import Replayed
from pyrovae.bnn.samplers.stacked_chains import (
    Chains,
    Move,
    Read,
    check_numbers,
    point_of,
    run_chains,
)
from pyrovae.bnn.samplers.stacked_energy import StackedEnergy, elsewhere
from pyrovae.bnn.samplers.stacked_gibbs import StackedGibbs
from pyrovae.bnn.samplers.warmup import Warmup
from pyrovae.capture.auto import Compile
from pyrovae.core.types import Batch
from pyrovae.losses.stacked import Stacked

EDGE = ("q", "p", "gradient")
DRAWN = ("drawn", "drawn_energy", "drawn_gradient")


def nuts(
    loss: Stacked,
    batch: Mapping[str, Tensor],
    *,
    num_data: int,
    num_samples: int,
    warmup: int,
    max_depth: int = 10,
    step_size: float | None = None,
    target: float = 0.8,
    thin: int = 1,
    draws: Mapping[str, Draw] | None = None,
    read: Read = point_of,
    compile: Compile = "auto",
    progress: Callable[[int], object] = lambda iteration: None,
) -> Chains:
    r"""NUTS of stacked chains with the energy U(w) = N * loss: a path doubles, forward or backward in
    time, until it turns back, and the draw is one of its points, by their densities.

    All chains take their leapfrog steps together, each until its own path has turned. `hmc` says
    what `loss`, `batch`, `read` and `thin` are, and what is refused.

    max_depth: a path has at most 2^max_depth - 1 leapfrog steps.
    step_size: where its adaptation begins; by default one at which a leapfrog step is accepted with
        a probability of about 0.8. Over `warmup` iterations each chain adapts its step size, so
        that the mean acceptance probability becomes `target`, and, if they are at least 20, the
        variance of each number, in windows; then both are fixed.
    draws: sites that are drawn from their conditionals given all others, as in `Gibbs`, after each
        path of the others: `{"variance": noise_variance()}`.
    compile: "on" captures and compiles a leapfrog step at once, "auto" after some seconds, "off"
        never.
    progress: called after each iteration, warm-up included, with its number.

    Of the chains, acceptance is the mean over the points of a path.

    Source: Hoffman & Gelman 2014, arXiv:1111.4246; draws in proportion to densities and the
    criterion: Betancourt 2017, arXiv:1701.02434, appendix A; without recursion: Phan, Pradhan &
    Jankowiak 2019, arXiv:1912.11554, algorithm 2.

    Example:
        >>> from pyrovae import Bayesian, ElboLoss, Model, Node
        >>> from pyrovae.bnn.guides import PointEstimate
        >>> from pyrovae.heads import FixedScaleNormalHead
        >>> def make() -> ElboLoss:
        ...     model = Model(y=Node(FixedScaleNormalHead(Bayesian(torch.nn.Linear(1, 1)), scale=0.5), "x"))
        ...     return ElboLoss(model, PointEstimate(model), num_data=8)
        >>> chains = Stacked([make() for _ in range(4)], shared=True)
        >>> data = {"x": torch.ones(8, 1), "y": torch.ones(8, 1)}
        >>> nuts(chains, data, num_data=8, num_samples=5, warmup=10).draws["w.weight"].shape
        torch.Size([5, 4, 1, 1])
    """
    check_numbers(
        num_data=num_data, num_samples=num_samples, max_depth=max_depth, thin=thin, warmup=warmup
    )
    conditionals = StackedGibbs(loss, batch, draws or {})
    energy = StackedEnergy(loss, batch, num_data, held=conditionals.held)
    path = _Path(energy, conditionals, max_depth, compile)
    return run_chains(
        loss,
        path,
        Warmup(path, warmup, step_size, target),
        num_samples=num_samples,
        warmup=warmup,
        thin=thin,
        read=read,
        progress=progress,
    )


class _Path:
    """A path of each chain and the draw of one of its points."""

    def __init__(
        self, energy: StackedEnergy, conditionals: StackedGibbs, max_depth: int, compile: Compile
    ) -> None:
        self.energy, self.conditionals, self.max_depth = energy, conditionals, max_depth
        self.q = energy.position()
        self.variance = torch.ones_like(self.q)
        """The squared scale of each number of each chain, `(R, D)`."""
        self.here: tuple[Tensor, Tensor] | None = None
        self.leaf = Replayed(
            leaf(energy.value_and_gradient), [energy.loss], compile=compile, probe=elsewhere
        )

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
        self.energy.put(self.q)
        if self.conditionals():
            self.here = None
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
        energy, gradient = self.here or self.energy.value_and_gradient(self.q)
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
