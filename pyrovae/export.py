"""Draws out to ArviZ: named groups of tensors become named dimensions and coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import arviz
    import xarray

SAMPLED = (
    "posterior",
    "posterior_predictive",
    "log_likelihood",
    "prior",
    "prior_predictive",
    "sample_stats",
    "prior_sbc",
)
FIXED = ("observed_data", "constant_data")
IMAGE = ("channel", "height", "width")


@runtime_checkable
class KnowsPlates(Protocol):
    """Draws as `pyrovae.prediction.posterior_draws` makes them."""

    plates: dict[str, tuple[str, ...]]
    """Of each site, in the order of its dims after K."""


def to_inference_data(
    draws: Mapping[str, Mapping[str, Tensor | np.ndarray]],
    *,
    coords: Mapping[str, Sequence[Any]] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    num_chains: int = 1,
) -> arviz.InferenceData | xarray.DataTree:
    r"""Return draws as what the installed ArviZ reads: 0.2x `InferenceData`, from 1.0 on
    `xarray.DataTree`.

    Warning: the posterior draws come from the guide q(z | x), not from p(z | x). `az.loo` on a
    variational autoencoder's per-datum latents therefore says how well q's draws, which have seen
    x_i, explain x_i; it is not held-out evidence (`pyrovae.log_evidence` estimates log p(x)), and
    its Pareto k says nothing about leaving x_i out of the *training* of model and guide. The draws
    are independent: R-hat, ESS and `num_chains` carry no information about convergence.

    Shapes, by ArviZ group: posterior, posterior_predictive, prior, prior_predictive, sample_stats,
        prior_sbc (K, B, *event); log_likelihood (K, B), nats, one number a datum; observed_data,
        constant_data (B, *event). K becomes (chain, draw) = (num_chains, K / num_chains). A second
        dimension of size 1 where the other variables have B data belongs to no datum (weights;
        prior draws) and is dropped. Draws with an attribute `plates` (those of `posterior_draws`)
        say themselves where each site lies.
    Dimensions: "data" for B; the name of another plate for a site in it; (channel, height, width)
        for three event dimensions whose sizes agree among all variables that have three; otherwise
        {site}_dim_0, {site}_dim_1, ..., so that a site has the same names in every group.
        `dims={"z": ["latent"]}` renames event dimensions; names for everything after K,
        `dims={"w": ["out", "in"]}` for w (K, out, in), say that the variable has no data
        dimension.
    Coordinates: 0, 1, ... unless `coords={"data": [...], "latent": [...]}` says otherwise.
    Errors: ValueError for an unknown group, a variable with too few dimensions or other than
        `coords` and the other variables say, a K that differs within a group or that `num_chains`
        does not divide, and for `dims` and `coords` that name nothing.
    Source: the InferenceData schema, https://python.arviz.org/en/stable/schema/schema.html.

    Example:
        >>> draws = {"posterior": {"z": torch.zeros(50, 4, 2)}, "observed_data": {"x": torch.zeros(4, 3)}}
        >>> data = to_inference_data(draws, dims={"z": ["latent"]})
        >>> dict(data["posterior"]["z"].sizes)
        {'chain': 1, 'draw': 50, 'data': 4, 'latent': 2}
    """
    import arviz
    import xarray

    arrays = _arrays(draws)
    given = {dim: np.asarray(list(labels)) for dim, labels in (coords or {}).items()}
    names = _dim_names(
        arrays, dict(dims or {}), given, draws.plates if isinstance(draws, KnowsPlates) else {}
    )
    labels = _labels(arrays, names, given)
    attrs = {"inference_library": "pyrovae", "created_at": datetime.now(UTC).isoformat()}
    groups = {"/": xarray.Dataset(attrs=attrs)}
    for group in dict.fromkeys(group for group, _ in arrays):
        members = {name: array for (g, name), array in arrays.items() if g == group}
        lead = _chains(group, members, num_chains)
        units = {"units": "nats"} if group == "log_likelihood" else {}
        variables = {}
        for name, array in members.items():
            dim_names = (*lead, *names[group, name])
            shape = (*lead.values(), *(len(labels[dim]) for dim in names[group, name]))
            variables[name] = (dim_names, array.reshape(shape), units)
        used = {dim: labels[dim] for name in members for dim in names[group, name]}
        used |= {dim: np.arange(size) for dim, size in lead.items()}
        groups[f"/{group}"] = xarray.Dataset(variables, coords=used, attrs=attrs | units)
    tree = xarray.DataTree.from_dict(groups)
    # ArviZ 1.x answers to the name InferenceData too, with a warning: ask the module's own
    # dictionary
    inference_data = vars(arviz).get("InferenceData")
    if inference_data is None:
        return tree
    data = inference_data.from_datatree(tree)
    data.attrs = attrs  # dropped on the way before ArviZ 0.23
    return data


def _arrays(
    draws: Mapping[str, Mapping[str, Tensor | np.ndarray]],
) -> dict[tuple[str, str], np.ndarray]:
    """Return the arrays by (group, variable), on the host; check groups and the first dimension."""
    arrays = {}
    for group, variables in draws.items():
        if group not in SAMPLED + FIXED:
            raise ValueError(
                f"draws holds the group {group!r}, expected some of {', '.join(SAMPLED + FIXED)}. "
                f'Wrap bare draws: {{"posterior": draws}}.'
            )
        if not isinstance(variables, Mapping):
            raise ValueError(
                f"draws[{group!r}] is a {type(variables).__name__}, expected a mapping from site to tensor. "
                f'Name the site: {{{group!r}: {{"z": tensor}}}}.'
            )
        for name, values in variables.items():
            array = _host(values)
            if group in SAMPLED and array.ndim == 0:
                raise ValueError(
                    f"{group}[{name!r}] has shape (), expected (K, B, *event): a draw dimension."
                )
            arrays[group, name] = array
    if not arrays:
        raise ValueError(
            'draws holds no variable, expected at least one, such as {"posterior": {"z": z}}.'
        )
    return arrays


def _host(values: Tensor | np.ndarray) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def _rest(group: str, array: np.ndarray) -> tuple[int, ...]:
    """Return what follows the draw dimension, (B, *event) or, for a global variable, (*event)."""
    return array.shape[1:] if group in SAMPLED else array.shape


def _dim_names(
    arrays: Mapping[tuple[str, str], np.ndarray],
    dims: dict[str, Sequence[str]],
    coords: dict[str, np.ndarray],
    plates: Mapping[str, tuple[str, ...]],
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the names of each variable's dimensions after (chain, draw)."""
    unused = sorted(set(dims) - {name for _, name in arrays})
    if unused:
        raise ValueError(
            f"dims names {unused}, expected some of {sorted({name for _, name in arrays})}."
        )

    def is_global(group: str, name: str, rest: tuple[int, ...]) -> bool:
        # a datum's log-likelihood (K, B) has no event left for dims to name
        return len(dims.get(name, ())) == len(rest) and (
            group != "log_likelihood" or len(rest) != 1
        )

    rests = {key: _rest(key[0], array) for key, array in arrays.items()}
    local = {key: rest for key, rest in rests.items() if rest and not is_global(*key, rest)}
    of_data = [
        rest[0] for (_, name), rest in local.items() if plates.get(name, ("data",)) == ("data",)
    ]
    num_data = len(coords["data"]) if "data" in coords else max(of_data, default=1)
    images = {rest[1:] for (_, name), rest in local.items() if len(rest) == 4 and name not in dims}
    result = {}
    for (group, name), rest in rests.items():
        lead: tuple[str, ...] = ("data",) if (group, name) in local else ()
        event = rest[len(lead) :]
        if lead and name in plates:
            lead = plates[name]
            # by itself a site outside all plates has no dimension of 1 for data, as observed
            # values show
            event = rest[1:] if lead or group in SAMPLED and rest[0] == 1 else rest
        elif lead and rest[0] == 1 and num_data != 1:
            lead = ()
        if name in dims and (event or group != "log_likelihood"):
            if len(dims[name]) != len(event):
                raise ValueError(
                    f"dims[{name!r}] is {list(dims[name])}, but {group}[{name!r}] has shape "
                    f"{arrays[group, name].shape} with event dimensions {event}. Name each of those."
                )
            result[group, name] = (*lead, *dims[name])
        elif len(event) == 3 and images == {event}:
            result[group, name] = (*lead, *IMAGE)
        else:
            result[group, name] = (*lead, *(f"{name}_dim_{i}" for i in range(len(event))))
    return result


