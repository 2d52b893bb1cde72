"""Finished Markov chains in a file, from which a run goes on."""

from pathlib import Path

import torch.nn as nn

from pyrovae.bnn.samplers import Chains
from pyrovae.core.errors import CheckpointError
from pyrovae.training.checkpoint import tensors_of
from pyrovae.training.tensor_file import read_tensors, write_tensors

KIND = "chains"
STATISTICS = ("accept", "energy", "divergent", "step_size")


def save_chains(chains: Chains, loss: nn.Module, path: Path) -> None:
    """Write the draws, their diagnostics and the state of the networks, atomically."""
    parts = {
        **{f"draws/{name}": value for name, value in chains.draws.items()},
        **{name: vars(chains)[name] for name in STATISTICS},
        **{f"weights/{name}": value for name, value in tensors_of(loss).items()},
    }
    write_tensors(path, parts, {"kind": KIND, "names": "\n".join(chains.draws)}, constant=parts)


def load_chains(loss: nn.Module, path: Path) -> Chains:
    """Read what `save_chains` wrote, and put the networks back.

    Raises: CheckpointError for another file, a damaged one, or one of other networks.
    """
    tensors, metadata, vouched_for = read_tensors(path)
    names, target = metadata.get("names", "").split("\n"), tensors_of(loss)
    expected = {f"draws/{name}" for name in names} | {f"weights/{name}" for name in target}
    if (
        not vouched_for
        or metadata.get("kind") != KIND
        or tensors.keys() != expected | set(STATISTICS)
        or any(tensors[f"weights/{name}"].shape != value.shape for name, value in target.items())
    ):
        raise CheckpointError(
            f"{path} holds no finished chains of this run; start a new run in another folder."
        )
    device = next(iter(target.values())).device
    for name, value in target.items():
        value.data.copy_(tensors[f"weights/{name}"])
    numbers = {name: tensors[name].to(device) for name in STATISTICS}
    draws = {name: tensors[f"draws/{name}"].to(device) for name in names}
    return Chains(draws, **numbers)
