"""Forty faults, each planted in one small fit, by the finding that should name it.

    python tests/diagnostics/planted_faults.py [SEED]

counts how many `diagnose` names, and its false alarms on the healthy fits, at data and starts of
that seed."""

import itertools
import sys
from collections.abc import Callable

import pyro
import torch
from faulty_fits import (
    Deaf,
    Narrow,
    auto,
    beta,
    collinear,
    frozen_guide,
    frozen_scales,
    hierarchy,
    last_layer_frozen,
    narrow_autonormal,
    narrow_encoder,
    net_without_n,
    normal_scale,
    other_encoder,
    overfit,
    program_without_scale,
    shifted,
    small_start,
    spread_counts,
    stuck_chain,
    summed_kl,
    twins,
    wide_start,
)
from fitted_pairs import (
    Fit,
    bars,
    blobs,
    classes,
    count_factors,
    cubic,
    factors,
    moons,
    poisson,
    regression,
    sine,
    surface,
    vae,
)
from healthy_fits import HEALTHY
from pyro.infer.autoguide import AutoDelta
from torch import nn

import pyrovae as pv
from pyrovae.bnn.guides import MCDropout, MeanField, PointEstimate, Radial
from pyrovae.bnn.priors import normal
from pyrovae.heads import (
    AutoregressiveBernoulliHead,
)

COLLAPSE, AT_PRIOR, STUCK = "posterior collapse", "posterior equals prior", "scales at their start"
AGREE, MISCALIBRATED = "draws agree", "miscalibrated"
HEAVY, CONFLICT = "heavy-tailed importance weights", "prior predictive conflict"
N, RATE, UNDERFIT = "N not stated", "learning rate too high", "underfitting"
STILL = "KL does not move"


