"""Posteriors of many data sets at once: by an amortised guide, by stacked fits, by stacked chains,
or one after another."""

import logging
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from pyrovae.bnn.samplers.hmc import Chains
from pyrovae.core.errors import PairError, first_line
from pyrovae.core.independent_noise import independent_noise
from pyrovae.core.traces import run_guide, set_up
from pyrovae.losses.base import guide_of, unwrap
from pyrovae.losses.stacked import Stacked
from pyrovae.prediction.draws import evaluating
from pyrovae.prediction.simulated_data import latent_values

logger = logging.getLogger(__name__)
Draws = dict[str, Tensor]
Data = dict[str, Tensor]
Posterior = Callable[[Data], Draws]
"""From R data sets `(R, N, *event)` to L draws of the posterior of each, `(L, R, *shape)` by site."""


def amortized_posterior(guide: Callable, *, num_draws: int) -> Posterior:
    """Draws of a guide that reads the data, q(latents | data), of all data sets at once: an
    amortised one, or a closed form. One that `torch.vmap` refuses runs on one after another, as the
    log says.

    Example:
        >>> amortized_posterior(guide, num_draws=9)({"x": torch.ones(5, 3, 4)})["z"].shape
        torch.Size([9, 5, 3, 2])
    """
    _check(num_draws)

    def posterior(data: Data) -> Draws:
        def one(rows: Data) -> Draws:
            with independent_noise():
                return latent_values(run_guide(guide, rows, num_draws))

        with evaluating(guide):
            set_up(guide, _rows(data, 0))
            try:
                return _draws_first(torch.vmap(one, randomness="different")(data))
            except RuntimeError as error:  # an error of the guide's own comes again below
                found = [one(_rows(data, index)) for index in range(_count(data))]
                logger.warning(
                    "the guide runs on one data set after another, torch.vmap refuses it: %s",
                    first_line(error),
                )
                return _joined(found)

    return posterior


def fitted_posterior(
    make: Callable[[int], nn.Module],
    fit: Callable[[Stacked, Data], object],
    *,
    num_draws: int,
) -> Posterior:
    """Draws of guides that are fitted to all data sets at once, by `Stacked`.

    make: from the number of a data set to its loss, such as `ElboLoss(model, guide, num_data=N)`, all
        of one structure.
    fit: trains the stack of losses, such as `lambda loss, data: pv.fit(loss, data, epochs=1000)`;
        `data` are all N data of each set in one batch, `pyrovae.data.StackedBatches` makes
        minibatches of them.

    Raises: PairError for losses without a guide.

    Example:
        >>> import pyrovae as pv
        >>> from pyrovae.bnn.guides import MeanField
        >>> from pyrovae.heads import FixedScaleNormalHead
        >>> def make(index: int) -> pv.ElboLoss:
        ...     net = pv.Bayesian(nn.Linear(3, 1))
        ...     model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=0.1), "x"))
        ...     return pv.ElboLoss(model, MeanField(net), num_data=8)
        >>> posterior = fitted_posterior(make, lambda loss, data: pv.fit(loss, data, epochs=2), num_draws=9)
        >>> posterior({"x": torch.zeros(5, 8, 3), "y": torch.zeros(5, 8, 1)})["w.weight"].shape
        torch.Size([9, 5, 1, 3])
    """
    _check(num_draws)

    def posterior(data: Data) -> Draws:
        loss = stacked_losses(make, data)
        fit(loss, data)
        return stacked_draws(loss, data, num_draws=num_draws)

    return posterior


def stacked_losses(make: Callable[[int], nn.Module], data: Data) -> Stacked:
    """The losses of all data sets as one; autoguides are set up on the data of each."""
    losses = [make(index) for index in range(_count(data))]
    for index, loss in enumerate(losses):
        set_up(_guide(loss), _rows(data, index))
    return Stacked(losses)


def stacked_draws(loss: Stacked, data: Data, *, num_draws: int) -> Draws:
    """Draws of the guides of stacked losses, `(L, R, *shape)` by site, each given its own data."""

    def read(loss: nn.Module, rows: Data) -> Draws:
        return latent_values(run_guide(_guide(loss), rows, num_draws))

    with evaluating(loss):
        return _draws_first(loss.run(read, data))


def chain_posterior(
    make: Callable[[int], nn.Module], sample: Callable[[Stacked, Data], Chains]
) -> Posterior:
    """Draws of one Markov chain for each data set, all moved at once.

    make: from the number of a data set to its loss, `ElboLoss(model, PointEstimate(net), num_data=N)`.
    sample: runs the chains, such as `lambda loss, data: hmc(loss, data, num_data=N, num_samples=199,
        warmup=300, thin=5)`. Ranks want independent draws: thin until the autocorrelation that
        `SimulatedRanks` reports is gone.
    """

    def posterior(data: Data) -> Draws:
        return sample(stacked_losses(make, data), data).draws

    return posterior


def one_by_one(
    sample: Callable[[Data], Chains | Mapping[str, Tensor]],
    *,
    progress: Callable[[int], object] = lambda index: None,
) -> Posterior:
    """Draws of the data sets one after another, for what does not run on many at once.

    sample: from one data set `(N, *event)` to `Chains`, joined one after another, or to draws `(L,
        *shape)` by site, such as `lambda rows: mcmc(model, rows, NUTS, num_samples=99, warmup=200)`.
    progress: called after each data set with its number.
    """

    def posterior(data: Data) -> Draws:
        found = []
        for index in range(_count(data)):
            draws = sample(_rows(data, index))
            if isinstance(draws, Chains):
                draws = {
                    name: value.transpose(0, 1).flatten(0, 1)  # neighbours are of one chain
                    for name, value in draws.draws.items()
                }
            found.append(draws)
            progress(index)
        return _joined(found)

    return posterior


def _rows(data: Data, index: int) -> Data:
    return {name: value[index] for name, value in data.items()}


def _count(data: Data) -> int:
    return len(next(iter(data.values())))


def _draws_first(draws: Draws) -> Draws:
    return {name: value.transpose(0, 1) for name, value in draws.items()}


def _joined(found: Sequence[Mapping[str, Tensor]]) -> Draws:
    return {name: torch.stack([draws[name] for draws in found], 1) for name in found[0]}


def _guide(loss: nn.Module) -> Callable:
    guide = guide_of(unwrap(loss))
    if guide is None:
        raise PairError(
            f"a {type(loss).__name__} has no guide to draw from. Return a loss of a pair from `make`."
        )
    return guide


def _check(num_draws: int) -> None:
    if num_draws < 1:
        raise ValueError(f"num_draws={num_draws}, expected at least one draw of each posterior.")
