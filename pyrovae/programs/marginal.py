"""A model with its discrete latents summed out exactly."""

from collections.abc import Callable, Hashable

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyrovae.core.elimination import Factor, Variable, eliminate
from pyrovae.core.errors import PairError
from pyrovae.core.modules import find_modules
from pyrovae.core.shapes import DATA, MAX_PLATE_NESTING
from pyrovae.core.traces import run_pair, sample_sites
from pyrovae.core.types import Batch, PlateFrame, Shape, Site, nodes_of
from pyrovae.core.wrapped_distribution import WrappedDistribution


class Marginal(nn.Module):
    r"""The model \sum_k p(x, z, k): sites marked `infer={"enumerate": "parallel"}` are summed out.

    What is left is a model of the other latents z, or of none, that any loss and estimate takes:
    `ElboLoss(Marginal(model), guide)` needs no `TraceEnum_ELBO`, and `log_evidence(Marginal(model),
    None, data)` is exact where all latents are discrete. Programs with `pyro.markov` (hidden
    Markov models) cost what the forward algorithm does.

    The log-probability of all sites that depend on a summed value is reported at the first of them
    that is observed (at the first, if none is), and 0 at the others. Draw from the model itself,
    not from its marginal.

    plate: name of the plate over data; enumerated sites lie in it. max_plate_nesting: plates that
        the model opens, counted from dim -1 to the left; dims left of them, and of the particles at
        dim -2, are enumerated.

    Raises: PairError for an enumerated site outside `plate`, for `poutine.scale` or subsampling
    inside the model on a site that is summed (a scale has no place within the sum), and where a
    site that depends on a summed value is drawn from the model.

    Example:
        >>> from pyrovae import Model, Node
        >>> from pyrovae.heads import BernoulliHead
        >>> from pyrovae.priors import Mixing
        >>> parts = nn.Embedding(3, 4)  # logits of three components
        >>> model = Model(k=Node(Mixing(3), infer={"enumerate": "parallel"}),
        ...               x=Node(BernoulliHead(parts), "k"))
        >>> from pyrovae import log_evidence
        >>> log_evidence(model, None, {"x": torch.ones(2, 4)}).log_px.shape
        torch.Size([2])
    """

    def __init__(
        self, model: Callable, *, plate: str = DATA, max_plate_nesting: int = MAX_PLATE_NESTING
    ) -> None:
        super().__init__()
        self.model, self.plate = model, plate
        self.first_dim = -1 - max(2, max_plate_nesting)
        self.found = nn.ModuleDict(
            {name: module for name, module in find_modules(model).items() if module is not model}
        )

    def forward(self, **batch: Tensor) -> object:
        with EnumMessenger(self.first_dim), _SumOut(self.plate, self.first_dim):
            return self.model(**batch)


def sum_out(model: Callable, guide: Callable, batch: Batch, plate: str) -> Callable:
    """The model without the latents that it marks for enumeration and the guide leaves out; the
    model itself where there are none."""
    model_trace, guide_trace = run_pair(model, guide, batch)
    left = [
        name
        for name, site in sample_sites(model_trace, observed=False).items()
        if site["infer"].get("enumerate") == "parallel" and name not in guide_trace.nodes
    ]
    if not left:
        return model
    sites = (site for site in nodes_of(model_trace).values() if site["type"] == "sample")
    frames = [frame for site in sites for frame in site["cond_indep_stack"] if frame.vectorized]
    depth = max(-frame.dim for frame in frames)
    return Marginal(model, plate=plate, max_plate_nesting=depth)


