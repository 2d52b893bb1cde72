"""log p(x) of latent-variable models, each estimate with an error bar and a verdict on whether to
trust it."""

from pyrovae.evidence.ais import annealed_importance
from pyrovae.evidence.ais_path import linear, sigmoidal
from pyrovae.evidence.bidirectional import Sandwich, bidirectional
from pyrovae.evidence.gaps import Gaps, inference_gaps
from pyrovae.evidence.importance import log_evidence
from pyrovae.evidence.partition import annealed_log_z
from pyrovae.evidence.quadrature import Quadrature, quadrature
from pyrovae.evidence.result import Evidence
from pyrovae.evidence.table import EvidenceTable, Row, evidence_table

__all__ = [
    "Evidence",
    "EvidenceTable",
    "Gaps",
    "Quadrature",
    "Row",
    "Sandwich",
    "annealed_importance",
    "annealed_log_z",
    "bidirectional",
    "evidence_table",
    "inference_gaps",
    "linear",
    "log_evidence",
    "quadrature",
    "sigmoidal",
]
