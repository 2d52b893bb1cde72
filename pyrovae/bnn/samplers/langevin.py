"""Stochastic-gradient MCMC as optimisers of a `PointEstimate`."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR


class SGLD(torch.optim.Optimizer):
    r"""Stochastic gradient Langevin dynamics: w <- w - lr grad L(w) + sqrt(2 lr T / N) noise.

    L is a loss in nats per datum, such as `ElboLoss(model, PointEstimate(net), num_data=N)`, whose
    N-fold is the energy U(w) = -log p(w, D). For small `lr` the iterates are draws of exp(-U / T);
    in the units of U the step is 2 lr / N.
    There is no acceptance step: the bias falls with `lr` and with the noise of the minibatches'
    gradients.

    Source: Welling & Teh 2011, ICML, eq. 4 (their epsilon is 2 lr / N).

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(3))
        >>> (w ** 2).sum().backward()
        >>> SGLD([w], lr=1e-3, num_data=100).step()
        >>> bool((w != 0).all())
        True
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, *, num_data: int, temperature: float = 1.0
    ) -> None:
        _check(lr, num_data, temperature)
        super().__init__(params, {"lr": lr, "num_data": num_data, "temperature": temperature})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # it draws, once
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            spread = math.sqrt(2.0 * group["lr"] * group["temperature"] / group["num_data"])
            torch._foreach_add_(params, [p.grad for p in params], alpha=-group["lr"])
            torch._foreach_add_(params, [torch.randn_like(p) for p in params], alpha=spread)


class SGHMC(torch.optim.Optimizer):
    r"""Stochastic gradient HMC: v <- (1 - a) v - lr grad L(w) + sqrt(2 a lr T / N) noise, w <- w +
    v.

    L as for `SGLD`; `friction` a is 1 - momentum. In the units of U the step size is sqrt(lr / N)
    and the friction a / sqrt(lr / N).
    Source: Chen, Fox & Guestrin 2014, arXiv:1402.4102, eq. 15, with no estimate of the gradient's
    noise; in this form: Zhang et al. 2020, arXiv:1902.03932, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        *,
        num_data: int,
        friction: float = 0.1,
        temperature: float = 1.0,
    ) -> None:
        _check(lr, num_data, temperature)
        if not 0.0 < friction <= 1.0:
            raise ValueError(f"friction={friction}, expected 0 < friction <= 1 (1 - momentum).")
        super().__init__(
            params,
            {"lr": lr, "num_data": num_data, "temperature": temperature, "friction": friction},
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # it draws, once
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                self.state[p].setdefault("velocity", torch.zeros_like(p))
            velocity = [self.state[p]["velocity"] for p in params]
            spread = math.sqrt(
                2.0 * group["friction"] * group["lr"] * group["temperature"] / group["num_data"]
            )
            torch._foreach_mul_(velocity, 1.0 - group["friction"])
            torch._foreach_add_(velocity, [p.grad for p in params], alpha=-group["lr"])
            torch._foreach_add_(velocity, [torch.randn_like(p) for p in params], alpha=spread)
            torch._foreach_add_(params, velocity)


def cyclical(length: int, *, lowest: float = 0.0) -> Callable[[torch.optim.Optimizer], LambdaLR]:
    r"""A schedule for `fit` that restarts every `length` epochs: lr_e = lr (cos(pi (e mod length)
    / length) + 1) / 2.

    Large steps find a mode, small ones sample it; the rate does not fall below `lowest` times lr.
    Source: Zhang et al. 2020, "Cyclical stochastic gradient MCMC", arXiv:1902.03932, eq. 1.
    """
    if length < 1:
        raise ValueError(f"length={length}, expected at least one epoch a cycle.")
    return lambda optimizer: LambdaLR(
        optimizer,
        lambda epoch: max(lowest, 0.5 * (math.cos(math.pi * (epoch % length) / length) + 1.0)),
    )


def _check(lr: float, num_data: int, temperature: float) -> None:
    if not lr > 0 or num_data < 1 or temperature < 0:
        raise ValueError(
            f"lr={lr}, num_data={num_data}, temperature={temperature}, expected a positive rate, the number of "
            "data in the training set, and a temperature of at least 0."
        )
