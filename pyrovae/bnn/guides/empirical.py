"""Stored nets as a guide: draws of a Markov chain, and ensembles that train."""

from collections.abc import Mapping, Sequence

import pyro
import pyro.distributions as dist
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.bnn.guides.choice import StratifiedIndex
from pyrovae.bnn.guides.sites import weight_sites
from pyrovae.core.param_store import register_params

INDEX = "_net."
"""The auxiliary site that says which net a particle takes is this and the name of the first
weight."""


class Empirical(nn.Module):
    r"""q(w) = 1/S sum_s delta(w - w_s), the draws of any sampler as a guide, e.g. for `predict`
    and `log_predictive`.

    `samples` holds `(S, *shape)` for each site; all sites of one particle come from the same draw.
    S particles take each draw once, fewer are spread evenly over the chain. Of several chains:
    `Empirical(chains.flat())`.
    Raises: ValueError where the sites differ in S; TypeError for what is no mapping.

    Example:
        >>> guide = Empirical({"w": torch.arange(3.0)})
        >>> with pyro.plate("particles", 3, dim=-2):
        ...     guide()["w"].flatten()
        tensor([0., 1., 2.])
    """

    def __init__(self, samples: Mapping[str, Tensor]) -> None:
        super().__init__()
        if not isinstance(samples, Mapping):
            raise TypeError(
                f"the samples are {type(samples).__name__}, expected draws by site: those of chains are chains.flat()."
            )
        counts = {name: len(value) for name, value in samples.items()}
        if len(set(counts.values())) != 1 or 0 in counts.values():
            raise ValueError(f"the sites have {counts} draws, expected one number S >= 1 for all.")
        self.count = next(iter(counts.values()))
        self.names = list(samples)
        for index, value in enumerate(samples.values()):
            self.register_buffer(f"draws_{index}", value.detach().contiguous())

    def forward(self, *args: object, **data: object) -> dict[str, Tensor]:
        return _choose(self.samples(), self.count)

    def samples(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(f"draws_{index}") for index, name in enumerate(self.names)}


class Ensemble(nn.Module):
    r"""M nets trained side by side, q(w) = 1/M sum_m delta(w - w_m): a deep ensemble of MAP
    estimates in one program.

    `members` are nets of the architecture of `net`, whose weights are where each starts. Train
    with M vectorised particles, `ElboLoss(..., elbo=Trace_ELBO(num_particles=M,
    vectorize_particles=True))`: each then has its gradient.
    Source: Lakshminarayanan, Pritzel & Blundell 2017, arXiv:1612.01474, algorithm 1, without
    adversarial examples.

    Example:
        >>> from pyrovae import Bayesian
        >>> guide = Ensemble(Bayesian(nn.Linear(3, 2)), [nn.Linear(3, 2) for _ in range(5)])
        >>> guide()["w.bias"].shape
        torch.Size([2])
    """

    def __init__(self, net: nn.Module, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs at least one net.")
        self.sites = weight_sites(net)
        named = [dict(member.named_parameters()) for member in members]
        keys = [_key(site.name, named[0]) for site in self.sites]
        self.count = len(members)
        self.loc = nn.ParameterList(
            torch.stack(
                [
                    site.unconstrained
                    if key is None
                    else site.transform.inv(parameters[key].detach())
                    for parameters in named
                ]
            )
            for site, key in zip(self.sites, keys)
        )
        wrong = [
            site.name for site, loc in zip(self.sites, self.loc) if not torch.isfinite(loc).all()
        ]
        if wrong:
            raise ValueError(
                f"some members' weights {wrong} lie outside the support of their prior. Start them inside."
            )

    def forward(self, *args: object, **data: object) -> dict[str, Tensor]:
        register_params(self, "guide")
        return _choose(self.samples(), self.count)

    def samples(self) -> dict[str, Tensor]:
        return {site.name: site.transform(loc) for site, loc in zip(self.sites, self.loc)}


def _choose(samples: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    first, value = next(iter(samples.items()))
    index = pyro.sample(
        INDEX + first, StratifiedIndex(count, value.device), infer={"is_auxiliary": True}
    )
    rows = index.reshape(-1)  # a lone number would be read as one, and the host wait for it
    return {
        name: pyro.sample(
            name,
            dist.Delta(
                value.index_select(0, rows).reshape(index.shape + value.shape[1:]),
                event_dim=value.dim() - 1,
            ),
        )
        for name, value in samples.items()
    }


def _key(site: str, parameters: Mapping[str, Tensor]) -> str | None:
    return max(
        (key for key in parameters if site.endswith(f".{key}")), key=len, default=None
    )  # "w.a.b" ends in "b" too
