"""What every loss on a (model, guide) pair does with the pair."""
from collections.abc import Callable

import torch.nn as nn
from pyro.poutine import Trace

from pyrovae.reach import modules_of
from pyrovae.store import localize
from pyrovae.traces import sample_sites


def hold(loss: nn.Module, *programs: Callable) -> nn.ModuleDict:
    """Make a loss that has taken in its programs ready to run, and return the modules that they close over."""
    localize(loss)
    found = nn.ModuleDict({f"{name}_" if hasattr(nn.ModuleDict, name) else name: module for name, module
                           in modules_of(*programs).items() if all(module is not program for program in programs)})
    localize(found)
    return found


def refuse_score_functions(guide_trace: Trace, purpose: str) -> None:
    """Raise TypeError where a latent site has no pathwise gradient."""
    for name, site in sample_sites(guide_trace, observed=False).items():
        if not site["fn"].has_rsample:
            raise TypeError(f"{purpose} differentiates through the guide's draws, but latent site {name!r} is not "
                            "reparameterised (a discrete one, say). Use ElboLoss, whose Trace_ELBO has a score-function "
                            "gradient.")


def innermost(loss: nn.Module) -> nn.Module:
    """The loss on a pair inside losses that wrap another, which they keep as `inner`."""
    while isinstance(getattr(loss, "inner", None), nn.Module):
        loss = loss.inner
    return loss
