"""Effect handlers around a pair: they scale its log-probabilities, so that programs need not know
N or beta, and check that data lie in their supports."""

from collections.abc import Collection

from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyrovae.core.errors import PairError
from pyrovae.core.shapes import PARTICLES
from pyrovae.core.support_checks import check_support, lies_in_support, refuse_other_plate
from pyrovae.core.traces import is_subsample
from pyrovae.core.types import Site


class ScaleLogProb(Messenger):
    r"""Scale log-probabilities so that their sum divided by `size` is in nats per datum and
    unbiased on minibatches.

    Without `num_data`, sites keep their scale and `size` is the plate's. With it, `size` is
    `num_data`, sites in the plate are scaled by num_data / B and those outside it by 1. Latent
    sites are scaled by `beta` too: reconstruction - beta KL. The scale that the program itself
    sets (`poutine.scale`, subsampling) is kept as `own_scale`.

    Raises: PairError for a site outside the plate while `num_data` is unknown, and for one that is
    observed in another plate of `batch_size` data.
    """

    def __init__(
        self, plate: str, num_data: int | None, beta: float | Tensor, batch_size: int | None = None
    ) -> None:
        super().__init__()
        self.plate, self.num_data, self.beta, self.batch_size = plate, num_data, beta, batch_size
        self.size = num_data

    def _pyro_sample(self, msg: Site) -> None:
        if is_subsample(msg):
            return
        msg["own_scale"] = msg["scale"]
        inside = next(
            (
                plate_frame
                for plate_frame in msg["cond_indep_stack"]
                if plate_frame.name == self.plate
            ),
            None,
        )
        if inside is None and msg["is_observed"] and self.batch_size is not None:
            refuse_other_plate(msg, self.batch_size, self.plate)
        if inside is None and self.num_data is None:
            raise PairError(
                f"site {msg['name']!r} lies outside plate {self.plate!r}, so its weight in a minibatch depends on the "
                "number of data N, which is unknown: pass num_data=N to the loss (never the batch size), or "
                "plate='...' if your plate has another name."
            )
        if inside is not None:
            stands_for = (
                inside.full_size or inside.size
            )  # a plate that subsamples scales itself up
            if self.num_data is None:
                self.size = stands_for
            elif stands_for != self.num_data:
                msg["scale"] = msg["scale"] * (self.num_data / stands_for)
        if not msg["is_observed"] and not (isinstance(self.beta, float) and self.beta == 1.0):
            msg["scale"] = msg["scale"] * self.beta


class Uncondition(Messenger):
    """Uncondition the observed sites of each datum (those in plates, and those named in `data`),
    so that they are sampled.

    Sites outside all plates that `pyro.condition` fixes, e.g. a noise variance, stay fixed;
    `pyro.poutine.uncondition` would sample them from their prior.
    """

    def __init__(self, data: Collection[str]) -> None:
        super().__init__()
        self.data = data

    def _pyro_sample(self, msg: Site) -> None:
        if msg["is_observed"] and (
            msg["name"] in self.data
            or any(plate_frame.name != PARTICLES for plate_frame in msg["cond_indep_stack"])
        ):
            msg["is_observed"], msg["value"], msg["done"] = False, None, False


class ValidateSupport(Messenger):
    """Raise PairError where data lie outside the support of the site that observes them.

    It replaces Pyro's own validation, which the engine switches off. It checks every site that
    runs inside, so a loss without sites is not checked.
    """

    def _pyro_sample(self, msg: Site) -> None:
        if msg["is_observed"] and not msg["infer"].get("_deterministic"):
            check_support(msg)


class RecordSupport(Messenger):
    """Record for each observed site whether all its data lie in the support, as a Boolean tensor
    in `good`."""

    def __init__(self) -> None:
        super().__init__()
        self.good: list[Tensor] = []

    def _pyro_sample(self, msg: Site) -> None:
        if msg["is_observed"] and not msg["infer"].get("_deterministic"):
            good = lies_in_support(msg)
            if good is not None:
                self.good.append(good.all())
