"""The error for a loss or a gradient that is not finite: where it happened, and what was seen."""

import math

from torch import Tensor

from pyrovae.core.errors import NonFiniteLossError
from pyrovae.losses.base import terms_of, unwrap
from pyrovae.training.run import Run


def non_finite_error(value: Tensor, names: list[str], run: Run, index: int) -> NonFiniteLossError:
    """For the loss `value` of batch `index`, with the `names` of parameters whose gradient is not
    finite; none where the loss itself is not."""
    where = f"in epoch {run.epoch + 1}, batch {index}"
    text = (
        f"the loss is {value.item()} {where}."
        if not names
        else (
            f"the gradient of {', '.join(names[:8])}{' and more' if len(names) > 8 else ''} is not finite {where}, though "
            f"the loss is {value.item():.6g}: some function has no finite slope there, as sqrt and log have none at 0."
        )
    )
    terms = terms_of(unwrap(run.loss))
    if terms is not None:
        sites = {**terms.log_px, **terms.kl}
        text += (
            " Nats per datum by site: "
            + ", ".join(f"{name} {float(part):.4g}" for name, part in sites.items())
            + "."
        )
    norms = {name: float(p.detach().norm()) for name, p in run.parameters.items()}
    worst = sorted(
        norms, key=lambda name: -norms[name] if math.isfinite(norms[name]) else -math.inf
    )[:8]
    text += (
        " Largest parameter norms: "
        + ", ".join(f"{name} {norms[name]:.4g}" for name in worst)
        + "."
    )
    return NonFiniteLossError(
        text
        + " The step was not taken and the last checkpoint is intact; try a lower lr, clip_norm, or a min_scale "
        "for normal likelihoods."
    )
