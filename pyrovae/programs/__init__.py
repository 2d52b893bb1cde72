"""Programs: conditionals wired into Pyro sample sites."""

from pyrovae.programs.bayesian import Bayesian, WeightPrior
from pyrovae.programs.graph import Guide, Joint, Model
from pyrovae.programs.interop import as_svi
from pyrovae.programs.marginal import Marginal
from pyrovae.programs.nodes import Global, Node, Value
from pyrovae.programs.semi_amortized import SemiAmortized

__all__ = [
    "Bayesian",
    "Global",
    "Guide",
    "Joint",
    "Marginal",
    "Model",
    "Node",
    "SemiAmortized",
    "Value",
    "WeightPrior",
    "as_svi",
]
