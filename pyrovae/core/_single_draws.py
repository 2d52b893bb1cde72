"""Traces of single draws: one particle of many, and many stacked into one trace."""

from collections.abc import Callable

import torch
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyrovae.core.errors import PairError
from pyrovae.core.traces import log_prob, run_model, sample_sites
from pyrovae.core.types import Batch, Site, nodes_of


def draw_of(trace: Trace, index: int) -> Trace:
    """One particle's values of the latent sites of a trace."""
    part = Trace()
    for name, site in sample_sites(trace, observed=False).items():
        part.add_node(name, **{**site, "name": name, "value": site["value"][index]})
    return part


def stacked(traces: list[Trace]) -> Trace:
    """One trace of K particles, made of K traces of single draws: values and log-probabilities
    have a first dim K; observed values and distributions are those of the first trace.

    Raises: PairError where the draws differ in their sites.
    """
    names = [
        {name for name, site in nodes_of(trace).items() if site["type"] == "sample"}
        for trace in traces
    ]
    odd = set[str].union(*names) - set[str].intersection(*names)
    if odd:
        raise PairError(
            f"sites {sorted(odd)} appear in some draws of the program and not in others, so they cannot be "
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
        )  # with the masks applied
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
    """Replay one particle's values in the shape that a site has without particles: sites outside
    plates then have no dim of size 1 for data."""

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


def run_one(program: Callable, draw: Trace, batch: Batch) -> Trace:
    return run_model(_ReplayOne(draw)(program), Trace(), batch)
