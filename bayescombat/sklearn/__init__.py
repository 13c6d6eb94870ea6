"""ComBat as a transformer of scikit-learn, fitted inside the fold."""

from bayescombat.sklearn.transformer import ComBat

__all__ = ["ComBat"]
