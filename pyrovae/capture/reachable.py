"""The Python state that programs reach and may change: attributes, containers, closures, globals."""

import functools
import inspect
import os
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType, ModuleType

import numpy as np
import torch.nn as nn
from torch import Tensor

from pyrovae.capture.stateful import Content, state_of

KNOWN = {
    "pyrovae",
    "torch",
    "pyro",
    "zuko",
    "numpy",
    "scipy",
    "opt_einsum",
    "functorch",
} | sys.stdlib_module_names
"""Packages whose code reads no numbers of the user's but those it is given."""
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
"""Packages whose objects are not looked into; of torch's, distributions and their transforms are.
"""
MODULE_STATE = set(vars(nn.Module())) | {"terms"}
"""Attributes of modules that are torch's own, or what a loss leaves behind of each evaluation."""
LIMIT = 20_000
"""Holders after which the search ends: a program that reaches more reaches a data set."""


@dataclass(frozen=True)
class Holder:
    """Something mutable: `read()` gives its present content, `write(content)` puts one back."""

    path: str
    owner: object
    read: Callable[[], Content]
    write: Callable[[Content], None]
    reported: bool
    """Whether a program that changes it does what a replay would not: not so for caches of the
    libraries."""
    guarded: bool = True
    """Whether captures hold its content fixed."""
    saved: bool = True
    """Whether `write` can put it back."""

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


def is_user_code(module: str | None) -> bool:
    """Whether a module of this name belongs to none of the known packages."""
    root = (module or "torch").partition(".")[0]
    return root not in KNOWN and not root.startswith(
        "namedtuple_"
    )  # whose constructors are generated


def module_of(value: object) -> str | None:
    """The name of the module in which a function, or the class of an object, was written."""
    return getattr(value, "__module__", None)


def hooks_of(module: nn.Module) -> Iterator[Callable]:
    """What torch calls before or after it, forward and backward."""
    for hooks in (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    ):
        yield from hooks.values()


def holders(roots: Iterable[object]) -> list[Holder]:
    """All that is mutable and reached from modules, functions and objects; each once."""
    return Search(roots).found


