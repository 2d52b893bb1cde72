"""Whether a program broadcasts over particles: compare a few at once with the same draws one at a
time."""

from collections.abc import Callable

import torch
from pyro.distributions import Delta
from pyro.poutine import Trace
from torch import Tensor

from pyrovae.core._single_draws import draw_of, stacked
from pyrovae.core.errors import PairError, first_line
from pyrovae.core.traces import base_distribution, log_prob
from pyrovae.core.types import Site, nodes_of

TRIED = 3
"""Particles in the test: more than two, so that their dim is seldom mistaken for another one of
the same size."""
REMEDY = (
    "Values are (K draws, B data, *event) then: let it index, sum and reshape from the right, e.g. (x * w).sum(-1) for "
    "x @ w and alpha[..., g] for alpha[g], and use layers that take weights of any batch shape, e.g. "
    "pyrovae.Bayesian(net)."
)


def find_fault(
    role: str,
    run: Callable[[], Trace],
    alone: Callable[[Trace], Trace],
    draws: Trace | None = None,
) -> str | None:
    """A description of how `TRIED` particles at once differ from the same draws one at a time;
    None if they agree."""
    try:
        together = run()
        for site in nodes_of(together).values():
            if site["type"] == "sample":
                log_prob(site)
    except PairError:
        raise
    except Exception as error:
        return f"the {role} fails under {TRIED} at once ({type(error).__name__}: {first_line(error)}). {REMEDY}"
    for index in range(TRIED):
        draw = draw_of(together, index)
        if draws is not None:
            draw.nodes.update(
                draw_of(draws, index).nodes
            )  # in the guide's layout, which was tested before
        single = alone(draw)
        name = _difference(together, single, TRIED, index)
        if name is not None:
            noisy = _difference(stacked([alone(draw)]), single, 1, 0) is not None
            return f"site {name!r} of the {role} " + (
                "has other densities each time that the same draw runs, by random numbers of no site or by a state that "
                "changes. Draw such numbers by pyro.sample, or hold them fixed in eval mode."
                if noisy
                else f"has other densities under {TRIED} at once than under the same draws one at a time. {REMEDY}"
            )
    return None


def _difference(together: Trace, single: Trace, count: int, index: int) -> str | None:
    """The name of the first site that differs from a trace of draw `index` alone; None if all
    agree."""
    sites, others = (
        {name: site for name, site in nodes_of(trace).items() if site["type"] == "sample"}
        for trace in (together, single)
    )
    if sites.keys() != others.keys():
        return min(sites.keys() ^ others.keys())
    return next(
        (name for name in others if not _same(sites[name], others[name], count, index)), None
    )


def _same(many: Site, one: Site, count: int, index: int) -> bool:
    if one["infer"].get("_deterministic"):
        ours, alone = many["value"], one["value"]
    elif isinstance(
        base_distribution(one["fn"]), Delta
    ):  # its density is 0 where the value is off by rounding
        ours, alone = (base_distribution(part["fn"]).__dict__["v"] for part in (many, one))
    else:
        ours, alone = log_prob(many), log_prob(one)
        shape = (count, *(alone.shape or (1,)))
        if (
            alone.dim() > 1
            or ours.dim() > 2
            or any(a not in (1, b) for a, b in zip(ours.shape[::-1], shape[::-1]))
        ):
            return False
        ours = ours.expand(shape)
    if ours.numel() != count * alone.numel():
        return ours.shape == alone.shape and _close(ours, alone)
    return _close(ours.reshape(count, *alone.shape)[index], alone)


def _close(first: Tensor, second: Tensor) -> bool:
    if not first.is_floating_point():
        return torch.equal(first, second)
    tolerance = 10 * torch.finfo(first.dtype).eps ** 0.5
    return torch.allclose(
        first, second.to(first.dtype), rtol=tolerance, atol=tolerance, equal_nan=True
    )
