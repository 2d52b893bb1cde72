"""How a net's numbers are dealt out to the parameters of a distribution."""
from collections.abc import Sequence

from torch import Tensor


def split(numbers: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """`(*batch, sum(sizes))` -> one `(*batch, size)` for each size; raises ValueError for any other number."""
    if numbers.shape[-1] != sum(sizes):
        raise ValueError(f"the net returns {numbers.shape[-1]} numbers a datum, wanted {' + '.join(map(str, sizes))} = "
                         f"{sum(sizes)}.")
    return numbers.split(list(sizes), dim=-1)
