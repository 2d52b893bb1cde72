"""Programs as Pyro's own tutorials write them: what trains can also be predicted with, scored and exported."""
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoGuide, AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule
from torch import Tensor

import pyrovae as pv


def with_param(x: Tensor, y: Tensor | None = None) -> None:
    """A regression whose noise is a `pyro.param`."""
    noise = pyro.param("noise", torch.tensor(1.0), constraint=dist.constraints.positive)
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal((x * w).sum(-1), noise), obs=y)


class WithParam(PyroModule):
    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        with_param(x, y)


@pytest.mark.parametrize("autoguide", [AutoNormal, AutoMultivariateNormal])
@pytest.mark.parametrize("module", [False, True])
def test_an_autoguide_on_a_model_with_a_param_statement_trains_that_param(autoguide: type[AutoGuide], module: bool,
                                                                          uses_param_store: None) -> None:
    model = WithParam() if module else with_param
    guide, x = autoguide(model), torch.randn(40, 2)
    batch = {"x": x, "y": x.sum(-1) + 0.1 * torch.randn(40)}
    loss = pv.ElboLoss(model, guide, num_data=40)
    if not module:
        loss(**batch)  # Pyro's validation, on here, refuses param statements in PyroModules with parameters of their own
    parameters = []
    history = pv.fit(loss, [batch], epochs=60, lr=0.1, hooks=[lambda run: parameters.append(run.parameters)])
    noise = parameters[0]["param_store.noise"].exp()
    assert abs(noise.item() - 1.0) > 0.5, "the noise was not trained"
    assert history[-1]["elbo"] > history[0]["elbo"] + 0.5
    aleatoric = pv.predict_moments(model, guide, batch, num_samples=3).aleatoric
    torch.testing.assert_close(aleatoric, noise.detach().square().expand(40))
