"""Priors for some parameters of a net."""

from fnmatch import fnmatch

import torch.nn as nn
from torch import Tensor
from torch.distributions import Distribution

from pyrovae.programs.bayesian import WeightPrior, standard


def only(prior: WeightPrior, *patterns: str) -> WeightPrior:
    """`prior` for the sites that match one of the shell-style patterns, e.g. "*.weight"; the
    others stay plain numbers."""
    return lambda site, tensor: (
        prior(site, tensor) if any(fnmatch(site, pattern) for pattern in patterns) else None
    )


def last_layer(net: nn.Module, prior: WeightPrior = standard) -> WeightPrior:
    """`prior` for the parameters of the net's last module that has any; the others stay plain
    numbers.

    Example:
        >>> from pyrovae import Bayesian
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> sorted(Bayesian(net, last_layer(net)).initial)
        ['2.bias', '2.weight']
    """
    keys = [key for key, _ in net.named_parameters()]
    last = [
        name
        for name, part in net.named_modules()
        if any(True for _ in part.parameters(recurse=False))
    ][-1]
    expected = {
        f"{last}.{name}" if last else name
        for name, _ in net.get_submodule(last).named_parameters(recurse=False)
    }

    def part(site: str, tensor: Tensor) -> Distribution | None:
        matches = [
            key for key in keys if site.endswith(f".{key}")
        ]  # "w.0.1.bias" ends in "1.bias" too
        return prior(site, tensor) if matches and max(matches, key=len) in expected else None

    return part
