"""Outputs of a program whose Jacobian in the weights is a root of the Fisher information."""

from collections.abc import Callable, Mapping

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import MaskedDistribution
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, Poisson

from pyrovae.core.batching import size_of
from pyrovae.core.shapes import DATA
from pyrovae.core.traces import is_subsample, plate_frame
from pyrovae.core.types import Site, nodes_of

DRAWN = "drawn "
"""Prefix of the targets that `FisherOutputs.with_draws` adds to a batch."""


class FisherOutputs:
    r"""z_i(w), `(B, M)`, with sum_m grad z_im grad z_im^T = F_i, the Fisher information of datum i at w*.

    Exact for normal, categorical, Bernoulli and Poisson sites: z are functions of their parameters in
    which their Fisher information is the identity, so that F_i = J_i^T J_i, which for all of them but
    a normal with a predicted scale is the generalised Gauss-Newton matrix. For other sites z is log
    p(y | x_i, w) / S^(1/2) at S = `num_draws` targets y drawn from the model.

    Source: Martens 2020, arXiv:1412.1193, sections 9 and 10.
    """

    def __init__(
        self,
        model: Callable,
        mode: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
        num_draws: int,
    ) -> None:
        self.model, self.num_draws = model, num_draws
        with torch.enable_grad():
            sites = self.sites(
                {name: value.detach().requires_grad_() for name, value in mode.items()}, batch
            )
            found = {name: coordinates(site["fn"]) for name, site in sites.items()}
        self.needed = {
            name: [value.requires_grad for value in values]
            for name, values in found.items()
            if values is not None
        }
        """For each site of a known family the coordinates that depend on the weights."""
        self.has_fixed_noise = all(
            isinstance(base_of_event(site["fn"]), Normal) and self.needed[name] == [True, False]
            for name, site in sites.items()
        )
        """Whether all sites are normal with a scale that does not depend on the weights."""

    def sites(self, weights: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Site]:
        """The sites in the plate over data, under these weights; `fn.mask(...)` is moved to their mask."""
        with poutine.block():
            trace = poutine.trace(poutine.condition(self.model, data=dict(weights))).get_trace(
                **{name: value for name, value in batch.items() if not name.startswith(DRAWN)}
            )
        return {
            name: _unmasked(site)
            for name, site in nodes_of(trace).items()
            if site["type"] == "sample"
            and name not in weights
            and not is_subsample(site)
            and not site["infer"].get("_deterministic")
            and plate_frame(site, DATA) is not None
        }

    def with_draws(
        self, mode: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The batch and, for sites of other families, targets `(B, S, *event)` drawn at w*."""
        if self.exact:
            return dict(batch)
        with torch.no_grad():
            drawn = {
                DRAWN + name: site["fn"].sample(torch.Size([self.num_draws])).transpose(0, 1)
                for name, site in self.sites(mode, batch).items()
                if name not in self.needed
            }
        return {**batch, **drawn}

    @property
    def exact(self) -> bool:
        return None not in self.needed.values() and bool(self.needed)

    def __call__(self, weights: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """z `(B, M)` under these weights."""
        return self.with_masked(weights, batch)[0]

    def with_masked(
        self, weights: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """z `(B, M)`, and which data all sites mask, `(B,)`."""
        parts, masks = [], []
        for name, site in self.sites(weights, batch).items():
            values = coordinates(site["fn"]) if name in self.needed else None
            if values is None:
                targets = batch[DRAWN + name].transpose(0, 1)
                rows = site["fn"].log_prob(targets).T / self.num_draws**0.5
            else:
                used = [value for value, need in zip(values, self.needed[name]) if need]
                rows = torch.cat([value.reshape(size_of(batch), -1) for value in used], 1)
            mask = torch.as_tensor(True if site["mask"] is None else site["mask"])
            masks.append(mask.to(rows.device).expand(len(rows)))
            parts.append(torch.where(masks[-1].unsqueeze(-1), rows, torch.zeros_like(rows)))
        return torch.cat(parts, 1), ~torch.stack(masks).any(0)


def _unmasked(site: Site) -> Site:
    fn, mask = site["fn"], site["mask"]
    while isinstance(fn, MaskedDistribution):
        mask = fn._mask if mask is None else torch.as_tensor(mask) & torch.as_tensor(fn._mask)
        fn = fn.base_dist
    return {**site, "fn": fn, "mask": mask}


def base_of_event(fn: Distribution) -> Distribution:
    """The distribution inside `.to_event`."""
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return fn


def coordinates(fn: Distribution) -> list[Tensor] | None:
    """Functions of the parameters of a distribution in which its Fisher information, at their present
    values, is the identity; None for families without a rule.

    Example:
        >>> fn = dist.Normal(torch.zeros(3), 2.0)
        >>> [value.shape for value in coordinates(fn) or []]
        [torch.Size([3]), torch.Size([3])]
    """
    base = base_of_event(fn)
    if isinstance(base, Normal):
        return [base.loc / base.scale.detach(), 2**0.5 * base.scale.log()]
    if isinstance(base, Categorical):
        return [2.0 * (0.5 * base.logits.log_softmax(-1)).exp()]
    if isinstance(base, Bernoulli) and type(base) in (Bernoulli, dist.Bernoulli):
        p = base.probs.detach()
        return [(p * (1.0 - p)).sqrt() * base.logits]
    if isinstance(base, Poisson):
        return [2.0 * base.rate.sqrt()]
    return None
