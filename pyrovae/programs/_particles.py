"""Apply a net once for each particle, with the weights of that particle."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from pyrovae.core.provenance import note, origin_of, redrawing


def apply_particles(
    output: Callable[[Mapping[str, Tensor], tuple[Tensor, ...]], Tensor],
    drawn: Mapping[str, Tensor],
    xs: tuple[Tensor, ...],
    *,
    shapes: Mapping[str, torch.Size],
    lead: torch.Size,
    event_dim: int,
) -> Tensor:
    """`output(weights, inputs)` of all particles at once, by `torch.vmap`.

    Shapes: weights `drawn` are `(*lead, 1, *shapes[key])`, inputs `xs` are `(B, *event)` or
    `(*lead, B, *event)` with `event_dim` dims of an event; the result is `(*lead, B, *out)`.
    Raises: RuntimeError for an input of other batch dims.
    """
    count = math.prod(lead)

    def stack(value: Tensor, event_shape: torch.Size) -> Tensor:
        return value.expand(*lead, 1, *event_shape).reshape(count, *event_shape)

    def share(value: Tensor, event_shape: torch.Size) -> tuple[Tensor, int | None]:
        """Its values and their dim of particles; None where all particles share one value, which
        is then used once."""
        value = value.expand(*lead, 1, *event_shape)
        if any(value.stride()[: len(lead)]):
            return stack(value, event_shape), 0
        return value[(0,) * (len(lead) + 1)], None

    sources = {
        key: origin for key, value in drawn.items() if (origin := origin_of(value)) is not None
    }
    shared = {
        key: [share(part, shapes[key]) for part in origin.parts] for key, origin in sources.items()
    }
    parts = {key: tuple(part for part, _ in pairs) for key, pairs in shared.items()}
    part_dims = {key: tuple(dim for _, dim in pairs) for key, pairs in shared.items()}
    numbers = {key for key in drawn if key not in sources or sources[key].is_drawn}
    weights = {
        key: stack(value, shapes[key])
        if key in numbers
        else torch.full_like(parts[key][0], torch.nan)
        for key, value in drawn.items()
    }
    weight_dims = {key: 0 if key in numbers else part_dims[key][0] for key in weights}
    inputs: list[Tensor] = []
    dims: list[int | None] = []
    for x in xs:
        rows = x.shape[: x.dim() - event_dim]
        if len(rows) > 1 and torch.broadcast_shapes(rows[:-1], lead) != lead:
            raise RuntimeError(
                f"an input of shape {tuple(x.shape)} has batch dims {tuple(rows)} before "
                f"{event_dim} event dims, expected (B,) or (*{tuple(lead)}, B). Pass event_dim to "
                "Bayesian."
            )
        inputs.append(
            x.expand(*lead, *x.shape[-event_dim - 1 :]).flatten(0, len(lead) - 1)
            if len(rows) > 1
            else x
        )
        dims.append(0 if len(rows) > 1 else None)

    def one(
        particle: Tensor,
        weights: Mapping[str, Tensor],
        parts: Mapping[str, tuple[Tensor, ...]],
        *inputs: Tensor,
    ) -> Tensor:
        for key, origin in sources.items():
            note(weights[key], replace(origin, parts=parts[key]))
        return output(weights, inputs)

    with redrawing():
        result = torch.vmap(
            one, in_dims=(0, weight_dims, part_dims, *dims), randomness="different"
        )(torch.arange(count), weights, parts, *inputs)
    return result.unflatten(0, lead)
