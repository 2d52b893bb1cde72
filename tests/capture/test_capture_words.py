"""What cannot be captured says so in words of the user's, and what changes under a captured run
does not end it."""

import logging
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from objective_cases import X, vae
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import Tensor, nn

import pyrovae as pv


def mixture(enumerated_by: str) -> tuple[Callable, Callable, nn.ModuleList]:
    """A mixture whose component is summed out in the model, or in the guide."""
    means = nn.Embedding(3, 4)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            c = pyro.sample("c", dist.Categorical(torch.ones(3)))
            pyro.sample("x", dist.Normal(means(c), 1.0).to_event(1), obs=x)

    if enumerated_by == "model":
        return config_enumerate(model), lambda x: None, nn.ModuleList([means])
    encoder = nn.Linear(4, 3)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("c", dist.Categorical(logits=encoder(x)))

    return model, config_enumerate(guide), nn.ModuleList([means, encoder])


@pytest.mark.parametrize("enumerated_by", ["model", "guide"])
def test_enumeration_goes_on_uncompiled_and_the_log_says_enumeration(
    enumerated_by: str, caplog: pytest.LogCaptureFixture
) -> None:
    results = []
    for mode in ("off", "on"):
        pyro.set_rng_seed(0)
        model, guide, nets = mixture(enumerated_by)
        loss = pv.ElboLoss(model, guide, elbo=TraceEnum_ELBO(max_plate_nesting=1))
        with caplog.at_level(logging.INFO, logger="pyrovae"):
            pv.fit(loss, [{"x": X}] * 2, epochs=2, valid=[{"x": X}], compile=mode)
        results.append([parameter.detach().clone() for parameter in nets.parameters()])
    for uncompiled, other in zip(*results):
        assert torch.equal(uncompiled, other)
    messages = [
        record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    ]
    assert len(messages) == 1 and "uncompiled" in messages[0], messages
    assert "enumerat" in messages[0] and "TraceEnum_ELBO" in messages[0], messages
    for word in ("GuardOnDataDependentSymNode", "u0", "Size-like", "FakeTensor"):
        assert word not in caplog.text, f"{word} is none of the user's words"


def transposed(loss: nn.Module) -> None:
    """Lay out each matrix by columns where it lay by rows, and back: the same numbers in other
    strides."""
    for parameter in loss.parameters():
        if parameter.dim() == 2:
            other = (
                parameter.data.t().contiguous().t()
                if parameter.is_contiguous()
                else parameter.data.contiguous()
            )
            parameter.data = other


def hooked(where: str) -> tuple[nn.Module, dict[str, object]]:
    """A loss, and the options of `fit`, with something of the user's that changes strides in the
    course of training."""
    pyro.set_rng_seed(0)
    loss, options = pv.ElboLoss(*vae()), {}
    if where == "fit hook":
        options["hooks"] = [lambda run: transposed(loss)]
    elif where == "fit hook, later":
        options["hooks"] = [lambda run: transposed(loss) if run.epoch == 2 else None]
    elif where == "fit hook, valid":
        options |= {"hooks": [lambda run: transposed(loss)], "valid": [{"x": X}]}
    elif where == "optimiser hook":
        options["optimizer"] = torch.optim.Adam(loss.parameters(), lr=1e-3)
        options["optimizer"].register_step_post_hook(lambda *args: transposed(loss))
    elif where == "module hook":
        layer = next(module for module in loss.modules() if isinstance(module, nn.Linear))
        layer.register_forward_pre_hook(lambda *args: transposed(layer))
    return loss, options


@pytest.mark.parametrize(
    "where", ["fit hook", "fit hook, later", "fit hook, valid", "optimiser hook", "module hook"]
)
def test_strides_that_change_do_not_end_a_captured_run(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The numbers are those of the uncompiled run, whether the step is captured anew or given up
    with a line in the log."""
    results = []
    for mode in ("off", "on"):
        loss, options = hooked(where)
        with caplog.at_level(logging.INFO, logger="pyrovae"):
            pv.fit(loss, [{"x": X}] * 2, epochs=4, compile=mode, **options)
        results.append([parameter.detach().clone() for parameter in loss.parameters()])
    for uncompiled, compiled in zip(*results):
        torch.testing.assert_close(compiled, uncompiled)  # compiled sums round otherwise
    for word in ("assert_size_stride", "expected size", "FakeTensor", "data is not allocated"):
        assert word not in caplog.text, f"{word} is none of the user's words"
