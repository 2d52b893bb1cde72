"""Variational autoencoders and Bayesian neural networks as Pyro programs.

Importing pyrovae sets nothing in Pyro and loads neither torchvision, matplotlib nor ArviZ.
"""
from pyrovae.check import check
from pyrovae.checkpoint import load_weights, save_weights
from pyrovae.errors import CaptureError, CheckpointError, CollapseWarning, NonFiniteLossError, PairError
from pyrovae.evaluation import evaluate
from pyrovae.evidence import Evidence, log_evidence
from pyrovae.export import to_inference_data
from pyrovae.history import History
from pyrovae.local import Flipout, LocalReparameterization
from pyrovae.losses import ElboLoss, IwaeLoss, LinearWarmup
from pyrovae.parallel import Ranks
from pyrovae.predict import posterior_draws, predict
from pyrovae.predictive import Moments, log_predictive, predict_moments
from pyrovae.programs import Bayesian, Global, Guide, Joint, Model, Node, Value, as_svi
from pyrovae.stacked import Stacked
from pyrovae.surgery import Surgery, elbo_surgery
from pyrovae.traces import log_weights
from pyrovae.train import fit

__version__ = "0.1.0"

__all__ = ["Bayesian", "CaptureError", "CheckpointError", "CollapseWarning", "ElboLoss", "Evidence", "Flipout", "Global",
           "Guide", "History", "IwaeLoss", "Joint", "LinearWarmup", "LocalReparameterization", "Model", "Moments", "Node",
           "NonFiniteLossError", "PairError", "Ranks", "Stacked", "Surgery", "Value", "as_svi", "check", "elbo_surgery",
           "evaluate", "fit", "load_weights", "log_evidence", "log_predictive", "log_weights", "posterior_draws", "predict",
           "predict_moments", "save_weights", "to_inference_data"]
