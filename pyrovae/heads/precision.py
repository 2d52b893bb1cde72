"""Nets may compute in 16 bits; densities never do."""
import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Lift bfloat16 and float16 to float32 and leave the rest: a log-density summed in 16 bits is off by whole nats."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
