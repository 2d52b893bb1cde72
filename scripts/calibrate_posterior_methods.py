"""The linear regression of `calibrate_posterior.py`, and four posteriors of its weights."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar

import pyro
import pyro.distributions as dist
import torch
from progress import progress_bar
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import pyrovae as pv
from pyrovae.bnn.guides import JointNormal, MeanField, PointEstimate
from pyrovae.bnn.samplers import hmc
from pyrovae.heads import FixedScaleNormalHead
from pyrovae.prediction import amortized_posterior, chain_posterior, fitted_posterior
from pyrovae.prediction.refits import Data, Posterior
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import (
    Count,
    FromZero,
    OutFolder,
    Positive,
    Range,
    Seed,
    Share,
    Threads,
)
from pyrovae.recipes.name_list import several
from pyrovae.recipes.refusal import Refusal

WEIGHTS = "w.weight"


@dataclasses.dataclass(frozen=True)
class Study:
    GROUPS: ClassVar[dict[str, str]] = {
        "simulations": "run",
        "data": "model",
        "epochs": "inference",
    }

    methods: str = "exact,hmc,full-rank,mean-field"
    """Comma-separated names of posteriors."""
    simulations: Annotated[int, Range(40)] = 500
    """R, the number of simulated data sets."""
    draws: Annotated[int, Range(9)] = 199
    """L, the draws of each posterior; L + 1 with many divisors makes bins of equal width."""
    compare_loop: FromZero = 0
    """Data sets that are also fitted one after another, to compare times; 0 leaves it out."""
    seed: Seed = 0
    threads: Threads = 1
    out: OutFolder = Path("runs/calibration")
    data: Count = 50
    """N, the rows of each data set."""
    columns: Annotated[int, Range(2)] = 4
    """Columns of x, of which the first two are correlated."""
    correlation: Share = 0.9
    noise: Positive = 1.0
    """Standard deviation of y about its mean; that of the weights' prior is 1."""
    epochs: Count = 1000
    """Steps of variational inference, each on all rows."""
    lr: Positive = 0.05
    """Its first rate; it falls to 0 along a cosine."""
    warmup: Count = 150
    """Iterations in which the chains adapt their step sizes."""
    leapfrogs: Count = 8
    """The longest path of HMC."""
    thin: Count = 3
    """Iterations of HMC for each draw that is kept."""

    def __post_init__(self) -> None:
        bounds.check(self)
        self.names()
        if self.compare_loop > self.simulations:
            raise Refusal(
                f"--compare-loop {self.compare_loop}: expected at most --simulations {self.simulations}."
            )

    def names(self) -> list[str]:
        return several("--methods", self.methods, METHODS)


def inputs(s: Study) -> Tensor:
    x = torch.randn(s.data, s.columns)
    x[:, 1] = s.correlation * x[:, 0] + (1 - s.correlation**2) ** 0.5 * x[:, 1]
    return x


def loss_of(s: Study, guide: Callable[[pv.Bayesian], nn.Module]) -> pv.ElboLoss:
    """y = x w + noise."""
    net = pv.Bayesian(nn.Linear(s.columns, 1, bias=False))
    model = pv.Model(y=pv.Node(FixedScaleNormalHead(net, scale=s.noise), "x"))
    return pv.ElboLoss(model, guide(net), num_data=s.data)


def exact(s: Study) -> Posterior:
    def guide(x: Tensor, y: Tensor) -> None:
        covariance = torch.linalg.inv(torch.eye(s.columns) + x.T @ x / s.noise**2)
        fn = dist.MultivariateNormal((covariance @ x.T @ y)[..., 0] / s.noise**2, covariance)
        flat = pyro.sample("flat", fn, infer={"is_auxiliary": True})
        pyro.sample(WEIGHTS, dist.Delta(flat.unsqueeze(-2), event_dim=2))

    return amortized_posterior(guide, num_draws=s.draws)


def chains(s: Study) -> Posterior:
    bar = progress_bar(total=s.warmup + s.draws * s.thin, desc="HMC")
    return chain_posterior(
        lambda index: loss_of(s, PointEstimate),
        lambda loss, data: hmc(
            loss,
            data,
            num_data=s.data,
            num_samples=s.draws,
            warmup=s.warmup,
            num_steps=s.leapfrogs,
            step_size=0.1,
            thin=s.thin,
            progress=lambda iteration: bar.update(),
        ),
    )


def train(s: Study, loss: nn.Module, data: Data) -> None:
    pv.fit(
        loss,
        data,
        epochs=s.epochs,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=s.lr),
        schedule=lambda optimizer: CosineAnnealingLR(optimizer, s.epochs),
    )


GUIDES = {
    "full-rank": lambda net: JointNormal(net, init_scale=0.1),
    "mean-field": lambda net: MeanField(net, init_scale=0.1),
}
METHODS: dict[str, Callable[[Study], Posterior]] = {"exact": exact, "hmc": chains} | {
    name: lambda s, guide=guide: fitted_posterior(
        lambda index: loss_of(s, guide), lambda loss, data: train(s, loss, data), num_draws=s.draws
    )
    for name, guide in GUIDES.items()
}
