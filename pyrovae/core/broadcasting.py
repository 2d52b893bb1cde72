"""How K draws of a pair run: all at once where its programs broadcast over particles, else one at
a time."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from pyro.distributions import Delta
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyrovae.core.errors import PairError, first_line
from pyrovae.core.modules import find_modules
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.provenance import are_noted
from pyrovae.core.traces import (
    Batch,
    base_distribution,
    for_batch,
    log_prob,
    run_guide,
    run_model,
    sample_sites,
    set_up,
)
from pyrovae.core.types import Site, nodes_of

logger = logging.getLogger(__name__)
TRIED = 3
"""Particles that tell whether a program broadcasts: more than two, so that a dim of theirs is
seldom taken for another."""
REMEDY = (
    "Values are (K draws, B data, *event) then: let it index, sum and reshape from the right, e.g. alpha[..., g] for "
    "alpha[g], and use layers that take weights of any batch shape, e.g. pyrovae.Bayesian(net)."
)


@dataclass(frozen=True)
class Particles:
    """Runs guide and model under K particles and returns traces of values `(K, B, *event)`,
    whichever way it goes."""

    guide_broadcasts: bool = True
    model_broadcasts: bool = True

    @classmethod
    def of(
        cls, model: Callable, guide: Callable, batch: Batch, *, inputs: Batch | None = None
    ) -> "Particles":
        """Find out on one batch, of which the guide sees `inputs` (all of it by default).

        A program broadcasts if three particles at once have the log-probabilities, at every site,
        of the same draws one at a time. Where it does not (`alpha[g]`, whose first dim now is that
        of the particles; a layer that takes matrices of weights only), or where two runs of one
        draw differ, so that this cannot be seen, the log says so. Random streams, parameters and
        buffers stay as they are.

        Raises: what the programs raise on a single draw; PairError for a plate where the particles
        belong.
        """
        # a handler that draws anew for each datum: no two runs agree, and all layers are pyrovae's
        if are_noted():
            return cls()
        inputs = batch if inputs is None else inputs
        guide = for_batch(guide, inputs)
        set_up(guide, inputs)
        with preserve_state(find_modules(model, guide).values()), torch.no_grad():
            faults = [
                _fault(
                    "guide",
                    lambda: run_guide(guide, inputs, TRIED),
                    lambda draw: _run_one(guide, draw, inputs),
                )
            ]
            draws = cls(faults[0] is None).run_guide(guide, inputs, TRIED)
            faults += [
                _fault(
                    "model",
                    lambda: run_model(model, draws, batch, TRIED),
                    lambda draw: _run_one(model, draw, batch),
                    draws,
                )
            ]
        for fault in filter(None, faults):
            logger.warning("draws run one at a time, which is slower: %s", fault)
        return cls(*(fault is None for fault in faults))

    @property
    def at_once(self) -> bool:
        return self.guide_broadcasts and self.model_broadcasts

    def run_guide(self, guide: Callable, batch: Batch, num: int) -> Trace:
        if self.guide_broadcasts:
            return run_guide(guide, batch, num)
        guide = for_batch(guide, batch)
        return stacked([run_guide(guide, batch) for _ in range(num)])

    def run_model(self, model: Callable, draws: Trace, batch: Batch, num: int) -> Trace:
        if self.model_broadcasts:
            return run_model(model, draws, batch, num)
        return stacked([_run_one(model, draw_of(draws, index), batch) for index in range(num)])


def draw_of(trace: Trace, index: int) -> Trace:
    """One particle's values of the latent sites of a trace."""
    part = Trace()
    for name, site in sample_sites(trace, observed=False).items():
        part.add_node(name, **{**site, "name": name, "value": site["value"][index]})
    return part


def stacked(traces: list[Trace]) -> Trace:
    """Traces of single draws as one of K particles: values and log-probabilities have a first dim
    K; observed values and distributions are those of the first trace.

    Raises: PairError where the draws differ in their sites.
    """
    names = [
        {name for name, site in nodes_of(trace).items() if site["type"] == "sample"}
        for trace in traces
    ]
    odd = set[str].union(*names) - set[str].intersection(*names)
    if odd:
        raise PairError(
            f"sites {sorted(odd)} appear in some draws of the program and not in others, so they make no tensor "
            "over draws. Sample the same sites in each, and mask those that do not count."
        )
    result = Trace()
    for name in (name for name in traces[0].nodes if name in names[0]):
        sites = [nodes_of(trace)[name] for trace in traces]
        first, event_dim = sites[0], len(sites[0]["fn"].event_shape)
        values = (
            first["value"]
            if _is_data(first)
            else torch.stack([_rows(site["value"], event_dim) for site in sites])
        )
        scores = torch.stack(
            [_rows(log_prob(site), 0) for site in sites]
        )  # which the masks have had their part in
        result.add_node(
            name,
            **{
                **first,
                "name": name,
                "value": values,
                "unscaled_log_prob": scores,
                "mask": False if first["mask"] is False else None,
            },
        )
    return result


def _is_data(site: Site) -> bool:
    return site["is_observed"] and not site["infer"].get("_deterministic")


def _rows(value: Tensor, event_dim: int) -> Tensor:
    return value.unsqueeze(0) if value.dim() == event_dim else value


class _ReplayOne(Messenger):
    """Replay one particle's values in the shape that a site has by itself: outside plates there is
    no dim of 1 for data."""

    def __init__(self, draw: Trace) -> None:
        super().__init__()
        self.draw = draw

    def _pyro_sample(self, msg: Site) -> None:
        if msg["name"] in self.draw.nodes and not msg["is_observed"]:
            value = nodes_of(self.draw)[msg["name"]]["value"]
            shape = torch.Size(msg["fn"].shape())
            msg["value"], msg["done"] = (
                value.reshape(shape) if value.numel() == shape.numel() else value,
                True,
            )


def _run_one(program: Callable, draw: Trace, batch: Batch) -> Trace:
    return run_model(_ReplayOne(draw)(program), Trace(), batch)


def _fault(
    role: str,
    run: Callable[[], Trace],
    alone: Callable[[Trace], Trace],
    draws: Trace | None = None,
) -> str | None:
    """In words how a few particles at once differ from the same ones one at a time; None if they
    do not."""
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
            )  # in the guide's layout, which was found to be right
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
    """The first site that is not what it is in a trace of that draw alone."""
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
