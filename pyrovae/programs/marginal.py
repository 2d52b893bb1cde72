"""A model with its discrete latents summed out exactly."""

from collections.abc import Callable, Collection, Hashable

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

    Of the sites that depend on a summed value, log p(z) is reported at the first latent one, log p(x
    | z) at the first that is observed, and 0 at the others. Draw from the model itself, not from its
    marginal.

    plate: name of the plate over data; enumerated sites lie in it. max_plate_nesting: plates that
        the model opens, counted from dim -1 to the left; dims left of them, and of the particles at
        dim -2, are enumerated. names: the sites to sum out; by default all that are marked.

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
        self,
        model: Callable,
        *,
        plate: str = DATA,
        max_plate_nesting: int = MAX_PLATE_NESTING,
        names: Collection[str] | None = None,
    ) -> None:
        super().__init__()
        if not callable(model):
            raise PairError(f"the model is {type(model).__name__}, expected a callable program.")
        self.model, self.plate = model, plate
        self.first_dim, self.names = -1 - max(2, max_plate_nesting), names
        self.found = nn.ModuleDict(
            {name: module for name, module in find_modules(model).items() if module is not model}
        )

    def forward(self, **batch: Tensor) -> object:
        with EnumMessenger(self.first_dim), _SumOut(self.plate, self.first_dim, self.names):
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
    depth = max((-frame.dim for frame in frames), default=1)
    return Marginal(model, plate=plate, max_plate_nesting=depth, names=left)


class _SumOut(Messenger):
    """Collect the sites that depend on an enumerated value, and report log p(z) and log p(x | z) of
    their joint marginal."""

    def __init__(self, plate: str, first_dim: int, names: Collection[str] | None = None) -> None:
        super().__init__()
        self.plate, self.first_dim, self.names = plate, first_dim, names
        self.sites: list[Site] = []
        self.inner: dict[str, tuple[tuple[PlateFrame, ...], Tensor | bool | None]] = {}
        self.marginals: dict[bool, Tensor] = {}

    def _pyro_sample(self, msg: Site) -> None:
        # neither the statement of a plate's rows nor a value without a density
        if not isinstance(msg["fn"], TorchDistributionMixin) or msg["infer"].get("_deterministic"):
            return
        if self.names is not None and msg["name"] not in self.names:
            msg["infer"].pop("enumerate", None)
        enumerated = msg["infer"].get("enumerate") == "parallel" and not msg["is_observed"]
        if not enumerated and not self._depends(msg):
            return
        if not (isinstance(msg["scale"], (int, float)) and msg["scale"] == 1):
            raise PairError(
                f"site {msg['name']!r} is scaled inside the model and depends on a latent that is summed "
                "out; a scale has no place within the sum. Scale the loss instead (num_data=, beta=)."
            )
        frames = msg["cond_indep_stack"]
        self._refuse_deep(msg["name"], frames)
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
        shapes = [msg["fn"].batch_shape]
        shapes += [part.shape for part in (msg["mask"], msg["scale"]) if isinstance(part, Tensor)]
        if msg["is_observed"]:
            event_dim = len(msg["fn"].event_shape)
            shapes.append(msg["value"].shape[: msg["value"].dim() - event_dim])
        return any(len(shape) >= -self.first_dim for shape in shapes)

    def _refuse_deep(self, name: str, frames: tuple[PlateFrame, ...]) -> None:
        for frame in frames:
            if frame.dim is not None and frame.dim <= self.first_dim:
                raise PairError(
                    f"site {name!r} lies in plate {frame.name!r} at dim {frame.dim}, where the values of summed "
                    f"latents go. Pass Marginal(model, max_plate_nesting={-frame.dim})."
                )

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
        self._refuse_deep(name, msg["cond_indep_stack"])
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

    def log_prob(self, name: str) -> Tensor:
        """What a site reports: log p(z), log p(x | z), or 0."""
        latents, data = (
            [site for site in self.sites if not site["enumerated"] and site["is_observed"] == kind]
            for kind in (False, True)
        )
        first = (data or latents)[0]
        if latents and name == latents[0]["name"]:
            return self._of(latents[0], latents_only=True)
        total = self._of(first, latents_only=not data)
        if name != first["name"]:
            return torch.zeros_like(total)
        return total - self._of(first, latents_only=True) if latents else total

    def _of(self, first: Site, *, latents_only: bool) -> Tensor:
        if latents_only not in self.marginals:
            kept = [s for s in self.sites if not (latents_only and s["is_observed"])]
            self.marginals[latents_only] = self._marginal(first, kept)
        return self.marginals[latents_only]

    def _marginal(self, first: Site, sites: list[Site]) -> Tensor:
        sizes: dict[Hashable, int] = {}
        factors, variables = [], []
        for site in sites:
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
        return self.ledger.log_prob(self.name)

    def expand(self, batch_shape: Shape, _instance: object = None) -> "_Summed":
        return _Summed(self.base_dist.expand(batch_shape), self.name, self.ledger)
