"""How a net's numbers are dealt out to the parameters of a distribution."""

from collections.abc import Sequence

from torch import Size, Tensor


def split(numbers: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """`(*batch, sum(sizes))` -> one `(*batch, size)` for each size; raises ValueError for any
    other number."""
    if numbers.shape[-1] != sum(sizes):
        raise ValueError(
            f"the net returns {numbers.shape[-1]} numbers a datum, expected {' + '.join(map(str, sizes))} = "
            f"{sum(sizes)}."
        )
    return numbers.split(list(sizes), dim=-1)


def per_element(numbers: Tensor, event_shape: Size, count: int | None = None) -> Tensor:
    """C numbers for each element of the event, C first, -> `(*batch, *event_shape, C)`.

    `numbers` has as many event dims as `event_shape` and C times its elements, or is `(*batch, C)`
    for an event `()`. Raises ValueError where it does not divide so, or C is not `count`.
    """
    num_dims, size = len(event_shape), event_shape.numel()
    flat = numbers.flatten(-num_dims) if num_dims else numbers
    if flat.shape[-1] % size or count not in (None, flat.shape[-1] // size):
        raise ValueError(
            f"the net returns {flat.shape[-1]} numbers a datum, which are not {count or 'C classes'} for each "
            f"of the {size} elements of an event {tuple(event_shape)}."
        )
    return flat.unflatten(-1, (-1, *event_shape)).movedim(-1 - num_dims, -1) if num_dims else flat
