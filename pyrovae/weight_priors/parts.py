"""Priors for a part of a net."""
from fnmatch import fnmatch

import torch.nn as nn

from pyrovae.programs.bayesian import WeightPrior, standard


def only(prior: WeightPrior, *patterns: str) -> WeightPrior:
    """`prior` for the sites that match one of the shell-style patterns, e.g. "*.weight"; the others stay plain numbers."""
    return lambda site, tensor: prior(site, tensor) if any(fnmatch(site, pattern) for pattern in patterns) else None


def last_layer(net: nn.Module, prior: WeightPrior = standard) -> WeightPrior:
    """`prior` for the parameters of the net's last module that has any; the others stay plain numbers.

    Example:
        >>> from pyrovae import Bayesian
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> sorted(Bayesian(net, last_layer(net)).initial)
        ['2.bias', '2.weight']
    """
    last = [name for name, part in net.named_modules() if any(True for _ in part.parameters(recurse=False))][-1]
    return only(prior, f"*.{last}.*")
