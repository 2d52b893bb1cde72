"""log p(x) of latent-variable models, each estimate with an error bar and a verdict on whether to trust it."""
from pyrovae.evidence.annealed import annealed_importance
from pyrovae.evidence.annealing import linear, sigmoidal
from pyrovae.evidence.sandwich import Sandwich, bidirectional
from pyrovae.evidence.importance import log_evidence
from pyrovae.evidence.result import Evidence

__all__ = ["Evidence", "Sandwich", "annealed_importance", "bidirectional", "linear", "log_evidence", "sigmoidal"]