class _SumOut(Messenger):
    """Collect the sites that depend on an enumerated value, and report their joint marginal at one
    of them."""

    def __init__(self, plate: str, first_dim: int) -> None:
        super().__init__()
        self.plate, self.first_dim = plate, first_dim
        self.sites: list[Site] = []
        self.inner: dict[str, tuple[tuple[PlateFrame, ...], Tensor | bool | None]] = {}
        self.total: Tensor | None = None

    def _pyro_sample(self, msg: Site) -> None:
        if not isinstance(msg["fn"], TorchDistributionMixin):
            return  # the statement of a plate's rows
        enumerated = msg["infer"].get("enumerate") == "parallel" and not msg["is_observed"]
        if not enumerated and not self._depends(msg):
            return
        if not (isinstance(msg["scale"], (int, float)) and msg["scale"] == 1):
            raise PairError(
                f"site {msg['name']!r} is scaled inside the model and depends on a latent that is summed "
                "out; a scale has no place within the sum. Scale the loss instead (num_data=, beta=)."
            )
        frames = msg["cond_indep_stack"]
        if enumerated and all(frame.name != self.plate for frame in frames):
            raise PairError(
                f"latent site {msg['name']!r} is enumerated outside plate {self.plate!r}, so one value belongs "
                "to all data and log p(x_i) has no value of its own. Sample it inside the plate, or infer it "
                "by the guide."
            )
        self.inner[msg["name"]] = (frames, msg["mask"])
        msg["mask"] = None  # it belongs inside the sum; masks around the marginal stay outside
        if enumerated:
            msg["infer"] |= {"is_auxiliary": True, "_do_not_trace": True}
        else:
            msg["cond_indep_stack"] = tuple(f for f in frames if f.name == self.plate)
            msg["fn"] = _Summed(msg["fn"], msg["name"], self)

    def _depends(self, msg: Site) -> bool:
        """Whether the log-probability of a site has dims of enumerated values."""
        fn, shapes = msg["fn"], [msg["fn"].batch_shape]
        if msg["is_observed"]:
            shapes.append(msg["value"].shape[: msg["value"].dim() - len(fn.event_shape)])
        return any(size > 1 for shape in shapes for size in shape[: self.first_dim + 1 or None])

    def _pyro_post_sample(self, msg: Site) -> None:
        name, fn = msg["name"], msg["fn"]
        if name not in self.inner:
            return
        enumerated = not isinstance(fn, _Summed)
        if enumerated and "_enumerate_dim" not in msg["infer"]:
            raise PairError(
                f"latent site {name!r} is summed out of the model, and the guide samples it too. Leave it out "
                "of the guide, or use the model without Marginal."
            )
        base, (frames, mask) = fn if enumerated else fn.base_dist, self.inner[name]
        values = msg["value"].shape[: msg["value"].dim() - len(base.event_shape)]
        if not enumerated and not msg["is_observed"] and len(values) > -1 - self.first_dim:
            raise PairError(
                f"site {name!r} depends on a latent that is summed out, and was drawn from the model. A marginal "
                "scores data: call the model itself to draw, or let the guide sample the site."
            )
        outer = tuple(f for f in msg["cond_indep_stack"] if f not in frames)
        self.sites.append(
            {
                **msg,
                "fn": base,
                "frames": (*outer, *frames),
                "mask": mask,
                "enumerated": enumerated,
            }
        )

    def log_prob(self, name: str) -> Tensor | None:
        """The marginal at the site that reports it; None at the others."""
        reporting = [site for site in self.sites if not site["enumerated"]]
        first = next((site for site in reporting if site["is_observed"]), reporting[0])
        if name != first["name"]:
            return None
        if self.total is None:
            self.total = self._marginal(first)
        return self.total

    def _marginal(self, first: Site) -> Tensor:
        sizes: dict[Hashable, int] = {}
        factors, variables = [], []
        for site in self.sites:
            plates = {frame.dim: frame for frame in site["frames"] if frame.vectorized}
            sizes |= {frame.name: frame.size for frame in plates.values()}
            names = frozenset(frame.name for frame in plates.values())
            ids: dict[int, Hashable] = dict(site["infer"].get("_dim_to_id", {}))
            ids |= {dim: frame.name for dim, frame in plates.items()}
            factors.append((_factor(site, ids), names))
            if site["enumerated"]:
                variables.append(Variable(ids[site["infer"]["_enumerate_dim"]], names))
        kept = sorted(
            (f for f in first["cond_indep_stack"] if f.vectorized), key=lambda frame: frame.dim
        )
        result = eliminate(factors, variables, sizes, [frame.name for frame in kept])
        if len(kept) == 2 and (gap := kept[1].dim - kept[0].dim - 1):
            result = result.reshape(len(result), *(1,) * gap, -1)
        return result


def _factor(site: Site, ids: dict[int, Hashable]) -> Factor:
    value = site["fn"].log_prob(site["value"])
    # the probabilities of a masked latent still sum to 1
    if not site["enumerated"] and site["mask"] is not None and site["mask"] is not True:
        value = torch.where(torch.as_tensor(site["mask"]), value, torch.zeros_like(value))
    dims = [dim for dim in range(-value.dim(), 0) if value.shape[dim] > 1 and dim in ids]
    spare = [dim for dim in range(-value.dim(), 0) if dim not in dims]
    return Factor(value.squeeze(spare) if spare else value, tuple(ids[dim] for dim in dims))


class _Summed(WrappedDistribution):
    """A distribution whose log-probability is summed over latents together with those of other
    sites."""

    def __init__(self, base_dist: TorchDistribution, name: str, ledger: _SumOut) -> None:
        super().__init__(base_dist)
        self.name, self.ledger = name, ledger

    def log_prob(self, value: Tensor) -> Tensor:
        total = self.ledger.log_prob(self.name)
        if total is not None:
            return total
        shape = value.shape[: value.dim() - len(self.event_shape)]
        return torch.zeros(shape, dtype=value.dtype, device=value.device)

    def expand(self, batch_shape: Shape, _instance: object = None) -> "_Summed":
        return _Summed(self.base_dist.expand(batch_shape), self.name, self.ledger)
