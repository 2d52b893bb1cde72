r"""Priors of the weights of a `Bayesian` net: functions `(site, tensor) -> Distribution | None`.

`site` is the name of the weight's sample site, e.g. "w.layers.0.weight", `tensor` the parameter of
the net in its shape. None leaves the parameter a number that training fits. A prior may sample
sites of its own (`hierarchical`, `horseshoe`); name them after the site, but not "{site}.NAME",
which autoguides cannot hold beside the site. Write yours as a function; nothing has to be
registered.
"""

from pyrovae.bnn.priors.hierarchical import hierarchical, horseshoe
from pyrovae.bnn.priors.normal import fan_in, normal
from pyrovae.bnn.priors.parts import last_layer, only
from pyrovae.bnn.priors.previous import Previous
from pyrovae.bnn.priors.scale_mixture import scale_mixture
from pyrovae.bnn.priors.scaled import Scaled
from pyrovae.programs.bayesian import WeightPrior, standard

__all__ = [
    "Previous",
    "Scaled",
    "WeightPrior",
    "fan_in",
    "hierarchical",
    "horseshoe",
    "last_layer",
    "normal",
    "only",
    "scale_mixture",
    "standard",
]
