"""The prediction of a trained Bayesian net as a function of tensors, for other programs to run."""

from typing import cast

import torch
import torch.nn as nn
from torch import Tensor
from torch.distributions import Categorical, Normal

import pyrovae as pv
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.traces import base_distribution
from pyrovae.prediction.weight_draws import weight_draws
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.trained_bnn import TrainedBnn


class PredictorGraph(nn.Module):
    r"""Rows `(N, D)` in the user's units (or images in the layout of the run's) -> what
    `TrainedBnn.predict` says, averaged over S draws of the weights that are a part of the graph.

    Regression: mean, total, aleatoric and epistemic, `(N, T)`, the last three standard deviations,
    in the units of y. Classes: probabilities `(N, C)`, then their entropy and its two parts in
    nats, `(N,)`. All float64, and so are rows; images are float32.
    Raises: Refusal for a linearised Laplace posterior, which is not one net for each draw.
    """

    def __init__(self, run: TrainedBnn, *, num_samples: int, seed: int = 0) -> None:
        super().__init__()
        model, guide = run.predictor.model, run.predictor.guide
        (net,) = (part for part in model.modules() if isinstance(part, pv.Bayesian))
        if net.expanded_at is not None:
            raise Refusal(
                "--method laplace predicts by the net linearised at the mode, not by a net for each draw of the "
                "weights, so there is no graph of it."
            )
        layout = run.layout
        self.node, self.net = cast(pv.Model, model).nodes["y"], net
        shape = layout.image_shape or (run.run["data"]["num_features"],)
        first = {"x": layout.x(torch.zeros(1, *shape))}
        with preserve_state([model, guide], training=False, seed=seed):
            draws = weight_draws(model, guide, first, num_samples=num_samples)
        self.names = {key: f"w{i}" for i, key in enumerate(net.initial)}
        for key, name in self.names.items():
            self.register_buffer(name, draws[f"{net.name}.{key}"].detach().clone())
        self.others = [name for name in cast(pv.Node, self.node).parents if name != "x"]
        for name in self.others:
            self.register_buffer(f"of_{name}", draws[name].detach().clone())
        self.scales = tuple(layout.scales)
        for name in self.scales:
            self.register_buffer(name, layout.scale(name))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """mean, total, aleatoric, epistemic; or probs, entropy, aleatoric, epistemic."""
        fn = self._distribution(self._in_units_of_the_net(x))
        base = base_distribution(fn)
        if isinstance(base, Categorical):
            return self._classes(base.probs.double())
        if not isinstance(base, Normal):
            raise Refusal(f"y is a {type(base).__name__}, expected a normal or a categorical.")
        return self._numbers(base.loc.double(), base.scale.double())

    def _in_units_of_the_net(self, x: Tensor) -> Tensor:
        if "x_mean" in self.scales:
            x = (x.double() - self.get_buffer("x_mean")) / self.get_buffer("x_scale")
        return x.flatten(1).float()

    def _distribution(self, x: Tensor) -> torch.distributions.Distribution:
        others = {name: self.get_buffer(f"of_{name}").unsqueeze(1) for name in self.others}
        self.net.weights = {
            key: self.get_buffer(name).unsqueeze(1) for key, name in self.names.items()
        }
        try:
            return self.node({"x": x, **others})
        finally:
            self.net.weights = None

    def _numbers(self, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, noise = _average(loc), _average(scale.expand(loc.shape).square())
        spread = _average((loc - mean).square())
        unit = self.get_buffer("y_scale")
        parts = (noise + spread, noise, spread)
        total, aleatoric, epistemic = (part.sqrt() * unit for part in parts)
        return mean * unit + self.get_buffer("y_mean"), total, aleatoric, epistemic

    def _classes(self, each: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, noise = _average(each), _average(_entropy(each))
        epistemic = (_entropy(mean) - noise).clamp_min(0.0)
        return mean / mean.sum(-1, keepdim=True), noise + epistemic, noise, epistemic


def _average(each: Tensor) -> Tensor:
    """Over draws; torch's `mean` would bring a second "mean" into the ONNX graph."""
    return each.sum(0) / len(each)


def _entropy(probs: Tensor) -> Tensor:
    return -torch.xlogy(probs, probs).sum(-1)
