"""Batch and site effects removed from multi-site data by hierarchical ComBat, with the uncertainty that remains."""

from typing import TYPE_CHECKING, Any

from bayescombat import datasets, plots
from bayescombat.containers import to_anndata
from bayescombat.criticism import LeftOut, loo, predictive_check
from bayescombat.design import DesignSpec
from bayescombat.diagnose import Diagnosis, diagnose
from bayescombat.downstream import pool
from bayescombat.errors import *  # noqa: F403
from bayescombat.errors import __all__ as _errors
from bayescombat.evaluate import Evaluation, evaluate
from bayescombat.fit import Fit, fit, fit_blocks, load
from bayescombat.moments import Moments, merge
from bayescombat.neurocombat import neurocombat, neurocombat_from_training
from bayescombat.parameters import identify
from bayescombat.priors import Priors
from bayescombat.report import report
from bayescombat.sensitivity import prior_sensitivity
from bayescombat.storage import write_zarr
from bayescombat.study import ChunkedStudy, Study

if TYPE_CHECKING:
    from bayescombat.model import build_model

__all__ = [
    "ChunkedStudy",
    "DesignSpec",
    "Diagnosis",
    "Evaluation",
    "Fit",
    "LeftOut",
    "Moments",
    "Priors",
    "Study",
    "build_model",
    "datasets",
    "diagnose",
    "evaluate",
    "fit",
    "fit_blocks",
    "identify",
    "load",
    "loo",
    "merge",
    "neurocombat",
    "neurocombat_from_training",
    "plots",
    "pool",
    "predictive_check",
    "prior_sensitivity",
    "report",
    "to_anndata",
    "write_zarr",
    *_errors,
]


def __getattr__(name: str) -> Any:
    """Import PyMC only when the model is asked for."""
    if name == "build_model":
        from bayescombat.model import build_model

        return build_model
    raise AttributeError(f"module 'bayescombat' has no attribute {name!r}")
