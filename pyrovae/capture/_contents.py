"""How to read, and write back, the content of each kind of mutable object."""

from collections import deque
from types import CellType

import numpy as np
import torch.nn as nn
from torch import Tensor

from pyrovae.capture._stateful import Content, State
from pyrovae.capture.user_code import MODULE_STATE
from pyrovae.core.modules import attributes_of

_UNSET = object()


def of_module(module: nn.Module) -> State:
    """Attributes of a module that are not torch's own."""
    own = vars(module)

    def read() -> Content:
        return {key: value for key, value in own.items() if key not in MODULE_STATE}

    def write(content: Content) -> None:
        for key in read().keys() - content.keys():
            del own[key]
        own.update(content)

    return State(read, write)


def of_mapping(mapping: dict, *, guarded: bool = True) -> State:
    def write(content: Content) -> None:
        mapping.clear()
        mapping.update(content)

    return State(lambda: dict(mapping), write, guarded)


def of_collection(values: list | set | deque) -> State:
    """The entries of a list, set or deque, by their place."""

    def write(content: Content) -> None:
        values.clear()
        (values.update if isinstance(values, set) else values.extend)(content.values())

    return State(lambda: dict(enumerate(values)), write)


def of_array(array: np.ndarray) -> State:
    def write(content: Content) -> None:
        array[...] = content[None]

    return State(lambda: {None: array.copy()}, write)


def of_cell(cell: CellType) -> State:
    """The variable that a function closes over; empty where it is not assigned yet."""

    def write(content: Content) -> None:
        if content:
            cell.cell_contents = content[None]

    return State(lambda: {} if cell == CellType() else {None: cell.cell_contents}, write)


def of_globals(scope: dict[str, object], names: set[str]) -> State:
    """The variables of a module that have these names."""

    def read() -> Content:
        return {name: scope[name] for name in names if name in scope}

    def write(content: Content) -> None:
        for name in read().keys() - content.keys():
            del scope[name]
        scope.update(content)

    return State(read, write)


def of_class(cls: type) -> State:
    """Variables of a class that are numbers, words, tensors or containers of such."""

    def read() -> Content:
        return {
            key: part
            for key, part in vars(cls).items()
            if not key.startswith("__") and value_key(part) is not None
        }

    def write(content: Content) -> None:
        for key in read().keys() - content.keys():
            delattr(cls, key)
        for key, part in content.items():
            if vars(cls).get(key) is not part:
                setattr(cls, key, part)

    return State(read, write)


def of_object(value: object) -> State | None:
    """Attributes of an object, in its `__dict__` and its slots; None where it has neither."""
    own = attributes_of(value)
    slots = [
        name
        for base in type(value).__mro__
        for name in vars(base).get("__slots__", ())
        if isinstance(name, str)
    ]
    if not own and not slots:
        return None

    def read() -> Content:
        inside = {
            name: getattr(value, name, _UNSET)  # a slot has no table of its values
            for name in slots
            if not name.startswith("__")
        }
        return {**own, **{name: part for name, part in inside.items() if part is not _UNSET}}

    def write(content: Content) -> None:
        for name in own.keys() - content.keys():
            del own[name]
        for name, part in content.items():
            if name in own or name not in slots:
                own[name] = part
            else:
                object.__setattr__(value, name, part)

    return State(read, write)


def value_key(value: object) -> str | None:
    """A key that changes when a program may compute something else: numbers and words by value,
    tensors and arrays by identity, containers by their entries; None for anything else."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"{type(value).__name__} {id(value)}"
    if isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        return repr(value)
    if isinstance(value, (list, tuple, dict, set, frozenset, deque)):
        parts = [
            value_key(part) for part in (value.values() if isinstance(value, dict) else value)
        ]
        return (
            repr(parts)
            if any(part is not None for part in parts) or not isinstance(value, tuple)
            else None
        )
    return None
