"""Check the saved state of an optimiser, a schedule and random generators before any of them is
changed."""

import math
import random as python_random
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from pyrovae.core.preserve_state import RandomState, preserve_state


def check_optimizer(
    saved: object,
    optimizer: torch.optim.Optimizer,
    names: Mapping[Tensor, str],
    weights: Mapping[str, Tensor],
) -> None:
    """Raise ValueError, with the reason, for a state that `optimizer` cannot go on from.

    names: of its parameters. weights: the saved ones, whose precision the state may have instead
    of the present one. Each tensor is held against what one step of such an optimiser keeps for a
    parameter of that shape: fused updates go by memory, and would read and write past a smaller
    one.
    """
    if (
        not isinstance(saved, dict)
        or not isinstance(saved.get("state"), dict)
        or not isinstance(saved.get("param_groups"), list)
    ):
        raise ValueError("its optimizer has no state and no parameter groups")
    groups = saved["param_groups"]
    if len(groups) != len(optimizer.param_groups):
        raise ValueError(
            f"its optimizer has {len(groups)} groups of parameters, this one {len(optimizer.param_groups)}"
        )
    known: set[object] = set()
    for index, (old, group) in enumerate(zip(groups, optimizer.param_groups)):
        _alike(
            old,
            {key: value for key, value in group.items() if key != "params"},
            f"group {index} of the optimizer",
        )
        places = old.get("params")
        if not isinstance(places, list) or len(places) != len(group["params"]):
            raise ValueError(
                f"group {index} of its optimizer holds another number of parameters than this one's "
                f"{len(group['params'])}"
            )
        for place, parameter in zip(places, group["params"]):
            known.add(place)
            if place in saved["state"]:
                name = names.get(parameter, f"parameter {place}")
                expected = optimizer.state.get(parameter) or _after_one_step(
                    optimizer, {**group, **old}, parameter
                )
                _check_state(
                    saved["state"][place], expected, name, weights.get(name, parameter).dtype
                )
    if lost := [place for place in saved["state"] if place not in known]:
        raise ValueError(
            f"its optimizer holds state of parameters {lost[:3]}, which none of its groups has"
        )


def check_schedule(saved: object, schedule: LRScheduler) -> None:
    """Raise ValueError for a state that does not belong to such a schedule."""
    _alike(saved, schedule.state_dict(), "the schedule")


def check_random(saved: RandomState, generators: Sequence[torch.Generator]) -> None:
    """Raise ValueError for a state that generators of these kinds cannot take. The number of
    generators may differ."""
    try:
        torch.Generator().set_state(saved["torch"])
        np.random.RandomState(0).set_state(saved["numpy"])
        python_random.Random().setstate(saved["python"])
        for state in saved["cuda"] if torch.cuda.is_available() else ():
            torch.Generator("cuda").set_state(state)
        for generator, state in zip(generators, saved["generators"]):
            torch.Generator(generator.device).set_state(state)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(
            f"its random states fit no generator ({str(error).strip().partition(chr(10))[0]})"
        ) from error


def check_history(saved: object) -> None:
    if not isinstance(saved, list) or not all(
        isinstance(row, dict)
        and all(
            isinstance(name, str) and isinstance(value, (int, float))
            for name, value in row.items()
        )
        for row in saved
    ):
        raise ValueError("its history is no list of rows of numbers")


def _alike(saved: object, expected: object, where: str) -> None:
    """Require the same types and structure, by name and by index; where `expected` is None,
    anything is allowed."""
    if isinstance(expected, dict):
        if not isinstance(saved, dict):
            raise ValueError(f"{where} is {_short(saved)}, expected a dict")
        for key, value in expected.items():
            if key in saved:
                _alike(saved[key], value, f"{where}, {key}")
            elif value is not None and not isinstance(
                value, bool
            ):  # a newer torch may have more flags
                raise ValueError(f"{where} lacks {key}")
    elif isinstance(expected, (list, tuple)):
        if not isinstance(saved, (list, tuple)) or len(saved) < len(expected):
            raise ValueError(f"{where} is {_short(saved)}, expected {len(expected)} values")
        for index, (one, other) in enumerate(zip(saved, expected)):
            _alike(one, other, f"{where}, {index}")
    elif isinstance(expected, Tensor) and isinstance(saved, Tensor):
        if saved.shape != expected.shape or saved.isnan().any():
            raise ValueError(
                f"{where} is {_short(saved)}, expected {tuple(expected.shape)} numbers"
            )
    elif isinstance(expected, (int, float, Tensor)) and not isinstance(expected, bool):
        if not isinstance(saved, (int, float)) or math.isnan(saved):
            raise ValueError(f"{where} is {_short(saved)}, expected a number")
    elif expected is not None and saved is not None and type(saved) is not type(expected):
        raise ValueError(f"{where} is {_short(saved)}, expected a {type(expected).__name__}")


def _check_state(
    saved: object, expected: dict[str, object] | None, name: str, precision: torch.dtype
) -> None:
    """Check the state that an optimiser keeps for one parameter. `expected` None: it could not
    be determined."""
    if not isinstance(saved, dict):
        raise ValueError(f"the optimizer's state of {name} is {_short(saved)}")
    if lacking := sorted(set(expected or ()) - saved.keys()):
        raise ValueError(f"the optimizer's state of {name} lacks {', '.join(lacking)}")
    for key, value in saved.items():
        other = (expected or {}).get(key)
        if isinstance(value, Tensor) and not value.isfinite().all():
            raise ValueError(f"{key} of {name} holds numbers that are not finite")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key} of {name} is {value}")
        if isinstance(other, Tensor) and not (
            isinstance(value, Tensor)
            and value.shape == other.shape
            and (
                value.dtype in (other.dtype, precision)
                or not value.dim()
                and value.is_floating_point()
            )
        ):
            raise ValueError(f"{key} of {name} is {_short(value)}, expected {_short(other)}")
        if isinstance(other, (int, float)) and not isinstance(value, (int, float)):
            raise ValueError(f"{key} of {name} is {_short(value)}, expected a number")


def _after_one_step(
    optimizer: torch.optim.Optimizer, group: dict[str, object], parameter: Tensor
) -> dict[str, object] | None:
    """The state that such an optimiser keeps for a parameter of that shape after one step; None
    where it cannot take a step alone."""
    twin = torch.zeros_like(parameter, requires_grad=True)
    twin.grad = torch.zeros_like(twin)
    scratch = object.__new__(type(optimizer))
    scratch.__dict__ |= {
        name: value for name, value in vars(optimizer).items() if name != "step"
    }  # schedules wrap `step`
    scratch.__dict__ |= {
        name: OrderedDict() for name in vars(optimizer) if name.startswith("_optimizer_step_")
    }
    scratch.state, scratch.param_groups = defaultdict(dict), [{**group, "params": [twin]}]
    try:
        with preserve_state([]):
            scratch.step()
    except Exception:  # a user's optimiser may need more than a gradient
        return None
    return dict(scratch.state[twin])


def _short(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return repr(value) if isinstance(value, (bool, int, float, str)) else type(value).__name__
