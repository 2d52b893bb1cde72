"""Noise of their own for programs that run side by side under `torch.vmap`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pyrovae.core.provenance import renewed
from pyrovae.core.traces import is_subsample
from pyrovae.core.types import Site


@contextmanager
def independent_noise() -> Iterator[None]:
    """Within `torch.vmap(..., randomness="different")`: the sites of a Pyro program are drawn anew
    for each member, away from the handlers of the caller (but for those of
    `LocalReparameterization` and its kind)."""
    with poutine.block(), renewed(), _FreshNoise():
        yield


class _FreshNoise(Messenger):
    """Independent draws of members under vmap, which takes an empty tensor that a sampler fills
    for one that all members share."""

    def _pyro_sample(self, msg: Site) -> None:
        if msg["value"] is None and not msg["done"] and not is_subsample(msg):
            with _OutOfPlace():
                msg["value"] = msg["fn"](*msg["args"], **msg["kwargs"])


RANDOM = {
    Tensor.bernoulli_,
    Tensor.cauchy_,
    Tensor.exponential_,
    Tensor.geometric_,
    Tensor.log_normal_,
    Tensor.normal_,
    Tensor.random_,
    Tensor.uniform_,
}


class _OutOfPlace(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func in RANDOM:
            args = (
                torch.rand_like(args[0]),
                *args[1:],
            )  # one tensor for each member
        return func(*args, **(kwargs or {}))