def _labels(
    arrays: Mapping[tuple[str, str], np.ndarray],
    names: Mapping[tuple[str, str], tuple[str, ...]],
    coords: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return each dimension's coordinate; a size that two sources give differently is an error."""
    labels, source = dict(coords), {dim: f"coords[{dim!r}]" for dim in coords}
    for (group, name), dim_names in names.items():
        array = arrays[group, name]
        for dim, size in zip(reversed(dim_names), reversed(array.shape), strict=False):
            if dim not in labels:
                labels[dim], source[dim] = np.arange(size), f"{group}[{name!r}]"
            elif len(labels[dim]) != size:
                raise ValueError(
                    f"{group}[{name!r}] has shape {array.shape}, so {size} along dimension {dim!r}, but "
                    f"{source[dim]} has {len(labels[dim])}. Wanted (K, B, *event), observed and constant data "
                    "(B, *event), with one size for each name; name other dimensions with dims."
                )
    unused = sorted(set(coords) - {dim for dim_names in names.values() for dim in dim_names})
    if unused:
        raise ValueError(
            f"coords names {unused}, expected some of {sorted(set(labels) - set(unused))}."
        )
    return labels


def _chains(group: str, members: Mapping[str, np.ndarray], num_chains: int) -> dict[str, int]:
    """Return {"chain": C, "draw": K / C} for a sampled group and nothing for observed data."""
    if group in FIXED:
        return {}
    draws = {name: array.shape[0] for name, array in members.items()}
    if len(set(draws.values())) > 1:
        raise ValueError(
            f"{group} holds variables with different numbers of draws K: {draws}. Wanted one K."
        )
    count = next(iter(draws.values()))
    if num_chains < 1 or count % num_chains:
        raise ValueError(
            f"{group} has K = {count} draws and num_chains is {num_chains}, expected a divisor of K."
        )
    return {"chain": num_chains, "draw": count // num_chains}
