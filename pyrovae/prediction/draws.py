"""Draws from a fitted pair: latent values, replicated data, and their log-likelihoods."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyro
import torch
from torch import Tensor

from pyrovae.core.batching import Values, as_batch, exemplar_of
from pyrovae.core.broadcasting import Particles
from pyrovae.core.errors import PairError
from pyrovae.core.handlers import Uncondition
from pyrovae.core.modules import find_modules
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.shapes import DATA, DATA_DIM
from pyrovae.core.subnormals import flush_subnormals
from pyrovae.core.traces import is_auxiliary, log_prob, plate_frame, sample_sites
from pyrovae.core.types import Batch, Site, nodes_of


def predict(
    model: Callable,
    guide: Callable,
    batch: Mapping[str, Values] | Values,
    *,
    num_samples: int,
    sites: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Draw every site given a batch: latent ones from the guide, observed ones afresh from the
    model.

    The batch is a mapping from names to tensors or NumPy arrays, or one of these with
    `names=("x",)`; it goes where the parameters are, in their precision.
    Shapes: `(K, B, *event)` each, for the names in `sites` (all by default). The observed values
    reach the guide alone; the model draws replicates in their place (not of what `pyro.condition`
    fixed outside the plate). Eval mode, no gradients; draws use torch's generator.

    Raises: KeyError for a name in `sites` that is no site.

    Example:
        >>> predict(model, guide, {"x": torch.ones(3, 4)}, num_samples=10)["x"].shape
        torch.Size([10, 3, 4])
    """
    drawn = drawn_sites(
        model, guide, as_batch(batch, names, exemplar_of(model, guide)), num_samples
    )
    unknown = set(sites or ()) - set(drawn)
    if unknown:
        raise KeyError(f"{sorted(unknown)} are no sites of the model, which has {sorted(drawn)}.")
    return {name: site["value"] for name, site in drawn.items() if sites is None or name in sites}


def drawn_sites(
    model: Callable, guide: Callable, batch: Batch, num_samples: int
) -> dict[str, Site]:
    """The sites of a model whose latents are `num_samples` draws of the guide, and whose observed sites are
    drawn afresh."""
    with evaluating(model, guide):
        particles = Particles.of(model, guide, batch)
        guide_trace = particles.run_guide(guide, batch, num_samples)
        trace = particles.run_model(Uncondition(batch)(model), guide_trace, batch, num_samples)
    return {name: site for name, site in nodes_of(trace).items() if site["type"] == "sample"}


class PosteriorDraws(dict[str, dict[str, Tensor]]):
    """Draws by group and site, which also know the plates of each site, in the order of its dims
    after K.

    The plate over data is called "data" there whatever its name in the program.
    """

    def __init__(
        self, groups: Mapping[str, dict[str, Tensor]], plates: Mapping[str, tuple[str, ...]]
    ) -> None:
        super().__init__(groups)
        self.plates = dict(plates)


def posterior_draws(
    model: Callable,
    guide: Callable,
    batch: Mapping[str, Values] | Values,
    *,
    num_samples: int,
    names: Sequence[str] | None = None,
    plate: str = DATA,
) -> PosteriorDraws:
    """Draws in ArviZ's groups, ready for `to_inference_data`, which reads off their plates what
    dims are called.

    Returns `posterior` (latent draws from the guide, without auxiliary sites of its own),
    `posterior_predictive` (replicates), both `(K, B, *event)` (`(K, G, *event)` in a plate of G
    groups, `(K, 1, *event)` outside plates), `log_likelihood` (log p(x_i | z_k) in nats, `(K, B)`)
    of each observed site in the data plate, and `observed_data` `(B, *event)`.

    Raises: PairError where no observed site lies in `plate`.
    """
    batch = as_batch(batch, names, exemplar_of(model, guide))
    with evaluating(model, guide):
        particles = Particles.of(model, guide, batch)
        guide_trace = particles.run_guide(guide, batch, num_samples)
        model_trace = particles.run_model(model, guide_trace, batch, num_samples)
        scored = sample_sites(model_trace, observed=True)
        inside = {
            name: site for name, site in scored.items() if plate_frame(site, plate) is not None
        }
        if not inside:
            raise PairError(
                f"the observed sites {sorted(scored)} lie outside plate {plate!r}, so no datum has a "
                "log-likelihood of its own. Pass plate='...' if your plate has another name; `predict` "
                "needs none."
            )
        replicated = particles.run_model(
            Uncondition(batch)(model), guide_trace, batch, num_samples
        )
        latent = {
            name: nodes_of(model_trace).get(name, site)
            for name, site in sample_sites(guide_trace, observed=False).items()
            if not is_auxiliary(site)
        }
        plates = {
            name: tuple(
                DATA if part.name == plate else part.name
                for part in site["cond_indep_stack"]
                if part.vectorized and part.dim == DATA_DIM
            )
            for name, site in (latent | scored).items()
        }
        return PosteriorDraws(
            {
                "posterior": {name: site["value"] for name, site in latent.items()},
                "posterior_predictive": {
                    name: nodes_of(replicated)[name]["value"]
                    for name in scored
                    if not replicated.nodes[name]["is_observed"]
                },
                "log_likelihood": {
                    name: log_prob(site).expand(num_samples, -1) for name, site in inside.items()
                },
                "observed_data": {name: site["value"] for name, site in scored.items()},
            },
            plates,
        )


@contextmanager
def evaluating(*programs: Callable) -> Iterator[None]:
    """Eval mode without gradients or validation; flags and buffers are restored, random streams
    advance."""
    with (
        torch.no_grad(),
        pyro.validation_enabled(False),
        flush_subnormals(),
        preserve_state(find_modules(*programs).values(), training=False, random=False),
    ):
        yield
