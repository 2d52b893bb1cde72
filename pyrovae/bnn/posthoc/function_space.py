"""The posterior of a linearised net's outputs in closed form."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyro
import torch
import torch.nn as nn
from pyro import poutine
from torch import Tensor

from pyrovae.bnn.curvature.layers import forget, layers_of, watched
from pyrovae.bnn.curvature.roots import KronRoot, LayerRoot
from pyrovae.bnn.curvature.weights import Weights
from pyrovae.bnn.guides import JointNormal, MeanField, StructuredNormal
from pyrovae.core.batching import Data, batches, exemplar_of, size_of
from pyrovae.core.errors import PairError
from pyrovae.core.modules import find_modules
from pyrovae.core.param_store import local_param_scope
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.types import Batch
from pyrovae.programs.bayesian import Bayesian

NUMBERS = 2**24
"""Numbers of the Jacobian that are held together."""


@dataclass(frozen=True)
class OutputNormal:
    r"""N(mean_i, covariance_i) of the net's outputs at each datum: f(x_i, w*) and J_i H^{-1} J_i^T.

    Shapes: `(N, O)`, `(N, O, O)`. Data on their own: draws of two data are not correlated, as those of
    weights are.
    """

    mean: Tensor
    covariance: Tensor

    def __repr__(self) -> str:
        data, outputs = self.mean.shape
        return f"OutputNormal({data} data, {outputs} outputs)"

    @property
    def variance(self) -> Tensor:
        """`(N, O)`; of a regression's target with the variance of the noise added."""
        return self.covariance.diagonal(dim1=-2, dim2=-1)

    def sample(self, num: int) -> Tensor:
        """`(num, N, O)`."""
        values, vectors = torch.linalg.eigh(self.covariance)
        root = vectors * values.clamp_min(0.0).sqrt().unsqueeze(-2)
        noise = torch.randn(num, *self.mean.shape, dtype=root.dtype, device=root.device)
        return self.mean + (root @ noise.unsqueeze(-1)).squeeze(-1)

    def probit(self) -> Tensor:
        r"""E[softmax(f)] about softmax(mean / sqrt(1 + pi variance / 8)), `(N, O)`, without draws.

        For two classes MacKay's approximation of a sigmoid of their difference is in the same spirit;
        its correlations count there. Source: MacKay 1992, Neural Computation 4(5), eq. 10; for
        several classes Gibbs 1998, as Daxberger et al. 2021, arXiv:2106.14806, have it.
        """
        return (self.mean / (1.0 + math.pi / 8.0 * self.variance).sqrt()).softmax(-1)


def output_normal(
    model: Callable, mode: Mapping[str, Tensor], guide: nn.Module, data: Data
) -> OutputNormal:
    r"""The outputs of the `Bayesian` net of a model under a Laplace posterior, without draws of the
    weights: for regression the mean and, with the noise added, the variance of a target; for classes
    logits, with `probit` or a few `sample`s.

    model: the net itself, not the linearised one. mode: w* by site, other latent sites too. guide: as
    `LaplacePosterior.guide` or a run's guide gives it. For Kronecker factors a datum costs O outputs
    as many operations as the net has weights.
    Of several calls of such nets the first counts.
    Raises: PairError for a model that calls none, and for other guides.

    Example:
        >>> from pyrovae import Model, Node
        >>> from pyrovae.heads import CategoricalHead
        >>> from pyrovae.bnn.posthoc import fit_laplace
        >>> from pyrovae.bnn.guides import PointEstimate
        >>> net = Bayesian(nn.Linear(4, 3))
        >>> model, mode = Model(y=Node(CategoricalHead(net), "x")), PointEstimate(net).values()
        >>> batch = {"x": torch.randn(20, 4), "y": torch.zeros(20).long()}
        >>> guide = fit_laplace(model, mode, batch).guide(net)
        >>> output_normal(model, mode, guide, {"x": batch["x"]}).probit().shape
        torch.Size([20, 3])
    """
    normal = next(
        (
            part
            for part in guide.modules()
            if isinstance(part, (StructuredNormal, JointNormal, MeanField))
        ),
        None,
    )
    if normal is None:
        raise PairError(
            f"the guide is a {type(guide).__name__}, expected the normal that LaplacePosterior.guide gives."
        )
    values = {name: value.detach() for name, value in mode.items()}
    own = {site.name: values.pop(site.name) for site in normal.sites}
    program = pyro.condition(model, data=values) if values else model
    zeros = {name: torch.zeros_like(value) for name, value in own.items()}
    weights = Weights(own, zeros, zeros)
    outputs = _Outputs(program)
    means, covariances = [], []
    with (
        pyro.validation_enabled(False),
        local_param_scope(),
        preserve_state(find_modules(model, guide).values(), training=False),
        torch.no_grad(),
    ):
        for batch in batches(data, None, exemplar_of(model)):
            if isinstance(normal, StructuredNormal) and isinstance(normal.root, KronRoot):
                mean, covariance = _by_layers(outputs, weights, normal.root, batch)
            else:
                mean, covariance = _by_jacobian(outputs, weights, normal, batch)
            means.append(mean)
            covariances.append(covariance)
    return OutputNormal(torch.cat(means), torch.cat(covariances))


