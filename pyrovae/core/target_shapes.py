"""Whether observed values have the shape of their likelihood, or would be broadcast."""

from pyro.distributions import Unit

from pyrovae.core.errors import PairError
from pyrovae.core.traces import base_distribution
from pyrovae.core.types import Site


def check_event_shape(site: Site) -> None:
    """Raise PairError where an observed value has another event shape than its likelihood, and would
    be broadcast."""
    value, fn = site["value"], site["fn"]
    event_dim = len(fn.event_shape)
    inner = value.shape[value.dim() - event_dim :] if value.dim() >= event_dim else value.shape
    if event_dim and inner != fn.event_shape and not isinstance(base_distribution(fn), Unit):
        raise PairError(
            f"site {site['name']!r} has event shape {tuple(fn.event_shape)}, but its data {tuple(value.shape)} "
            f"end in {tuple(inner)}, which would be broadcast. Let the net return one value for each element."
        )


def check_one_score_each(site: Site) -> None:
    """Raise PairError where an observed value has another event shape than its likelihood, or each
    datum would be scored N times; for programs without particles."""
    check_event_shape(site)
    value, fn = site["value"], site["fn"]
    rows, batch = value.shape[: value.dim() - len(fn.event_shape)], fn.batch_shape
    if rows and len(batch) == len(rows) + 1 and batch[-2] == batch[-1] == rows[-1] > 1:
        raise PairError(
            f"site {site['name']!r} has data {tuple(value.shape)} under a distribution of batch shape {tuple(batch)}, "
            f"so each of {rows[-1]} data would be scored {rows[-1]} times: its parameters and its data differ in a "
            "dimension of size 1. Give both the same shape, e.g. by squeeze(-1) or to_event(1)."
        )
