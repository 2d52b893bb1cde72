"""Data sets simulated from a model, with the latent values that made them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyro.poutine import Trace
from torch import Tensor

from pyrovae.core.batching import Values, as_batch, exemplar_of
from pyrovae.core.broadcasting import Particles
from pyrovae.core.errors import PairError
from pyrovae.core.handlers import Uncondition
from pyrovae.core.shapes import DATA_DIM
from pyrovae.core.traces import is_auxiliary, run_guide, sample_sites
from pyrovae.prediction.draws import evaluating


@dataclass(frozen=True)
class Simulations:
    """R data sets and the latent values that made them."""

    latents: dict[str, Tensor]
    """By site, `(R, *event)`, in a plate of N data `(R, N, *event)`."""
    data: dict[str, Tensor]
    """Simulated sites and what the model was given, `(R, N, *event)` each: a batch for `Stacked`."""

    def __len__(self) -> int:
        return len(next(iter(self.data.values())))


def simulate(
    model: Callable,
    batch: Mapping[str, Values],
    *,
    num_simulations: int,
    observed: Sequence[str] = ("y",),
) -> Simulations:
    """Draw R data sets from the model, (latents, data) ~ p(latents) p(data | latents), all at once
    where it broadcasts.

    batch: what the model is called with, e.g. inputs `{"x": x}`, the same in each simulation; a
        program that needs its observed sites as arguments gets placeholders, whose values are not
        read, and a `Model` without inputs `{"num": N}`. Sites outside plates that `pyro.condition`
        fixed stay fixed.
    observed: the sites that are data.

    Eval mode, no gradients; draws use torch's generator.
    Raises: PairError where the model lacks an observed site or observes others, has no latents, or
    cannot be called with `batch`; NotImplementedError for priors without draws (flat ones).

    Example:
        >>> import torch
        >>> from pyrovae import Bayesian, Model, Node
        >>> from pyrovae.heads import FixedScaleNormalHead
        >>> model = Model(y=Node(FixedScaleNormalHead(Bayesian(torch.nn.Linear(3, 1)), scale=0.1), "x"))
        >>> found = simulate(model, {"x": torch.zeros(8, 3)}, num_simulations=5)
        >>> found.latents["w.weight"].shape, found.data["y"].shape
        (torch.Size([5, 1, 3]), torch.Size([5, 8, 1]))
    """
    if num_simulations < 1:
        raise ValueError(f"num_simulations={num_simulations}, expected at least one data set.")
    given = as_batch(batch, None, exemplar_of(model))
    prior = Uncondition(observed)(model)
    try:
        with evaluating(model):
            known = set(sample_sites(run_guide(model, given), observed=True))
            particles = Particles.of(_nothing, prior, given)
            trace = particles.run_guide(prior, given, num_simulations)
    except TypeError as error:
        wording = ", ".join(f"{name}=..." for name in given)
        raise PairError(
            f"the model cannot be called as model({wording}): {error}. Name its arguments in the batch; "
            f"placeholders will do for {sorted(observed)}."
        ) from error
    values = latent_values(trace)
    absent = sorted(set(observed) - set(values))
    fixed = sorted((known - set(observed)) & (set(values) | set(given)))
    if absent or fixed:
        raise PairError(
            f"observed={sorted(observed)}, but the model "
            + (f"has no sites {absent}" if absent else f"observes {fixed} too")
            + ". Name all sites that are data."
        )
    latents = {name: value for name, value in values.items() if name not in set(observed)}
    if not latents:
        raise PairError(
            f"the model draws nothing but {sorted(observed)}, so there is no posterior to look at."
        )
    conditions = {
        name: value.expand(num_simulations, *value.shape)
        for name, value in given.items()
        if isinstance(value, Tensor) and name not in values
    }
    return Simulations(latents, conditions | {name: values[name] for name in observed})


def latent_values(trace: Trace) -> dict[str, Tensor]:
    """Values of the sites that a program drew under K particles, without auxiliary ones, `(K,
    *event)`, in a plate `(K, B, *event)`."""
    return {
        name: site["value"]
        if any(part.vectorized and part.dim == DATA_DIM for part in site["cond_indep_stack"])
        else site["value"].squeeze(1)
        for name, site in sample_sites(trace, observed=False).items()
        if not is_auxiliary(site)
    }


def _nothing(**batch: object) -> None:
    """A model without sites."""
