"""Batch and site effects removed from multi-site data by hierarchical ComBat, with the uncertainty that remains."""

from typing import TYPE_CHECKING, Any

from bayescombat import datasets
from bayescombat.design import DesignSpec
from bayescombat.errors import *  # noqa: F403
from bayescombat.errors import __all__ as _errors
from bayescombat.evaluate import Evaluation, evaluate
from bayescombat.fit import Fit, fit, fit_blocks, load
from bayescombat.moments import Moments, merge
from bayescombat.parameters import identify
from bayescombat.priors import Priors
from bayescombat.storage import write_zarr
from bayescombat.study import ChunkedStudy, Study

if TYPE_CHECKING:
    from bayescombat.model import build_model

__all__ = [
    "ChunkedStudy",
    "DesignSpec",
    "Evaluation",
    "Fit",
    "Moments",
    "Priors",
    "Study",
    "build_model",
    "datasets",
    "evaluate",
    "fit",
    "fit_blocks",
    "identify",
    "load",
    "merge",
    "write_zarr",
    *_errors,
]


def __getattr__(name: str) -> Any:
    """Import PyMC only when the model is asked for."""
    if name == "build_model":
        from bayescombat.model import build_model

        return build_model
    raise AttributeError(f"module 'bayescombat' has no attribute {name!r}")
