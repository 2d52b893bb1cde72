"""Models with missing values (`obs_mask`), for samplers that move every number of a latent site."""

from pyro.poutine.messenger import Messenger

from pyrovae.core.traces import is_missing
from pyrovae.core.types import Site


class DrawKnown(Messenger):
    """Let the latent site of missing values have the model's density in the rows that are known, too.

    For `pyro.sample("y", ..., obs=y, obs_mask=known)` Pyro adds a latent site "y_unobserved" of all
    rows and masks its known ones, where its density is then flat: the posterior is improper, and
    chains run off to infinity in numbers that nothing reads. With the model's density there, which
    integrates to one, the posterior of everything else is the same, and these numbers are
    replicates of known values. Sites that `poutine.scale` scales stay as Pyro has them.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> from pyro import poutine
        >>> def model() -> None:
        ...     with pyro.plate("data", 2):
        ...         pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.ones(2), obs_mask=torch.tensor([True, False]))
        >>> poutine.trace(DrawKnown()(model)).get_trace().nodes["y_unobserved"]["mask"] is None
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self.observed: set[str] = set()

    def _pyro_sample(self, msg: Site) -> None:
        name, scale = msg["name"], msg["scale"]
        if msg["is_observed"]:
            self.observed.add(name)
        elif (
            is_missing(name, self.observed)
            and isinstance(scale, (int, float))
            and scale == 1
            and not msg["fn"].has_enumerate_support
        ):
            msg["mask"] = None
