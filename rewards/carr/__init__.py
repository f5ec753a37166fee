"""CaRR: rubrics of a question, reports that cite, and what of them the session's pages support.

Source: CaRR, arXiv 2601.06021, and its released reward server (THUDM/CaRR). The steps are theirs; prompts,
parsing and the treatment of failures are ours.
"""

from turnwise.rewards.carr.assessment import Assessment, RubricScore, assess
from turnwise.rewards.carr.history import read_history
from turnwise.rewards.carr.report import citations, without_references
from turnwise.rewards.carr.rubrics import Rubrics, connected
from turnwise.rewards.carr.session import Session, read_session

__all__ = [
    "Assessment",
    "RubricScore",
    "Rubrics",
    "Session",
    "assess",
    "citations",
    "connected",
    "read_history",
    "read_session",
    "without_references",
]
