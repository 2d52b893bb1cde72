"""Programs: conditionals wired into Pyro sample sites."""

from pyrovae.programs.bayesian import Bayesian, WeightPrior
from pyrovae.programs.graph import Global, Guide, Joint, Model, Node, Value
from pyrovae.programs.interop import as_svi

__all__ = [
    "Bayesian",
    "Global",
    "Guide",
    "Joint",
    "Model",
    "Node",
    "Value",
    "WeightPrior",
    "as_svi",
]
