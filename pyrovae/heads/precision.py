"""Nets may compute in 16 bits; densities never do."""
import torch
from torch import Tensor
from torch.distributions import Distribution


def at_least_float32(x: Tensor) -> Tensor:
    """Lift bfloat16 and float16 to float32 and leave the rest: a log-density summed in 16 bits is off by whole nats."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def log_prob_in_float64(family: type[Distribution], value: Tensor, *parameters: Tensor,
                        validate_args: bool | None = None) -> Tensor:
    """`family(*parameters).log_prob(value)`, computed in float64 whatever autocast says, in the parameters' dtype.

    For densities that are small differences of large terms.
    """
    with torch.autocast(value.device.type, enabled=False):
        fn = family(*(parameter.double() for parameter in parameters), validate_args=validate_args)
        return fn.log_prob(value.double()).to(parameters[0].dtype)
