"""What any iterable of data looks like to the engine: dict batches of one leading size, on one device."""
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pyrovae.errors import PairError
from pyrovae.reach import modules_of

Data = Iterable[Mapping[str, Tensor]] | Iterable[Sequence[Tensor]] | Mapping[str, Tensor]


def batches(data: Data, names: Sequence[str] | None, device: torch.device | None) -> Iterator[dict[str, Tensor]]:
    """Yield dict batches; tuples (a torchvision DataLoader's) are named by `names`, a lone mapping is one batch."""
    for item in [data] if isinstance(data, Mapping) else data:
        yield as_batch(item, names, device)


def as_batch(item: object, names: Sequence[str] | None, device: torch.device | None) -> dict[str, Tensor]:
    """One dict batch on `device` (left where it is for None). Raises PairError for what has no names."""
    if isinstance(item, Tensor):
        item = (item,)
    if isinstance(item, Sequence) and names is not None:
        if len(names) > len(item):
            raise PairError(f"names={tuple(names)} name more than the {len(item)} parts of a batch.")
        item = dict(zip(names, item))
    if not isinstance(item, Mapping):
        raise PairError(f"the data yield {type(item).__name__} batches, wanted mappings from site names to tensors; "
                        "for tuples say what their parts are, e.g. names=('x', 'y').")
    return {name: value.to(device, non_blocking=True) if isinstance(value, Tensor) and device is not None else value
            for name, value in item.items()}


def size_of(batch: Mapping[str, Tensor]) -> int:
    """B, the leading size of a batch's first tensor."""
    return len(next(value for value in batch.values() if isinstance(value, Tensor)))


def check_num_data(num_data: int | None, data: Data, seen: int) -> None:
    """Raise PairError for an N below the data `seen` in an epoch; a batch that a list names several times counts once."""
    if num_data is None or seen <= num_data:
        return
    if isinstance(data, (list, tuple)):
        seen = round(seen * len(set(map(id, data))) / len(data))
    if seen > num_data:
        raise PairError(f"num_data={num_data}, but an epoch holds {seen} data, so the KL of the weights would count for "
                        "more than it does in the objective of all data. Pass their number.")


def device_of(*programs: Callable) -> torch.device | None:
    """Where the parameters of the programs' modules live; None where they have none."""
    for module in modules_of(*programs).values():
        for tensor in (*module.parameters(), *module.buffers()):
            return tensor.device
    return None


def generators_of(data: Data) -> list[torch.Generator]:
    """The private generators that a DataLoader shuffles with: part of the random state of a run."""
    batch_sampler = getattr(data, "batch_sampler", None)
    owners = (data, getattr(data, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = (getattr(owner, "generator", None) for owner in owners)
    return list({id(generator): generator for generator in found if isinstance(generator, torch.Generator)}.values())


def retile(data: Iterator[dict[str, Tensor]], size: int) -> Iterator[dict[str, Tensor]]:
    """The same rows in the same order, `size` at a time whatever the batches were; the last tile may be ragged."""
    rest: dict[str, Tensor] = {}
    names = None
    for batch in data:
        batch = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
        if names is not None and batch.keys() != names:
            raise PairError(f"one batch names {sorted(names)} and another {sorted(batch)}; they condition on different "
                            "data, so evaluate them apart.")
        names = batch.keys()
        rest = {name: torch.cat([rest[name], value]) for name, value in batch.items()} if rest else batch
        while size_of(rest) >= size:
            yield {name: value[:size] for name, value in rest.items()}
            rest = {name: value[size:] for name, value in rest.items()}
            if not size_of(rest):
                rest = {}
                break
    if rest:
        yield rest
