"""evaluate() and Evaluation: what a harmonization removed, and what it preserved."""

from bayescombat.evaluate.evaluating import evaluate
from bayescombat.evaluate.evaluation import Evaluation

__all__ = ["Evaluation", "evaluate"]