FAULTS: dict[str, tuple[str, Callable[[], Fit]]] = {
    "beta 20 on bars": (COLLAPSE, lambda: vae(bars(), kind="bernoulli", **beta(20.0))),
    "likelihood scale 5": (COLLAPSE, lambda: vae(factors(), scale=5.0, steps=400)),
    "autoregressive decoder": (
        COLLAPSE,
        lambda: vae(
            bars(),
            kind="bernoulli",
            decoder=nn.Identity(),
            head=lambda _: AutoregressiveBernoulliHead(16, 2, [32]),
            steps=500,
            lr=1e-2,
            **beta(1.5),
        ),
    ),
    "decoder without z": (
        COLLAPSE,
        lambda: vae(count_factors(), kind="poisson", decoder=Deaf(2, 8)),
    ),
    "decoder hears 2 of 8": (
        AT_PRIOR,
        lambda: vae(factors(), 8, decoder=Deaf(8, 8, heard=2), steps=400),
    ),
    "noise far too large": (
        AT_PRIOR,
        lambda: regression(sine(), head=normal_scale(30.0), guide=wide_start, steps=600),
    ),
    "KL not divided by N": (N, summed_kl),
    "classifier at beta 3000": (
        AT_PRIOR,
        lambda: classes(blobs(), 3, guide=wide_start, steps=600, **beta(3000.0)),
    ),
    "units pruned by beta 4": (
        AT_PRIOR,
        lambda: vae(factors(400, 10, 2), 6, steps=500, scale=0.5, **beta(4.0)),
    ),
    "unused top layer": (AT_PRIOR, hierarchy),
    "few small steps": (
        STUCK,
        lambda: regression(sine(), guide=small_start, steps=150, lr=1e-3, cosine=False),
    ),
    "scales without gradients": (STUCK, lambda: regression(cubic(), guide=frozen_scales)),
    "last layer with fixed scales": (STUCK, last_layer_frozen),
    "radial, few steps": (
        STUCK,
        lambda: regression(cubic(), guide=Radial, steps=150, lr=3e-3, cosine=False),
    ),
    "classifier with tiny scales": (
        STUCK,
        lambda: classes(
            moons(), 2, guide=lambda net: MeanField(net, init_scale=1e-3), steps=150, lr=5e-3
        ),
    ),
    "point estimate": (AGREE, lambda: regression(sine(), guide=PointEstimate)),
    "AutoDelta": (AGREE, lambda: auto(AutoDelta, 300, 2e-2)),
    "ensemble of one start": (AGREE, twins),
    "chain that never moved": (AGREE, stuck_chain),
    "dropout switched off": (
        AGREE,
        lambda: classes(blobs(), 3, guide=lambda net: MCDropout(net, rate=1e-6), loss_options={}),
    ),
    "noise five times too small": (
        MISCALIBRATED,
        lambda: regression(surface(), head=normal_scale(0.04), steps=500),
    ),
    "noise six times too large": (
        MISCALIBRATED,
        lambda: regression(sine(300, 0.05), head=normal_scale(0.5), steps=500),
    ),
    "overconfident classifier": (
        MISCALIBRATED,
        lambda: overfit(
            classes,
            moons(60, 0.6),
            moons(400, 0.6),
            count=2,
            hidden=(50,),
            prior=normal(10.0),
            steps=500,
        ),
    ),
    "VAE with small noise": (MISCALIBRATED, lambda: vae(factors(), scale=0.1, steps=400)),
    "counts with extra spread": (MISCALIBRATED, lambda: poisson(spread_counts(), steps=400)),
    "narrow encoder": (HEAVY, lambda: narrow_encoder(factors(), "normal", 0.02)),
    "encoder of another run": (HEAVY, other_encoder),
    "AutoNormal made narrow": (HEAVY, narrow_autonormal),
    "collinear inputs": (HEAVY, collinear),
    "targets far from zero": (
        CONFLICT,
        lambda: regression(shifted(sine(), offset=200.0), hidden=(10,)),
    ),
    "targets in thousands": (
        CONFLICT,
        lambda: regression(shifted(cubic(), factor=1000.0), head=normal_scale(200.0)),
    ),
    "prior too narrow at beta 0.01": (
        CONFLICT,
        lambda: vae(factors(), prior=Narrow(), steps=400, **beta(0.01)),
    ),
    "net in minibatches without N": (N, net_without_n),
    "plate without N": (N, program_without_scale),
    "N ten times too large": (
        N,
        lambda: regression(surface(), num_data=2000, use=True, steps=200),
    ),
    "VAE, rate 0.3": (
        RATE,
        lambda: vae(factors(), cosine=False, lr=0.3, parts=4, steps=300),
    ),
    "net, rate 0.3": (
        RATE,
        lambda: regression(surface(), cosine=False, lr=0.3, parts=4, steps=300),
    ),
    "stopped early": (
        UNDERFIT,
        lambda: regression(sine(), guide=small_start, steps=20, lr=3e-3, cosine=False),
    ),
    "too stiff a net": (UNDERFIT, lambda: regression(sine(), hidden=(), steps=400)),
    "frozen encoder": (STILL, frozen_guide),
}
"""By description: the finding, and the fit."""


def count(seed: int) -> tuple[int, int]:
    """Faults that are named, and healthy fits with a finding."""
    named = alarms = 0
    planted = ((name, fault, make) for name, (fault, make) in FAULTS.items())
    healthy = ((name, None, make) for name, make in HEALTHY.items())
    for index, (name, fault, make) in enumerate(itertools.chain(planted, healthy)):
        found = examine(make, 1000 * seed + index).names
        good = fault in found if fault else not found
        named += bool(fault) and good
        alarms += not fault and not good
        print(f"{'  ' if good else '! '}{name}: {fault or 'healthy'}; found {found}", flush=True)
    return named, alarms


def examine(make: Callable[[], Fit], seed: int) -> pv.Diagnosis:
    pyro.clear_param_store()
    torch.manual_seed(seed)
    found = make().diagnose()
    pyro.clear_param_store()
    return found


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    named, alarms = count(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(f"{named} of {len(FAULTS)} faults named, {alarms} false alarms on {len(HEALTHY)} fits")
