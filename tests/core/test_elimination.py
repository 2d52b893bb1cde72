"""Discrete variables summed out of factors, against the sum over all combinations."""

import itertools

import pytest
import torch

from pyrovae.core.elimination import Factor, Variable, eliminate


def brute_force(
    factors: list[tuple[Factor, frozenset]], names: list[str], sizes: dict[str, int]
) -> torch.Tensor:
    """For variables outside all plates."""
    terms = []
    for values in itertools.product(*(range(sizes[name]) for name in names)):
        chosen = dict(zip(names, values))
        term = torch.zeros(())
        for factor, _ in factors:
            term = term + factor.log_value[tuple(chosen[dim] for dim in factor.dims)]
        terms.append(term)
    return torch.stack(terms).logsumexp(0)


def test_a_graph_with_a_loop() -> None:
    sizes = {"a": 2, "b": 3, "c": 4, "d": 2}
    pairs = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"), ("a",), ("c",)]
    factors = [
        (Factor(torch.randn([sizes[d] for d in dims]), dims), frozenset()) for dims in pairs
    ]
    variables = [Variable(name, frozenset()) for name in sizes]
    ours = eliminate(factors, variables, {}, [])
    torch.testing.assert_close(ours, brute_force(factors, list(sizes), sizes))


def test_plates_are_multiplied_within_the_sum_they_depend_on() -> None:
    """prod_n sum_k p(k) prod_m sum_j p(j | k) p(x_nm | j, k)."""
    prior, given, density = torch.randn(2), torch.randn(2, 3), torch.randn(5, 4, 2, 3)
    n, nm = frozenset("n"), frozenset("nm")
    factors = [
        (Factor(prior, ("k",)), n),
        (Factor(given, ("k", "j")), nm),
        (Factor(density, ("n", "m", "k", "j")), nm),
    ]
    exact = (prior + (given + density).logsumexp(-1).sum(1)).logsumexp(-1)
    variables, sizes = [Variable("k", n), Variable("j", nm)], {"n": 5, "m": 4}
    torch.testing.assert_close(eliminate(factors, variables, sizes, ["n"]), exact)
    torch.testing.assert_close(eliminate(factors, variables, sizes, []), exact.sum())


def test_nothing_is_lost_where_the_likelihood_dwarfs_the_prior() -> None:
    """A sum of exponentials shifted factor by factor would underflow to log 0."""
    prior, density = torch.tensor([0.0, -500.0]), torch.tensor([-900.0, 0.0])
    factors = [(Factor(prior, ("k",)), frozenset()), (Factor(density, ("k",)), frozenset())]
    assert eliminate(factors, [Variable("k", frozenset())], {}, []) == -500.0


def test_plates_of_one_datum_have_no_dim() -> None:
    factors = [(Factor(torch.zeros(2), ("k",)), frozenset("n"))]
    ours = eliminate(factors, [Variable("k", frozenset("n"))], {"n": 1}, ["n"])
    torch.testing.assert_close(ours, torch.full((1,), 2.0).log())


def test_refuses_plates_beside_each_other() -> None:
    factors = [(Factor(torch.zeros(2), ("k",)), frozenset("m"))]
    with pytest.raises(ValueError, match="expected plates that contain its own"):
        eliminate(factors, [Variable("k", frozenset("n"))], {"n": 2, "m": 2}, [])
