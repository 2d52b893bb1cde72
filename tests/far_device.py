"""Run every component and objective on a device that is not there, and print what went wrong as
JSON.

Torch keeps shapes, types and devices of its fake tensors and computes nothing, and lets a program
name a backend of its own; so what would mix devices, wait for the device or copy constants to it
in each step shows on any machine.
"""

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pyro
import torch
from conformance import CONDITIONALS, WEIGHT_GUIDES, WEIGHT_PRIORS, parents_of
from objective_cases import LOSSES, batch_for, vae
from pyro.infer import Trace_ELBO
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import pyrovae as pv
from pyrovae.bnn.guides import Ensemble
from pyrovae.capture.concretize import ConcretizeMode, without_nan_warnings
from pyrovae.core.param_store import local_param_scope
from pyrovae.core.recording import recording
from pyrovae.core.shapes import DATA
from pyrovae.evidence.particles import Blocks
from pyrovae.heads import CategoricalHead
from pyrovae.losses.base import unwrap
from pyrovae.nets import MLP
from pyrovae.training.averages import measure

DEVICE = "far"
LEFT_OUT = (
    "hand-written",  # makes its own parameters, on the CPU
    "flow prior, coupling",
    "FlowPosterior, coupling",
    "coupling flows",  # look at masks, which have no values
    "IAF",
    "IAF, context net",
    "NonReparameterized, flow",
    "FlowPosterior, spline",  # look if an inverse is found
    "BetaHead",
    "BetaHead, image",
)  # torch cannot say what its draws would look like


def moved(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=DEVICE)


def move(*modules: nn.Module) -> None:
    """What `.to(DEVICE)` does."""
    for part in (part for module in modules for part in module.modules()):
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(
                    moved(value), requires_grad=value.requires_grad
                )
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = moved(value)


def numbers_there() -> None:
    """Fake tensors of such a backend cannot be made of numbers; of zeros they can."""
    of_numbers = torch.tensor

    def tensor(data: object, *args: object, device: object = None, **options: object) -> Tensor:
        here = of_numbers(data, *args, **options)
        if device is None or torch.device(device).type == "cpu":
            return here
        return torch.zeros(here.shape, dtype=here.dtype, device=device)

    torch.tensor = tensor
    Tensor.new_tensor = lambda self, data: tensor(data, dtype=self.dtype, device=self.device)


class Look(TorchDispatchMode):
    """Note operations between the devices."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        tensors = [
            leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)
        ]
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.seen.add(
                f"{func} mixes "
                + ", ".join(f"{tensor.device.type} {tuple(tensor.shape)}" for tensor in tensors)
            )
        return result


def objective(name: str) -> Callable[[], object]:
    loss = LOSSES[name]()
    batch = batch_for(loss, name)
    with local_param_scope():
        loss(**batch)  # parameters that are made at the first call

    def run() -> object:
        move(loss)
        value = loss(**{key: moved(data) for key, data in batch.items()})
        measured = measure(value, unwrap(loss), active_units=True)
        parameters = [parameter for parameter in loss.parameters() if parameter.requires_grad]
        return (
            value,
            measured.numbers,
            measured.units,
            torch.autograd.grad(value, parameters, allow_unused=True),
        )

    return run


def conditional(name: str) -> Callable[[], object]:
    component, parents = CONDITIONALS[name].make(), parents_of(CONDITIONALS[name], 5)

    def run() -> object:
        move(component)
        fn = component(*map(moved, parents))
        value = fn.rsample() if fn.has_rsample else fn.sample()
        return value, fn.log_prob(value)  # at once: flows remember where a draw came from

    return run


def weights(prior: str, guide: str, particles: int = 1) -> Callable[[], object]:
    net = MLP(3, [4], 2)
    model = pv.Model(
        y=pv.Node(CategoricalHead(pv.Bayesian(net, prior=WEIGHT_PRIORS[prior](net))), "x")
    )
    q = (
        WEIGHT_GUIDES[guide](model)
        if guide != "Ensemble"
        else Ensemble(model, [net, MLP(3, [4], 2)])
    )
    loss = pv.ElboLoss(
        model,
        q,
        num_data=40,
        elbo=Trace_ELBO(particles, vectorize_particles=True, max_plate_nesting=1),
    )

    def run() -> object:
        move(loss)
        return loss(x=moved(torch.rand(5, 3)), y=moved(torch.arange(5) % 2))

    return run


def log_weights() -> object:
    model, guide = vae()
    move(model, guide)
    return Blocks(model, guide, 4, DATA, "on")._checked({"x": moved(torch.zeros(3, 4))}, 8)


def problems(prepare: Callable[[], Callable[[], object]]) -> list[str]:
    pyro.set_rng_seed(0)
    try:
        run, look = prepare(), Look()
        with (
            FakeTensorMode(),
            pyro.validation_enabled(False),
            local_param_scope(),
            recording(),
            look,
            ConcretizeMode(),
            without_nan_warnings(),
        ):
            results = [leaf for leaf in tree_leaves(run()) if isinstance(leaf, Tensor)]
    except Exception as error:  # every kind is one of the things looked for
        where = [
            place
            for place in traceback.extract_tb(error.__traceback__)
            if "torch" not in Path(place.filename).parts and not place.name.startswith("__torch_")
        ][-1]
        return [
            f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {str(error)[:300]}"
        ]
    here = [
        f"a result of shape {tuple(result.shape)} lies on {result.device}"
        for result in results
        if result.device.type != DEVICE
    ]
    return [*here, *sorted(look.seen)]


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    numbers = torch.tensor
    from torch.utils.backend_registration import (
        _setup_privateuseone_for_python_backend,
    )  # from torch 2.9 on

    _setup_privateuseone_for_python_backend(DEVICE)
    torch.far.get_amp_supported_dtype = lambda: [torch.float32]
    cases: dict[str, Callable[[], Callable[[], object]]] = {
        **{
            f"objective {name}": lambda name=name: objective(name)
            for name in LOSSES
            if name not in LEFT_OUT
        },
        **{
            f"component {name}": lambda name=name: conditional(name)
            for name in CONDITIONALS
            if name not in LEFT_OUT
        },
        **{
            f"prior {name}": lambda name=name: weights(name, "MeanField") for name in WEIGHT_PRIORS
        },
        **{
            f"guide {name}, K = {particles}": lambda name=name, particles=particles: weights(
                "standard", name, particles
            )
            for name in WEIGHT_GUIDES
            for particles in (1, 3)
        },
        "log p(x)": lambda: log_weights,
        "a constant left behind": lambda: lambda: moved(torch.ones(3)) + numbers([1.0, 2.0, 3.0]),
        "a number left behind": lambda: lambda: moved(torch.ones(3)) * numbers(2.0),
        "a look at a value": lambda: lambda: [1] if moved(torch.ones(())) > 0 else [2],
    }
    found: dict[str, list[str]] = {}
    for name, prepare in cases.items():
        numbers_there()
        found[name] = problems(prepare)
        torch.tensor = numbers
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
