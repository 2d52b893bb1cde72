"""Plain modules under Pyro's own SVI."""

from collections.abc import Callable

from pyrovae.core.modules import find_modules
from pyrovae.core.param_store import register_params


def as_svi(model: Callable, guide: Callable) -> tuple[Callable, Callable]:
    """Return the pair so that `pyro.infer.SVI` trains every parameter of both, tensors they share
    once.

    `Model` and `Guide` do this by themselves; a hand-written `nn.Module` whose forward is a Pyro
    program, or a function that closes over one, does not, and SVI would silently train nothing.

    Example:
        >>> import pyro, torch
        >>> class Coin(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.logit = torch.nn.Parameter(torch.zeros(()))
        ...     def forward(self, x):
        ...         with pyro.plate("data", len(x)):
        ...             pyro.sample("x", pyro.distributions.Bernoulli(logits=self.logit), obs=x)
        >>> coin = Coin()
        >>> svi = pyro.infer.SVI(*as_svi(coin, lambda x: None), pyro.optim.Adam({"lr": 0.1}), pyro.infer.Trace_ELBO())
        >>> _ = svi.step(torch.ones(8))
        >>> coin.logit.item() > 0
        True
    """
    return _with_params(model, "model"), _with_params(guide, "guide")


def _with_params(program: Callable, prefix: str) -> Callable:
    modules = find_modules(program)

    def run(*args: object, **kwargs: object) -> object:
        for name, module in modules.items():
            register_params(module, f"{prefix}.{name}")
        return program(*args, **kwargs)

    return run
