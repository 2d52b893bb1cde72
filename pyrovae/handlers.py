"""Effect handlers that put a pair on the scale of its objective, so that model and guide need not know N or beta."""
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyrovae.errors import PairError


class PerDatum(Messenger):
    r"""Scale log-probabilities so that their sum is an unbiased estimate of (1/N) \sum_i, in nats per datum.

    Sites in `plate` weigh 1/B on a minibatch of B (1/N where the plate itself subsamples), sites outside it 1/N,
    and latent sites `beta` more: recon - beta KL.

    Raises: PairError for a site outside the plate while `num_data` is unknown.
    """

    def __init__(self, plate: str, num_data: int | None, beta: float | Tensor) -> None:
        super().__init__()
        self.plate, self.num_data, self.beta = plate, num_data, beta

    def _pyro_sample(self, msg: dict) -> None:
        if site_is_subsample(msg):
            return
        size = next((f.full_size or f.size for f in msg["cond_indep_stack"] if f.name == self.plate), self.num_data)
        if size is None:
            raise PairError(
                f"site {msg['name']!r} lies outside plate {self.plate!r}, so its weight in a minibatch depends on the "
                "number of data N, which is unknown: pass num_data=N to the loss (never the batch size), or "
                "plate='...' if your plate has another name.")
        msg["scale"] = msg["scale"] * ((1.0 if msg["is_observed"] else self.beta) / size)