class _Outputs:
    """The outputs `(B, O)` of the `Bayesian` net that a program calls."""

    def __init__(self, program: Callable) -> None:
        self.program = program
        self.nets = [
            part
            for module in find_modules(program).values()
            for part in module.modules()
            if isinstance(part, Bayesian)
        ]

    def __call__(self, weights: Mapping[str, Tensor], batch: Batch) -> Tensor:
        def stop(module: nn.Module, args: tuple, output: Tensor) -> None:
            raise _Found(output)  # the targets need not be drawn, which torch.vmap cannot do

        handles = [net.register_forward_hook(stop) for net in self.nets]
        try:
            with poutine.block():
                pyro.condition(self.program, data=dict(weights))(**batch)
        except _Found as found:
            return found.output.flatten(1)
        finally:
            for handle in handles:
                handle.remove()
        raise PairError("the program calls no Bayesian net, whose outputs are asked for.")


class _Found(Exception):
    """Ends a program when its net has returned."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


def _by_jacobian(
    outputs: _Outputs, weights: Weights, normal: nn.Module, batch: Batch
) -> tuple[Tensor, Tensor]:
    def one(values: dict[str, Tensor], row: dict[str, Tensor]) -> Tensor:
        return outputs(values, {name: value.unsqueeze(0) for name, value in row.items()})[0]

    mean = outputs(weights.mode, batch)
    jacobian = torch.func.vmap(torch.func.jacrev(one), in_dims=(None, 0))
    step = max(1, NUMBERS // (weights.size * mean.shape[1]))
    parts = []
    for start in range(0, size_of(batch), step):
        rows = {name: value[start : start + step] for name, value in batch.items()}
        found = jacobian(dict(weights.mode), rows)
        flat = torch.cat([found[name].flatten(2) for name in weights.mode], 2)
        root = _times_root(normal, flat)
        parts.append(root @ root.transpose(1, 2))
    return mean, torch.cat(parts)


def _times_root(normal: nn.Module, rows: Tensor) -> Tensor:
    """J R for the root R of the covariance."""
    if isinstance(normal, JointNormal):
        return rows @ normal.distribution().scale_tril
    if isinstance(normal, StructuredNormal):
        pull = torch.func.vjp(normal.root, torch.zeros_like(rows))[1]
        return pull(rows)[0]
    assert isinstance(normal, MeanField)
    return rows * torch.cat([scale.flatten() for _, scale in normal.moments().values()])


def _by_layers(
    outputs: _Outputs, weights: Weights, root: KronRoot, batch: Batch
) -> tuple[Tensor, Tensor]:
    layers = layers_of(outputs.program, weights.mode)
    with watched(layers), torch.enable_grad():
        values = {name: value.clone().requires_grad_() for name, value in weights.mode.items()}
        mean = outputs(values, batch)
        tapped = [output for layer in layers for output in layer.outputs]
        each = [
            torch.autograd.grad(
                mean[:, index].sum(), tapped, retain_graph=True, materialize_grads=True
            )
            for index in range(mean.shape[1])
        ]
        start, total = 0, torch.zeros(())
        for layer, part in zip(layers, root.layers):
            stop = start + len(layer.outputs)
            gradients = [
                torch.cat([layer.gradients(g) for g in found[start:stop]], 1) for found in each
            ]
            inputs = torch.cat([layer.features(x) for x in layer.inputs], 1)
            assert isinstance(part, LayerRoot)
            total = total + _covariance(part, inputs, torch.stack(gradients, 1))
            start = stop
        forget(layers)
    return mean.detach(), total


def _covariance(root: LayerRoot, inputs: Tensor, gradients: Tensor) -> Tensor:
    """`(B, O, O)` of one layer, from inputs `(B, T, I)` and gradients `(B, O, T, J)`: sum_ij d_oij
    d_pij deviation_ij^2 with d = sum_t (U_B^T g_ot)_i (U_A^T a_t)_j."""
    squares = root.deviation**2
    a = inputs * root.scale @ root.inputs
    g = gradients @ root.outputs
    if inputs.shape[1] == 1:
        spread = a[:, 0] ** 2 @ squares.T
        g = g[:, :, 0]
        return (g * spread.unsqueeze(1)) @ g.transpose(1, 2)
    rows = torch.einsum("boti,btj->boij", g, a)
    return torch.einsum("boij,bpij,ij->bop", rows, rows, squares)
