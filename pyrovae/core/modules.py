"""The modules that a callable reaches: those to train, move, save and put into eval mode with
it."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import CellType, CodeType, FunctionType

import torch.nn as nn

from pyrovae.core.types import HasWrapped


def find_modules(*programs: Callable) -> dict[str, nn.Module]:
    """The nn.Modules that programs are or reach, by name.

    The search covers a method's owner and its attributes, a partial's arguments, and a function's
    defaults, the variables it closes over and the globals it names; lists, tuples and mappings
    among these; and, in turn, functions among these that are written in the program's own file.

    Example:
        >>> net = nn.Linear(2, 3)
        >>> def helper(x): return net(x)
        >>> find_modules(lambda x: helper(x))
        {'net': Linear(in_features=2, out_features=3, bias=True)}
    """
    found: dict[str, nn.Module] = {}
    seen: dict[int, object] = {}  # by identity; kept alive, so that no identity is used twice

    def visit(name: str, value: object, home: str | None) -> None:
        if id(value) in seen:
            return
        seen[id(value)] = value
        if isinstance(value, nn.Module):
            found[f"{name}_{len(found)}" if name in found else name] = value
        elif isinstance(value, Mapping):
            for key, part in list(value.items()):
                visit(str(key), part, home)
        elif isinstance(value, (list, tuple)):
            for index, part in enumerate(value):
                visit(f"{name}_{index}", part, home)
        elif inspect.isfunction(value) and (home is None or value.__module__ == home):
            function = inspect.unwrap(value)
            reached = {**_variables(function), **(function.__kwdefaults__ or {})}
            visit("default", function.__defaults__ or (), function.__module__)
            visit(name, reached, function.__module__)
        elif home is None or isinstance(value, functools.partial) or inspect.ismethod(value):
            enter(name, value)

    def enter(name: str, program: object) -> None:
        """Visit a callable that is not a plain function: a method, a partial, a wrapped function,
        an object with `__call__`."""
        if isinstance(program, functools.partial):
            for value in (*program.args, *program.keywords.values()):
                if inspect.isroutine(value) or isinstance(
                    value, functools.partial
                ):  # as Pyro's handlers wrap programs
                    visit(name, value, None)
            visit(name, [program.args, program.keywords], "")
            visit(name, program.func, None)
        elif inspect.ismethod(program):
            visit("owner", program.__self__, "")
            visit(name, program.__func__, None)
            visit(name, attributes_of(program.__self__), "")
        elif isinstance(program, HasWrapped):
            visit(name, program.__wrapped__, None)
        else:
            visit(name, attributes_of(program), "")

    for program in programs:
        visit(name_of(program), program, None)
    return found


def attributes_of(value: object) -> dict[str, object]:
    """The `__dict__` of an object, or an empty one."""
    try:
        return vars(value)
    except TypeError:  # an object with slots alone, or of a class written in C
        return {}


def name_of(value: object) -> str:
    """Its `__name__`, or that of its class."""
    # functions, classes and modules have one, and any other object may
    return getattr(value, "__name__", type(value).__name__)


def _variables(function: FunctionType) -> dict[str, object]:
    """The globals that a function and its inner functions name, and the variables it closes over
    that are assigned already."""

    def names(code: CodeType) -> Iterator[str]:
        yield from code.co_names
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from names(constant)

    cells = zip(function.__code__.co_freevars, function.__closure__ or ())
    return {
        **{
            name: function.__globals__[name]
            for name in names(function.__code__)
            if name in function.__globals__
        },
        **{name: cell.cell_contents for name, cell in cells if cell != CellType()},
    }
