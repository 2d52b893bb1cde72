"""Sum discrete variables out of a product of factors, in logarithms."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyrovae.core.types import sum_of


@dataclass(frozen=True)
class Factor:
    """A log-factor and a name for each of its dims: a variable or a plate."""

    log_value: Tensor
    dims: tuple[Hashable, ...]

    def over(self, dims: Sequence[Hashable]) -> Tensor:
        """The log-factor with these dims in this order, of size 1 where it has none of them."""
        present = [dim for dim in dims if dim in self.dims]
        value = self.log_value.permute([self.dims.index(dim) for dim in present])
        sizes = iter(value.shape)
        return value.reshape([next(sizes) if dim in self.dims else 1 for dim in dims])

    def summed_over(self, plates: Mapping[Hashable, int]) -> "Factor":
        """The product over plates, given with their sizes."""
        value, dims = self.log_value, self.dims
        for plate, size in plates.items():
            if plate in dims:
                value, dims = value.sum(dims.index(plate)), _without(dims, plate)
            else:
                value = value * size
        return Factor(value, dims)


@dataclass(frozen=True)
class Variable:
    """A discrete variable and the plates that it lies in."""

    name: Hashable
    plates: frozenset[Hashable]


def eliminate(
    factors: Iterable[tuple[Factor, frozenset[Hashable]]],
    variables: Iterable[Variable],
    sizes: Mapping[Hashable, int],
    keep: Sequence[Hashable],
) -> Tensor:
    r"""log \sum_{variables} \prod factors, one value for each combination of the plates `keep`.

    factors: each with all plates that it lies in. sizes: of the plates. A variable has one value
    for each index of its plates, and a factor in further plates is multiplied over them. Variables
    in more plates go first, then the one that leaves the smallest factor, so a chain of length T
    costs T times the square of its number of states. Sums are `logsumexp`, which neither overflows
    nor loses the term that dominates.

    Raises: ValueError where a variable and its neighbours lie in plates of which neither contains
    the other.
    Source: Zhang & Poole 1994, "A simple approach to Bayesian network computations".

    Example:
        >>> coin, flips = torch.tensor([0.5, 0.5]).log(), torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log()
        >>> joint = [(Factor(coin, ("k",)), frozenset()), (Factor(flips, ("k", "n")), frozenset("n"))]
        >>> eliminate(joint, [Variable("k", frozenset())], {"n": 2}, []).exp()
        tensor(0.1250)
    """
    left = [(factor, frozenset(plates)) for factor, plates in factors]
    remaining = list(variables)
    while remaining:
        deepest = max(len(variable.plates) for variable in remaining)
        name = min(
            (variable for variable in remaining if len(variable.plates) == deepest),
            key=lambda variable: _cost(variable, left),
        )
        remaining.remove(name)
        touched = [item for item in left if name.name in item[0].dims]
        left = [item for item in left if name.name not in item[0].dims]
        if touched:
            left.append((_sum_out(name, touched, sizes), name.plates))
    kept = frozenset(keep)
    parts = [
        factor.summed_over({plate: sizes[plate] for plate in plates - kept}).over(keep)
        for factor, plates in left
    ]
    return sum_of(parts).expand([sizes[plate] for plate in keep])


def _sum_out(
    variable: Variable,
    touched: Sequence[tuple[Factor, frozenset[Hashable]]],
    sizes: Mapping[Hashable, int],
) -> Factor:
    parts = []
    for factor, plates in touched:
        if not variable.plates <= plates:
            raise ValueError(
                f"the enumerated variable {variable.name!r} in plates {sorted(map(str, variable.plates))} "
                f"enters a density in plates {sorted(map(str, plates))}; expected plates that contain its own."
            )
        parts.append(
            factor.summed_over({plate: sizes[plate] for plate in plates - variable.plates})
        )
    dims = tuple(dict.fromkeys(dim for part in parts for dim in part.dims))
    total = sum_of(part.over(dims) for part in parts)
    return Factor(_log_sum(total, dims.index(variable.name)), _without(dims, variable.name))


def _log_sum(total: Tensor, dim: int) -> Tensor:
    """`logsumexp`, without its NaN gradient where all terms are impossible."""
    dead = (total == -torch.inf).all(dim, keepdim=True)
    return total.masked_fill(dead, 0.0).logsumexp(dim).masked_fill(dead.squeeze(dim), -torch.inf)


def _cost(variable: Variable, factors: Iterable[tuple[Factor, frozenset[Hashable]]]) -> int:
    """Elements of the factor that is summed when a variable goes."""
    sizes = {
        dim: size
        for factor, _ in factors
        if variable.name in factor.dims
        for dim, size in zip(factor.dims, factor.log_value.shape)
    }
    product = 1
    for size in sizes.values():
        product *= size
    return product


def _without(dims: tuple[Hashable, ...], dim: Hashable) -> tuple[Hashable, ...]:
    return tuple(other for other in dims if other != dim)
