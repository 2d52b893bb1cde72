"""Nets may compute in 16 bits; densities never do."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution


def at_least_float32(x: Tensor) -> Tensor:
    """Lift bfloat16 and float16 to float32 and leave the rest: a log-density summed in 16 bits is
    off by whole nats."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def log_prob_in_float64(
    family: Callable[..., Distribution],
    value: Tensor,
    *,
    validate_args: bool | None = None,
    **parameters: Tensor,
) -> Tensor:
    """`family(**parameters).log_prob(value)`, computed in float64 whatever autocast says, in the
    parameters' dtype.

    For densities that are small differences of large terms, such as log-gammas of 10^4, which
    float32 gets wrong by 10^-3 nats for each element, all with one sign.
    """
    dtype = next(iter(parameters.values())).dtype
    with torch.autocast(value.device.type, enabled=False):
        fn = family(
            **{name: tensor.double() for name, tensor in parameters.items()},
            validate_args=validate_args,
        )
        return fn.log_prob(value.double()).to(dtype)
