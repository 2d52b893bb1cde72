"""Paired comparison of trained VAEs on the same observations."""

import dataclasses
from collections.abc import Mapping

from pyrovae.evidence import Evidence
from pyrovae.evidence.result import standard_error
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.trained_vae import TrainedVae
from pyrovae.recipes.vae_parts import DENSITIES


@dataclasses.dataclass(frozen=True)
class Difference:
    """log p(x) of a first run minus that of a second one, averaged over the same data, in nats.

    se: standard error over data; it contains the Monte Carlo error, `monte_carlo_se`.
    first_wins: the share of data that the first run gives the higher density. untrusted: data with
    a k-hat above 0.7 in either run, whose log p(x) is likely too low.
    """

    mean: float
    se: float
    monte_carlo_se: float
    first_wins: float
    untrusted: int
    num_data: int

    @classmethod
    def of(cls, first: Evidence, second: Evidence) -> "Difference":
        gap = first.log_px - second.log_px
        return cls(
            float(gap.mean()),
            standard_error(gap),
            float((first.monte_carlo_se**2 + second.monte_carlo_se**2) ** 0.5),
            float((gap > 0).double().mean()),
            int((first.untrusted | second.untrusted).sum()),
            len(gap),
        )

    def verdict(self, first: str, second: str) -> str:
        """In words, at two standard errors."""
        if not abs(self.mean) > 2 * self.se:
            return "no difference beyond 2 standard errors"
        text = f"{first if self.mean > 0 else second} is higher by {abs(self.mean) / self.se:.0f} standard errors"
        if self.untrusted > 0.05 * self.num_data:
            text += f"; {self.untrusted} of {self.num_data} estimates are likely too low"
        return text


def observation(run: TrainedVae) -> str:
    """What the likelihood of a run is a distribution of."""
    s, layout = run.settings, run.layout
    kind = "density" if s.model.likelihood in DENSITIES else "probability"
    values = "levels" if layout.whole else "values as stored"
    drawn = layout.binarize if layout.binarize != "none" else values
    given = "" if s.data.condition == "none" else f", given {s.data.condition}"
    return f"{kind} of {drawn}{given}"


def refuse_other_observations(runs: Mapping[str, TrainedVae]) -> None:
    """Raise Refusal where log p(x) of the runs cannot be compared."""
    (first_name, first), *others = runs.items()
    for name, run in others:
        if observation(run) != observation(first):
            raise Refusal(
                f"{name} scores the {observation(run)}, and {first_name} the {observation(first)}, so their log p(x) do "
                "not compare."
            )
        if run.run["data"]["sha256"] != first.run["data"]["sha256"]:
            raise Refusal(
                f"{name} was trained on other data than {first_name} ({run.run['data']['name']} and "
                f"{first.run['data']['name']}, by their digests), so their log p(x) do not compare."
            )
