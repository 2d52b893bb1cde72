"""Which code is the user's: it may read numbers from anywhere, so captures treat it with care."""

import sys

import torch.nn as nn

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
"""Packages whose code depends on its arguments and its objects alone."""
MODULE_STATE = set(vars(nn.Module())) | {"terms"}
"""Attributes of modules that are torch's own, or in which a loss stores its last terms."""


def is_user_code(module: str | None) -> bool:
    """Whether a module of this name belongs to none of the known packages."""
    root = (module or "torch").partition(".")[0]
    generated = root.startswith("namedtuple_")  # the constructors of named tuples
    return root not in KNOWN and not generated


def module_of(value: object) -> str | None:
    """The name of the module in which a function, or the class of an object, was written."""
    return getattr(value, "__module__", None)  # partials and functions written in C have none


def uses_user_code(module: nn.Module) -> bool:
    """Whether a class of its parts, or a function among their attributes, is user code."""
    return any(
        holds_user_code(type(part))
        or holds_user_code(
            [value for name, value in vars(part).items() if name not in MODULE_STATE]
        )
        for part in module.modules()
    )


def holds_user_code(value: object) -> bool:
    """Whether it is a class or function from outside the known packages, or a container of one."""
    if isinstance(value, (list, tuple, dict)):
        return any(map(holds_user_code, value.values() if isinstance(value, dict) else value))
    return callable(value) and is_user_code(module_of(value))
