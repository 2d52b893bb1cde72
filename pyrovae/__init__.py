"""Variational autoencoders and Bayesian neural networks as Pyro programs.

Importing pyrovae sets nothing in Pyro and loads neither torchvision, matplotlib nor ArviZ.

In the examples of the docstrings `model` and `guide` are a small VAE of four binary pixels::

    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 2 * 2)), "x"))
"""

from pyrovae.bnn.local_reparameterization import Flipout, LocalReparameterization
from pyrovae.core.check import check
from pyrovae.core.errors import (
    CaptureError,
    CheckpointError,
    CollapseWarning,
    NonFiniteLossError,
    PairError,
)
from pyrovae.core.log_weights import log_weights
from pyrovae.diagnostics.diagnose import diagnose
from pyrovae.diagnostics.diagnosis import Diagnosis, Finding
from pyrovae.diagnostics.elbo_surgery import Surgery, elbo_surgery
from pyrovae.evidence import Evidence, log_evidence
from pyrovae.export import to_inference_data
from pyrovae.losses import ElboLoss, IwaeLoss, LinearWarmup
from pyrovae.losses.stacked import Stacked
from pyrovae.prediction.draws import posterior_draws, predict
from pyrovae.prediction.predictive_checks import posterior_predictive_check
from pyrovae.prediction.simulation_based_calibration import simulation_based_calibration
from pyrovae.prediction.weight_average import Moments, log_predictive, predict_moments
from pyrovae.programs import Bayesian, Global, Guide, Joint, Marginal, Model, Node, Value, as_svi
from pyrovae.training.checkpoint import load_weights, save_weights
from pyrovae.training.distributed import Ranks
from pyrovae.training.evaluate import evaluate
from pyrovae.training.fit import fit
from pyrovae.training.history import History

__version__ = "0.1.0"

__all__ = [
    "Bayesian",
    "CaptureError",
    "CheckpointError",
    "CollapseWarning",
    "Diagnosis",
    "ElboLoss",
    "Evidence",
    "Finding",
    "Flipout",
    "Global",
    "Guide",
    "History",
    "IwaeLoss",
    "Joint",
    "LinearWarmup",
    "LocalReparameterization",
    "Marginal",
    "Model",
    "Moments",
    "Node",
    "NonFiniteLossError",
    "PairError",
    "Ranks",
    "Stacked",
    "Surgery",
    "Value",
    "as_svi",
    "check",
    "diagnose",
    "elbo_surgery",
    "evaluate",
    "fit",
    "load_run",
    "load_weights",
    "log_evidence",
    "log_predictive",
    "log_weights",
    "posterior_draws",
    "posterior_predictive_check",
    "predict",
    "predict_moments",
    "save_weights",
    "simulation_based_calibration",
    "to_inference_data",
]


def __getattr__(name: str) -> object:
    """`load_run` when it is asked for: the recipes bring data sets and settings."""
    if name == "load_run":
        from pyrovae.recipes.load import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
