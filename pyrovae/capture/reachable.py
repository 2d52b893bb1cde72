"""The Python state that programs reach and may change: attributes, containers, closures, globals."""

import functools
import inspect
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType, MethodType, ModuleType

import numpy as np
import torch.nn as nn
from torch import Tensor

from pyrovae.capture import _contents as contents
from pyrovae.capture._contents import value_key
from pyrovae.capture._stateful import Content, State, state_of
from pyrovae.capture.user_code import is_user_code
from pyrovae.core.modules import name_of

CLOSED = {
    "torch",
    "numpy",
    "logging",
    "threading",
    "multiprocessing",
    "tqdm",
    "matplotlib",
    "pandas",
    "jax",
    "weakref",
}
"""Packages whose objects are not searched, except torch's distributions and transforms."""
LIMIT = 20_000
"""Holders after which the search ends: a program that reaches more reaches a data set."""


@dataclass(frozen=True)
class Holder:
    """A mutable object: `read()` returns its present content, `write(content)` restores one."""

    path: str
    owner: object
    read: Callable[[], Content]
    write: Callable[[Content], object]
    reported: bool
    """Whether a program that changes it cannot be replayed; False for caches of libraries."""
    guarded: bool = True
    """Whether captures hold its content fixed."""
    saved: bool = True
    """Whether `write` can restore it."""

    @property
    def is_container(self) -> bool:
        return isinstance(self.owner, (dict, list, set, deque))

    def name_of(self, key: object) -> str:
        if isinstance(self.owner, CellType):
            return self.path
        if isinstance(self.owner, dict) and self.path:
            return f"{self.path}[{key!r}]"
        if self.is_container:
            return self.path
        return (
            f"{self.path}.{key}" if self.path and isinstance(key, str) else str(self.path or key)
        )


def hooks_of(module: nn.Module) -> Iterator[Callable]:
    """The functions that torch calls before or after a module, forward and backward."""
    for hooks in (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    ):
        yield from hooks.values()


def holders(roots: Iterable[object]) -> list[Holder]:
    """Every mutable object that modules, functions and objects reach, once each."""
    return Search(roots).found


class Search:
    """What `roots` reach: mutable objects (`found`), and tensors with their path and whether a
    change of them is reported."""

    def __init__(self, roots: Iterable[object]) -> None:
        self.found: list[Holder] = []
        self.tensors: list[tuple[Tensor, str, bool]] = []
        self.seen: dict[int, object] = {}
        """By identity; kept alive, so that no identity is given to another object."""
        for root in roots:
            self.visit(root, name_of(root), True)

    def visit(self, value: object, path: str, reported: bool) -> None:
        if (
            isinstance(value, (str, bytes, int, float, complex, np.generic, type(None)))
            or id(value) in self.seen
            or len(self.found) > LIMIT
        ):
            return
        self.seen[id(value)] = value
        if isinstance(value, Tensor):
            self.tensors.append((value, path, reported))
        elif isinstance(value, nn.Module):
            self._module(value)
        elif isinstance(value, (dict, list, set, deque)):
            self._container(value, path, reported)
        elif isinstance(value, (tuple, frozenset)):
            for part in value:
                self.visit(part, path, reported)
        elif isinstance(value, np.ndarray):
            self._add(path, value, contents.of_array(value), reported)
        elif (state := state_of(value)) is not None:
            if state.saved or reported:
                self._add(path, value, state, reported)
        elif isinstance(value, FunctionType):
            self._function(value)
        elif inspect.ismethod(value):
            self.visit(value.__self__, name_of(value.__self__), reported)
            self.visit(value.__func__, path, reported)
        elif isinstance(value, functools.partial):
            for part in (value.func, value.args, value.keywords):
                self.visit(part, path, reported)
        elif isinstance(value, type):
            self._class(value)
        elif not isinstance(value, ModuleType):
            self._object(value, path, reported)

    def _add(self, path: str, owner: object, state: State, reported: bool = True) -> None:
        self.found.append(Holder(path, owner, reported=reported, **vars(state)))

    def _enter(self, path: str, owner: object, state: State, reported: bool = True) -> Content:
        """Add a mutable object and return its present content, to be visited."""
        self._add(path, owner, state, reported)
        return state.read()

    def _module(self, module: nn.Module) -> None:
        name, own = type(module).__name__, vars(module)
        attributes = self._enter(name, module, contents.of_module(module))
        for kind in ("_parameters", "_buffers", "_modules"):
            if type(own.get(kind)) in (dict, OrderedDict):
                table = contents.of_mapping(own[kind], guarded=kind != "_buffers")
                for key, value in self._enter(name, module, table).items():
                    if isinstance(value, Tensor):
                        self.visit(value, f"{name}.{key}", True)
        for key, value in attributes.items():
            self.visit(value, f"{name}.{key}", True)
        for hook in hooks_of(module):
            self.visit(hook, name_of(hook), True)
        self.visit(type(module), name, True)
        for child in module._modules.values():
            self.visit(child, "", True)

    def _container(self, value: dict | list | set | deque, path: str, reported: bool) -> None:
        state = (
            contents.of_mapping(value)
            if isinstance(value, dict)
            else contents.of_collection(value)
        )
        for key, part in self._enter(path, value, state, reported).items():
            self.visit(part, f"{path}[{key!r}]", reported)

    def _function(self, function: FunctionType) -> None:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            if id(cell) not in self.seen and cell != CellType():
                self.seen[id(cell)] = cell
                for value in self._enter(name, cell, contents.of_cell(cell)).values():
                    self.visit(value, name, True)
        for part in (function.__defaults__, function.__kwdefaults__, vars(function)):
            self.visit(part or (), function.__name__, True)
        if is_user_code(function.__module__):
            self._globals(function.__globals__, set(_names(function.__code__)))

    def _globals(self, scope: dict[str, object], names: set[str], prefix: str = "") -> None:
        """The variables of a module that a function names; for a user's module among them, the
        variables of that module that the function names."""
        for name, value in self._enter(prefix, None, contents.of_globals(scope, names)).items():
            if value is os and "environ" in names:
                self.visit(os.environ, "os.environ", True)
            elif isinstance(value, ModuleType):
                if is_user_code(value.__name__) and id(value) not in self.seen:
                    self.seen[id(value)] = value
                    self._globals(vars(value), names, value.__name__)
            else:
                self.visit(value, name, True)

    def _class(self, value: type) -> None:
        """Methods, and variables that all objects of a class share."""
        for base in value.__mro__:
            if not is_user_code(base.__module__):
                continue
            self._add(base.__name__, base, contents.of_class(base))
            for key, part in list(vars(base).items()):
                if isinstance(part, property):
                    part = part.fget
                elif isinstance(part, (staticmethod, classmethod, MethodType)):
                    part = part.__func__
                if isinstance(part, FunctionType) or value_key(part) is not None:
                    self.visit(part, f"{base.__name__}.{key}", True)

    def _object(self, value: object, path: str, reported: bool) -> None:
        cls = type(value)
        package = cls.__module__.partition(".")[0]
        if package in CLOSED and not cls.__module__.startswith("torch.distributions"):
            return
        reported = reported and (
            is_user_code(cls.__module__) or package not in ("pyro", "pyrovae", "zuko", "torch")
        )
        if is_user_code(cls.__module__):
            self.visit(cls, cls.__name__, True)
        state = contents.of_object(value)
        if state is not None:
            path = path or cls.__name__
            for name, part in self._enter(path, value, state, reported).items():
                self.visit(part, f"{path}.{name}", reported)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
