"""Run programs and restore what they changed: `training` flags, buffers, random streams."""

import random as python_random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypedDict

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor


class RandomState(TypedDict):
    """What `random_state` returns."""

    torch: Tensor
    cuda: list[Tensor]
    numpy: Any
    python: tuple[Any, ...]
    generators: list[Tensor]


def random_state(generators: Sequence[torch.Generator] = ()) -> RandomState:
    """The state of every generator that training may use: torch (CPU and each CUDA device), numpy,
    Python, `generators`."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": np.random.get_state(legacy=False),
        "python": python_random.getstate(),
        "generators": [generator.get_state() for generator in generators],
    }


def set_random_state(state: RandomState, generators: Sequence[torch.Generator] = ()) -> None:
    """Put every generator back where `random_state` found it."""
    torch.set_rng_state(state["torch"])
    for device, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda_state, device)
    np.random.set_state(state["numpy"])
    python_random.setstate(state["python"])
    for generator, generator_state in zip(generators, state["generators"]):
        generator.set_state(generator_state)


@contextmanager
def preserve_state(
    modules: Iterable[nn.Module],
    *,
    training: bool | None = None,
    seed: int | None = None,
    random: bool = True,
    generators: Sequence[torch.Generator] = (),
) -> Iterator[None]:
    """Restore `training` flags, buffers and (for `random=True`) random streams on leaving,
    whatever happens inside.

    Inside, the modules are in train or eval mode as `training` says (as they are for None), and
    torch's generators start at `seed` (where they are for None).
    """
    parts = {id(part): part for module in modules for part in module.modules()}.values()
    flags = [(part, part.training) for part in parts]
    buffers = [
        (part, name, buffer, buffer.detach().clone())
        for part in parts
        for name, buffer in part._buffers.items()
        if buffer is not None
    ]
    state = random_state(generators) if random else None
    try:
        for part in parts:
            part.training = part.training if training is None else training
        if seed is not None:
            torch.manual_seed(seed)
        yield
    finally:
        if state is not None:
            set_random_state(state, generators)
        for part, flag in flags:
            part.training = flag
        with torch.no_grad():
            for part, name, buffer, value in buffers:
                part._buffers[name] = buffer.copy_(
                    value
                )  # a forward may have put another tensor in its place
