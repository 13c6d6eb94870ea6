"""The tree that a fit wraps: parameters, and beside them what they were learned from."""

import json

import numpy as np
import xarray as xr

from bayescombat.columns import names_index
from bayescombat.errors import DataError
from bayescombat.estimation import Estimator
from bayescombat.fit.joining import Asked, check_covariance, hidden_group
from bayescombat.fit.layout import Layout
from bayescombat.hidden import without_factors
from bayescombat.identification import estimable
from bayescombat.moments import Moments
from bayescombat.storage import versions
from bayescombat.study import Study

__all__ = ["fitted_tree", "study_of"]


def fitted_tree(moments: Moments, estimator: Estimator, asked: Asked, study: Study | None = None) -> xr.DataTree:
    """Return the tree of a fit to moments, with the rows of the study if there is one."""
    kept = estimable(moments)
    if asked.share:
        check_covariance(kept)
    cleaned, hidden = without_factors(kept, asked.factors, asked.despite_covariates)
    tree = estimator(cleaned)
    if hidden is not None:
        tree["hidden_factors"] = hidden_group(hidden, kept.features)
    tree["moments"] = xr.DataTree(moments.to_dataset())
    tree["layout"] = xr.DataTree(Layout.of(moments, kept).to_dataset())
    if study is not None:
        tree["observed_data"], tree["constant_data"] = _rows(study)
    tree.attrs |= {"formula": moments.spec.formula, "versions": json.dumps(versions())} | asked.attrs
    return tree


def _rows(study: Study) -> tuple[xr.DataTree, xr.DataTree]:
    """Return the rows of a study as the groups that ArviZ knows."""
    obs = {"obs": ("obs", np.asarray(study.obs))}
    y = {"y": (("obs", "feature"), study.y)}
    labels = np.array(study.batches, dtype=object)[study.codes]
    known = {"x": (("obs", "covariate"), study.x), "batch": ("obs", labels)}
    known |= {} if study.subjects is None else {"subject": ("obs", study.subjects)}
    return (
        xr.DataTree(xr.Dataset(y, obs | {"feature": names_index(study.features)})),
        xr.DataTree(xr.Dataset(known, obs | {"covariate": list(study.covariates)})),
    )


def study_of(tree: xr.DataTree, layout: Layout) -> Study:
    """Return the rows that a tree holds.

    Raises
    ------
    DataError
        If it holds none.
    """
    if "observed_data" not in tree:
        raise DataError(
            "Expected a fit that holds its rows, found one made of moments or saved without data. "
            "Give the rows: fit.harmonize(table)."
        )
    observed = tree["observed_data"].to_dataset()
    constant = tree["constant_data"].to_dataset()
    labels = [str(label) for label in constant["batch"].values]
    batches = layout.levels.sort(labels)
    place = {label: code for code, label in enumerate(batches)}
    return Study(
        observed["y"].values,
        constant["x"].values,
        np.array([place[label] for label in labels]),
        batches,
        observed["obs"].to_index(),
        layout.spec,
        layout.reference,
        constant["subject"].values.astype(object) if "subject" in constant else None,
    )
