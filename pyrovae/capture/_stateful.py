"""Mutable objects whose state is not in attributes: random generators, iterators, arrays of bytes,
context variables, the environment."""

import os
import random
from array import array
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Content = dict[Any, Any]


@dataclass(frozen=True)
class State:
    """How to read the state of an object, as words or numbers, and to write it back."""

    read: Callable[[], Content]
    write: Callable[[Content], object]
    guarded: bool = True
    """Whether captures hold it fixed: so for numbers that programs read, not for generators that
    they draw from."""
    saved: bool = True
    """Whether it can be restored."""


def state_of(value: object) -> State | None:
    """The state of such an object; None for every other object."""
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return _generator(value.getstate, value.setstate)
    if isinstance(value, np.random.Generator):
        return state_of(value.bit_generator)
    if isinstance(value, np.random.BitGenerator):
        return _generator(
            lambda: value.state, lambda state: setattr(value, "state", state), repr_of_arrays
        )
    if isinstance(value, np.random.RandomState):
        return _generator(lambda: value.get_state(legacy=False), value.set_state, repr_of_arrays)
    if isinstance(value, torch.Generator):
        return _generator(value.get_state, value.set_state, lambda state: state.tolist())
    if isinstance(value, (bytearray, array)):
        return State(lambda: {None: bytes(value)}, lambda content: _refill(value, content[None]))
    if isinstance(value, ContextVar):
        return State(lambda: _read(value), lambda content: content and value.set(content[None]))
    if isinstance(value, type(os.environ)):
        return State(lambda: dict(value), lambda content: _set_all(value, content))
    if isinstance(value, Iterator) and type(value).__module__ in ("builtins", "itertools"):
        return State(dict, lambda content: None, saved=False)
    return None


def repr_of_arrays(state: object) -> str:
    with np.printoptions(threshold=1_000_000):
        return str(state)


def _generator(
    get: Callable[[], Any],
    put: Callable[[Any], object],
    tell: Callable[[Any], object] = repr,
) -> State:
    states: dict[str, Any] = {}

    def read() -> Content:
        state = get()
        states[words := str(tell(state))] = state
        return {None: words}

    return State(read, lambda content: put(states[content[None]]), guarded=False)


def _read(variable: ContextVar) -> Content:
    try:
        return {None: variable.get()}
    except LookupError:
        return {}


def _refill(value: bytearray | array, content: bytes) -> None:
    del value[:]
    (value.extend if isinstance(value, bytearray) else value.frombytes)(content)


def _set_all(environment: "os._Environ", content: Content) -> None:
    for name in environment.keys() - content.keys():
        del environment[name]
    for name, value in content.items():
        if environment.get(name) != value:
            environment[name] = value
