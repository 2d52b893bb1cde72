"""Laplace's approximation with its evidence, by which the prior and the noise are fitted."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import pyro
import torch
import torch.nn as nn
from torch import Tensor
from torch.distributions import Normal

from pyrovae.bnn.curvature import Curvature, CurvatureOf, Kron
from pyrovae.bnn.curvature.fisher import FisherOutputs, base_of_event
from pyrovae.bnn.curvature.weights import Weights
from pyrovae.bnn.posthoc.laplace import linearize, mode_sites
from pyrovae.bnn.posthoc.scaled_noise import ScaledNoise
from pyrovae.core.batching import Data, Like, batches, exemplar_of
from pyrovae.core.errors import PairError
from pyrovae.core.modules import find_modules
from pyrovae.core.param_store import local_param_scope
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.traces import log_prob
from pyrovae.core.types import Batch

LARGEST = 30.0
"""Of the logarithm of a fitted factor: a layer whose weights are 0 has no largest precision."""


@dataclass(frozen=True, repr=False)
class LaplacePosterior:
    r"""N(w*, H^{-1}) with H = noise_scale^-2 sum_i F_i + prior_precision * prior's precision.

    prior_precision: for each layer a factor of the precision of the model's prior, `(L,)`; with a prior
    N(0, 1) the precision itself. noise_scale: a factor of the scale of normal observations. As
    `fit_laplace` returns it both are 1; `fit_prior` gives those of the largest evidence.
    Predict by the model of `linearize(model)` with `guide(net)`.

    Source: MacKay 1992, Neural Computation 4(3); Immer et al. 2021, arXiv:2104.04975.
    """

    weights: Weights
    curvature: Curvature
    log_likelihood: float
    """log p(D | w*), nats."""
    squares: float
    """Sum of the squared standardised residuals of normal observations."""
    observations: int
    """Number of normal observations; 0 where the noise has no common scale."""
    prior_precision: Tensor
    noise_scale: Tensor

    def __repr__(self) -> str:
        precisions = ", ".join(
            f"{layer}: {precision:.3g}"
            for layer, precision in zip(self.layers, self.prior_precision.tolist())
        )
        noise = f", noise_scale={float(self.noise_scale):.3g}" if self.observations else ""
        return f"LaplacePosterior({self.weights.size} weights, prior_precision={{{precisions}}}{noise})"

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the L layers."""
        return self.weights.layers

    def log_det(
        self,
        prior_precision: Tensor | float | None = None,
        noise_scale: Tensor | float | None = None,
    ) -> Tensor:
        """log |H|, float64."""
        precision, noise = self._factors(prior_precision, noise_scale)
        scales = self.weights.scale.double().log().sum()
        return self.curvature.log_det(precision, noise**-2) - 2.0 * scales

    def log_marginal_likelihood(
        self,
        prior_precision: Tensor | float | None = None,
        noise_scale: Tensor | float | None = None,
    ) -> Tensor:
        r"""log p(D) = log p(D | w*) + log p(w*) + P/2 log 2 pi - 1/2 log |H|, in nats, float64,
        differentiable in both arguments: by default those of this posterior.

        prior_precision: one factor, or one for each of the `layers`.
        Raises: ValueError for another noise scale where observations are not normal with a scale that
        weights do not predict.
        """
        precision, noise = self._factors(prior_precision, noise_scale)
        if not self.observations and noise_scale is not None and bool((noise != 1.0).any()):
            raise ValueError(
                f"noise_scale={noise_scale}, but not all observations are normal with a scale of their own, "
                "so there is no noise to scale. Leave it out."
            )
        likelihood = (
            self.log_likelihood
            - self.observations * noise.log()
            - 0.5 * (noise**-2 - 1.0) * self.squares
        )
        sizes, distances = self.weights.sizes(), self.weights.distances()
        # the scales of the prior and 2 pi cancel between log p(w*) and log |H|
        prior = 0.5 * (sizes * precision.log() - precision * distances).sum()
        return likelihood + prior - 0.5 * self.curvature.log_det(precision, noise**-2)

    def effective_parameters(self) -> Tensor:
        """P - tr(H^{-1} H_prior), the number of directions that the data determine."""
        precision = self.prior_precision.clone().requires_grad_()
        self.curvature.log_det(precision, self.noise_scale**-2).backward()
        assert precision.grad is not None
        return self.weights.size - (precision.grad * self.prior_precision).sum()

    def fit_prior(self, *, per_layer: bool = False, noise: bool = True) -> "LaplacePosterior":
        """This posterior at the factors of the largest evidence, the mode being fixed; cheap, as the
        curvature is kept.

        per_layer: a precision for each layer, else one. noise: also fit the scale of the noise, where
        there is one.
        """
        size = len(self.layers) if per_layer else 1
        start = self.prior_precision.log()
        log_precision = (start if per_layer else start.mean().reshape(1)).clone()
        log_noise = self.noise_scale.log().clone()
        fit_noise = noise and self.observations > 0
        moved = [log_precision.requires_grad_()]
        if fit_noise:
            moved.append(log_noise.requires_grad_())
        optimizer = torch.optim.LBFGS(
            moved, max_iter=200, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def factors() -> tuple[Tensor, Tensor]:
            return (
                log_precision.clamp(-LARGEST, LARGEST).exp(),
                log_noise.clamp(-LARGEST, LARGEST).exp(),
            )

        def closure() -> Tensor:
            optimizer.zero_grad()
            precision, scale = factors()
            value = -self.log_marginal_likelihood(
                precision if size > 1 else precision.squeeze(0), scale if fit_noise else None
            )
            value.backward()
            return value

        with torch.enable_grad():
            optimizer.step(closure)
        precision, scale = (value.detach() for value in factors())
        return replace(
            self,
            prior_precision=precision.expand(len(self.layers)),
            noise_scale=scale if fit_noise else self.noise_scale,
        )

    def linearize(self, model: nn.Module) -> nn.Module:
        """The model to predict with: linear in the weights about w*, its normal observations with the noise
        of `fit_prior`. Sites that `pyro.condition` held in the fit are held so here too:
        `pyro.condition(posterior.linearize(model), data=...)`."""
        linear = linearize(model, self.weights.mode)
        return linear if self.noise_scale == 1.0 else ScaledNoise(linear, self.noise_scale)

    def guide(self, net: nn.Module) -> nn.Module:
        """The posterior as a guide of the weights of `net`: a `Bayesian` net, or a module that holds it.
        The noise is no weight: predict with the model of `linearize`."""
        with torch.no_grad():
            guide = self.curvature.guide(net, self.prior_precision, self.noise_scale**-2)
        return guide.requires_grad_(False)

    def _factors(
        self, prior_precision: Tensor | float | None, noise_scale: Tensor | float | None
    ) -> tuple[Tensor, Tensor]:
        precision, noise = (
            torch.as_tensor(own if given is None else given).to(self.prior_precision)
            for given, own in (
                (prior_precision, self.prior_precision),
                (noise_scale, self.noise_scale),
            )
        )
        if precision.dim() > 1 or precision.numel() not in (1, len(self.layers)):
            raise ValueError(
                f"prior_precision has shape {tuple(precision.shape)}, expected one number or one for each of the "
                f"{len(self.layers)} layers {self.layers}."
            )
        return precision.expand(len(self.layers)), noise


def fit_laplace(
    model: Callable,
    mode: Mapping[str, Tensor],
    data: Data,
    curvature: CurvatureOf | None = None,
    *,
    num_draws: int = 1,
) -> LaplacePosterior:
    r"""Laplace's approximation at w*, with its evidence; `Kron()` curvature by default.

    mode: w* by site, as `PointEstimate.values()` gives it; other latent sites (a noise variance) are
    held by `pyro.condition(model, data={...})`. data: the training set, with its targets. The prior
    of the weights is normal.

    num_draws: targets drawn from the model for each datum where the likelihood is not normal,
    categorical, Bernoulli or Poisson; for those the curvature is exact.
    Raises: PairError as `laplace`, and for a prior or a layer that the curvature does not take.

    Example:
        >>> from pyrovae import Bayesian, Model, Node
        >>> from pyrovae.heads import FixedScaleNormalHead
        >>> from pyrovae.bnn.guides import PointEstimate
        >>> net = Bayesian(nn.Linear(3, 1))
        >>> model = Model(y=Node(FixedScaleNormalHead(net, scale=0.1), "x"))
        >>> batch = {"x": torch.randn(20, 3), "y": torch.randn(20, 1)}
        >>> posterior = fit_laplace(model, PointEstimate(net).values(), batch).fit_prior()
        >>> posterior.layers, posterior.guide(net)()["w.weight"].shape
        (('w',), torch.Size([1, 3]))
    """
    present = {name: mode[name] for name in mode_sites(model, mode, data)}
    passes = _Passes(data, exemplar_of(model))
    with (
        pyro.validation_enabled(False),
        local_param_scope(),
        preserve_state(find_modules(model).values(), training=False),
        torch.no_grad(),
    ):
        first = next(iter(passes))
        weights = Weights.at(model, present, first)
        outputs = FisherOutputs(model, weights.mode, first, num_draws)
        found = (curvature or Kron())(outputs, weights, passes)
        likelihood, squares, count = _likelihood(outputs, weights, passes)
    ones = torch.ones(1, dtype=torch.float64, device=weights.loc.device)
    return LaplacePosterior(
        weights, found, likelihood, squares, count, ones.expand(len(weights.layers)), ones[0]
    )


def laplace_guide(
    model: Callable, net: nn.Module, mode: Mapping[str, Tensor], curvature: CurvatureOf
) -> nn.Module:
    """A guide of the structure of `fit_laplace(...).guide(net)`, to load a saved state into: mean w*,
    the precision of standard normals."""
    mode = {name: value.detach() for name, value in mode.items()}
    zeros = {name: torch.zeros_like(value) for name, value in mode.items()}
    weights = Weights(mode, zeros, {name: torch.ones_like(value) for name, value in mode.items()})
    one = weights.loc.new_ones((), dtype=torch.float64)
    with torch.no_grad():
        found = curvature.zero(model, weights)
        return found.guide(net, one.expand(len(weights.layers)), one)


@dataclass(frozen=True)
class _Passes:
    """The batches of each pass through the data."""

    data: Data
    like: Like

    def __iter__(self) -> Iterator[Batch]:
        return batches(self.data, None, self.like)


def _likelihood(
    outputs: FisherOutputs, weights: Weights, data: Iterable[Batch]
) -> tuple[float, float, int]:
    """log p(D | w*), and the sum and number of squared standardised residuals."""
    total, squares, count = 0.0, 0.0, 0
    for batch in data:
        for name, site in outputs.sites(weights.mode, batch).items():
            if not site["is_observed"]:
                raise PairError(
                    f"the data hold no {name!r}, so the evidence of the model is unknown. Add the targets."
                )
            total += float(log_prob(site).double().sum())
            base = base_of_event(site["fn"])
            if outputs.has_fixed_noise and isinstance(base, Normal):
                residuals = ((site["value"] - base.loc) / base.scale).double()
                if site["mask"] is not None and site["mask"] is not True:
                    mask = torch.as_tensor(site["mask"]).expand(len(residuals))
                    residuals = residuals[mask]
                squares += float(residuals.square().sum())
                count += residuals.numel()
    return total, squares, count
