"""Any iterable of data as the engine sees it: dict batches of one leading size, on one device."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import RandomSampler

from pyrovae.core.errors import PairError
from pyrovae.core.modules import find_modules

Values = Tensor | np.ndarray
Data = Iterable[Mapping[str, Values]] | Iterable[Sequence[Values]] | Mapping[str, Values] | Values
Like = Tensor | torch.device | None
"""Where data are moved: to the device and precision of a tensor (see `as_batch`), to a device, or
nowhere."""


def batches(data: Data, names: Sequence[str] | None, like: Like) -> Iterator[dict[str, Tensor]]:
    """Yield dict batches; tuples (a torchvision DataLoader's) are named by `names`, a single
    mapping is one batch.

    So is a single tensor or NumPy array with `names=("x",)`, whose rows are data.
    """
    for item in [data] if isinstance(data, (Mapping, Tensor, np.ndarray)) else data:
        yield as_batch(item, names, like)


def as_batch(item: object, names: Sequence[str] | None, like: Like) -> dict[str, Tensor]:
    """One dict batch of tensors on the device of `like` (None leaves them where they are).

    NumPy arrays become tensors. Floating-point values take the precision of the tensor `like`
    where both are of 32 or 64 bits, as a net of one precision cannot multiply by values of the
    other; arrays take torch's default if there is no such tensor. Integers stay as they are.

    Raises: PairError for a batch without names, and for arrays that are not numeric.
    """
    if isinstance(item, (Tensor, np.ndarray)):
        if names is None or len(names) != 1:
            raise PairError(
                f"the data are a {type(item).__name__} of shape {tuple(item.shape)}, expected mappings from "
                "site names to tensors. Name its rows, {'x': data} or names=('x',)"
                + (f", one name and not {tuple(names)}." if names else ".")
            )
        item = (item,)
    if isinstance(item, Sequence) and names is not None:
        if len(names) > len(item):
            raise PairError(
                f"names={tuple(names)} name more than the {len(item)} parts of a batch."
            )
        item = dict(zip(names, item))
    if not isinstance(item, Mapping):
        raise PairError(
            f"the data yield {type(item).__name__} batches, expected mappings from site names to tensors; "
            "for tuples name their parts, e.g. names=('x', 'y')."
        )
    return {
        name: _placed(name, value, like) if isinstance(value, (Tensor, np.ndarray)) else value
        for name, value in item.items()
    }


def _placed(name: str, value: Values, like: Like) -> Tensor:
    dtype = like.dtype if isinstance(like, Tensor) else None
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise PairError(
                f"batch[{name!r}] is an array of dtype {value.dtype}, expected numbers."
            )
        if value.dtype.kind == "f" and dtype is None:
            dtype = torch.get_default_dtype()
        value = torch.tensor(value)
    device = like.device if isinstance(like, Tensor) else like
    cast = dtype is not None and {value.dtype, dtype} == {torch.float32, torch.float64}
    return value.to(device=device, dtype=dtype if cast else None, non_blocking=device is not None)


def size_of(batch: Mapping[str, Tensor]) -> int:
    """B, the leading size of a batch's first tensor."""
    return len(next(value for value in batch.values() if isinstance(value, Tensor)))


def check_num_data(num_data: int | None, data: Data, seen: int) -> None:
    """Raise PairError for an N below the number of data `seen` in an epoch; a batch that occurs
    several times in a list counts once."""
    if num_data is None or seen <= num_data:
        return
    if isinstance(data, (list, tuple)):
        seen = round(seen * len(set(map(id, data))) / len(data))
    if seen > num_data:
        raise PairError(
            f"num_data={num_data}, but an epoch holds {seen} data, so the KL of the weights would have "
            "more than it does in the objective of all data. Pass their number."
        )


def exemplar_of(*programs: Callable) -> Like:
    """A floating-point tensor of the programs' modules, whose device and precision data take; only
    a device where the parameters (without parameters: the buffers) have several precisions; None
    for programs without tensors."""
    modules = find_modules(*programs).values()
    for members in (nn.Module.parameters, nn.Module.buffers):
        real = [
            tensor
            for module in modules
            for tensor in members(module)
            if tensor.is_floating_point()
        ]
        if real:
            return real[0] if len({tensor.dtype for tensor in real}) == 1 else real[0].device
    return device_of(*programs)


def device_of(*programs: Callable) -> torch.device | None:
    """The device of the programs' parameters or buffers; None where they have none."""
    for module in find_modules(*programs).values():
        for tensor in (*module.parameters(), *module.buffers()):
            return tensor.device
    return None


def generators_of(data: Data) -> list[torch.Generator]:
    """The private generators that a DataLoader shuffles with: part of the random state of a run."""
    batch_sampler = _of_loader(data, "batch_sampler")
    owners = (
        data,
        _of_loader(data, "sampler"),
        batch_sampler,
        _of_loader(batch_sampler, "sampler"),
    )
    found = (_of_loader(owner, "generator") for owner in owners)
    return list(
        {
            id(generator): generator
            for generator in found
            if isinstance(generator, torch.Generator)
        }.values()
    )


def is_shuffled(data: Data) -> bool:
    """Whether each pass over the data is in a new random order, as far as their attributes
    tell."""
    return bool(_of_loader(data, "shuffle")) or isinstance(
        _of_loader(data, "sampler"), RandomSampler
    )


def _of_loader(owner: object, name: str) -> object:
    """An attribute of a DataLoader or its samplers; None where `owner` has none of this name."""
    # any iterable may be data, and wrappers of a DataLoader have its attributes but not its class
    return getattr(owner, name, None)


def rebatch(data: Iterator[Mapping[str, Tensor]], size: int) -> Iterator[dict[str, Tensor]]:
    """The same rows in the same order, `size` at a time whatever the size of the batches; the last
    one may be smaller."""
    rest: dict[str, Tensor] = {}
    names = None
    for batch in data:
        batch = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
        if names is not None and batch.keys() != names:
            raise PairError(
                f"one batch names {sorted(names)} and another {sorted(batch)}; they condition on different "
                "data, so evaluate them apart."
            )
        names = batch.keys()
        rest = (
            {name: torch.cat([rest[name], value]) for name, value in batch.items()}
            if rest
            else batch
        )
        while size_of(rest) >= size:
            yield {name: value[:size] for name, value in rest.items()}
            rest = {name: value[size:] for name, value in rest.items()}
            if not size_of(rest):
                rest = {}
                break
    if rest:
        yield rest