class Search:
    """What `roots` reach: all that is mutable, and the tensors with their paths and whether these
    are `reported`."""

    def __init__(self, roots: Iterable[object]) -> None:
        self.found: list[Holder] = []
        self.tensors: list[tuple[Tensor, str, bool]] = []
        self.seen: dict[
            int, object
        ] = {}  # kept, so that none gets the identity of one that is gone
        for root in roots:
            self.visit(root, _name(root), True)

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

            def write(content: Content) -> None:
                value[...] = content[None]

            self._add(path, value, lambda: {None: value.copy()}, write, reported)
        elif (state := state_of(value)) is not None:
            if state.saved or reported:
                self.found.append(Holder(path, value, reported=reported, **vars(state)))
        elif isinstance(value, FunctionType):
            self._function(value)
        elif inspect.ismethod(value):
            self.visit(value.__self__, _name(value.__self__), reported)
            self.visit(value.__func__, path, reported)
        elif isinstance(value, functools.partial):
            for part in (value.func, value.args, value.keywords):
                self.visit(part, path, reported)
        elif isinstance(value, type):
            self._class(value)
        elif not isinstance(value, ModuleType):
            self._object(value, path, reported)

    def _add(
        self, path: str, owner: object, read: Callable, write: Callable, reported: bool
    ) -> None:
        self.found.append(Holder(path, owner, read, write, reported))

    def _module(self, module: nn.Module) -> None:
        name, own = type(module).__name__, vars(module)

        def read() -> Content:
            return {key: value for key, value in own.items() if key not in MODULE_STATE}

        def write(content: Content) -> None:
            for key in read().keys() - content.keys():
                del own[key]
            own.update(content)

        self._add(name, module, read, write, True)
        for kind in ("_parameters", "_buffers", "_modules"):
            if type(own.get(kind)) in (dict, OrderedDict):
                self._table(name, module, own[kind], kind != "_buffers")
        for key, value in read().items():
            self.visit(value, f"{name}.{key}", True)
        for hook in hooks_of(module):
            self.visit(hook, _name(hook), True)
        self.visit(type(module), name, True)
        for child in module._modules.values():
            self.visit(child, "", True)

    def _table(self, name: str, module: nn.Module, table: Content, guarded: bool) -> None:
        """Which parameters, buffers or parts a module has."""

        def write(content: Content) -> None:
            table.clear()
            table.update(content)

        self.found.append(Holder(name, module, lambda: dict(table), write, True, guarded))
        for key, value in table.items():
            if isinstance(value, Tensor):
                self.visit(value, f"{name}.{key}", True)

    def _container(self, value: dict | list | set | deque, path: str, reported: bool) -> None:
        if isinstance(value, dict):

            def write(content: Content) -> None:
                value.clear()
                value.update(content)

            self._add(path, value, lambda: dict(value), write, reported)
            parts = list(value.items())
        else:

            def write(content: Content) -> None:
                value.clear()
                (value.update if isinstance(value, set) else value.extend)(content.values())

            self._add(path, value, lambda: dict(enumerate(value)), write, reported)
            parts = list(enumerate(value))
        for key, part in parts:
            self.visit(part, f"{path}[{key!r}]", reported)

    def _function(self, function: FunctionType) -> None:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            if id(cell) not in self.seen and cell != CellType():
                self.seen[id(cell)] = cell
                self._add(
                    name,
                    cell,
                    functools.partial(_read_cell, cell),
                    functools.partial(_write_cell, cell),
                    True,
                )
                self.visit(cell.cell_contents, name, True)
        for part in (function.__defaults__, function.__kwdefaults__, vars(function)):
            self.visit(part or (), function.__name__, True)
        if is_user_code(function.__module__):
            self._globals(function.__globals__, set(_names(function.__code__)))

    def _globals(self, scope: dict[str, object], names: set[str], prefix: str = "") -> None:
        """Variables of a module that a function names; of modules of the user's among these, what
        it names there."""

        def read() -> Content:
            return {name: scope[name] for name in names if name in scope}

        def write(content: Content) -> None:
            for name in read().keys() - content.keys():
                del scope[name]
            scope.update(content)

        self._add(prefix, None, read, write, True)
        for name, value in read().items():
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

            def read(base: type = base) -> Content:
                return {
                    key: part
                    for key, part in vars(base).items()
                    if not key.startswith("__") and tell(part) is not None
                }

            def write(content: Content, base: type = base, read: Callable = read) -> None:
                for key in read().keys() - content.keys():
                    delattr(base, key)
                for key, part in content.items():
                    if vars(base).get(key) is not part:
                        setattr(base, key, part)

            self._add(base.__name__, base, read, write, True)
            for key, part in list(vars(base).items()):
                part = getattr(part, "fget", getattr(part, "__func__", part))
                if isinstance(part, FunctionType) or tell(part) is not None:
                    self.visit(part, f"{base.__name__}.{key}", True)

    def _object(self, value: object, path: str, reported: bool) -> None:
        cls = type(value)
        package = cls.__module__.partition(".")[0]
        if package in CLOSED and not cls.__module__.startswith("torch.distributions"):
            return
        reported = reported and (
            is_user_code(cls.__module__) or package not in ("pyro", "pyrovae", "zuko", "torch")
        )
        slots = [
            name
            for base in cls.__mro__
            for name in getattr(base, "__slots__", ())
            if isinstance(name, str)
        ]
        own = getattr(value, "__dict__", {})
        if is_user_code(cls.__module__):
            self.visit(cls, cls.__name__, True)
        if not own and not slots:
            return

        def read() -> Content:
            return {
                **own,
                **{
                    name: getattr(value, name)
                    for name in slots
                    if not name.startswith("__") and hasattr(value, name)
                },
            }

        def write(content: Content) -> None:
            for name in own.keys() - content.keys():
                del own[name]
            for name, part in content.items():
                if name in own or name not in slots:
                    own[name] = part
                else:
                    object.__setattr__(value, name, part)

        self._add(path or cls.__name__, value, read, write, reported)
        for name, part in read().items():
            self.visit(part, f"{path or cls.__name__}.{name}", reported)


def tell(value: object) -> str | None:
    """What a program may compute with: numbers and words by value, tensors by identity, containers
    of such; else None."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"{type(value).__name__} {id(value)}"
    if isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        return repr(value)
    if isinstance(value, (list, tuple, dict, set, frozenset, deque)):
        parts = [tell(part) for part in (value.values() if isinstance(value, dict) else value)]
        return (
            repr(parts)
            if any(part is not None for part in parts) or not isinstance(value, tuple)
            else None
        )
    return None


def _read_cell(cell: CellType) -> Content:
    return {} if cell == CellType() else {None: cell.cell_contents}


def _write_cell(cell: CellType, content: Content) -> None:
    if content:
        cell.cell_contents = content[None]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _name(value: object) -> str:
    return getattr(value, "__name__", type(value).__name__)
