"""The figures of a diagnosis as a Dataset."""

from typing import Any

import numpy as np
import xarray as xr

from bayescombat.columns import names_index
from bayescombat.diagnose.measuring import Measured
from bayescombat.study import Study

__all__ = ["labelled"]

type Variables = dict[str, tuple[tuple[str, ...], Any, dict[str, str]]]

NOT_JUDGED = "NaN where too few scans tell"


def labelled(study: Study, found: Measured) -> xr.Dataset:
    """Return the figures by batch (levels of all batch variables), feature, obs and covariate."""
    levels, free = found.moments.levels, found.moments.spec.unpenalised
    coords = {
        "batch": list(levels.labels),
        "feature": names_index(study.features),
        "obs": ("obs", np.asarray(study.obs)),
        "covariate": [study.covariates[column] for column in free],
    }
    variables = _of_batches(found) | _of_covariates(study, found) | _of_scans(study, found) | _of_features(study, found)
    return xr.Dataset(variables, coords)


def _of_batches(found: Measured) -> Variables:
    precision = found.precision
    variables: Variables = {
        "scans": (("batch",), found.scans, _attrs("1", "scans of the batch")),
        "shift_error": (("batch",), precision.shift_error, _attrs("sigma", "expected sd of a shift from the scans")),
        "scale_error": (("batch",), precision.scale_error, _attrs("log sigma", "expected sd of a log scale from them")),
        "observed": (("batch", "feature"), found.observed, _attrs("1", "scans that the feature was observed in")),
    }
    spreads = {
        "shift": (precision.shift_spread, precision.shift_kept, "sigma"),
        "scale": (precision.scale_spread, precision.scale_kept, "log sigma"),
    }
    for name, (spread, kept, unit) in spreads.items():
        if np.isfinite(spread):
            spread_attrs = _attrs(unit, f"sd of {name}s over the features of a typical batch, errors taken out")
            kept_attrs = _attrs("1", f"share of a {name} that comes from the batch's own scans")
            variables |= {f"{name}_spread": ((), spread, spread_attrs), f"{name}_kept": (("batch",), kept, kept_attrs)}
    return variables


def _of_covariates(study: Study, found: Measured) -> Variables:
    levels, inflation = found.moments.positions[study.codes], found.inflation
    columns = study.x[:, found.moments.spec.unpenalised]
    members = [(levels == level).any(axis=1) for level in range(len(found.scans))]
    extremes = {
        "lowest": np.array([columns[rows].min(axis=0) for rows in members]),
        "highest": np.array([columns[rows].max(axis=0) for rows in members]),
    }
    words = "variance inflation of the slope by"
    return {
        "inflation_by_batches": (("covariate",), inflation.by_batches, _attrs("1", f"{words} batches alone")),
        "inflation_by_all": (("covariate",), inflation.by_all, _attrs("1", f"{words} batches and other covariates")),
        "information_share": (
            ("batch", "covariate"),
            inflation.share,
            _attrs("1", "part of what is left of the covariate within batches"),
        ),
        **{
            name: (("batch", "covariate"), values, _attrs("unit of the covariate", name))
            for name, values in extremes.items()
        },
    }


def _of_scans(study: Study, found: Measured) -> Variables:
    outlying, twins = found.outlying, found.twins
    estimable = [*np.array(study.features, dtype=object)[found.estimable], ""]
    farthest = [
        estimable[at] if value > 0 else "" for at, value in zip(outlying.feature, outlying.farthest, strict=True)
    ]
    distance = _attrs("robust sd", f"root mean square distance from the batch's median, {NOT_JUDGED}")
    ratio = _attrs("1", "distance along or beside components over its limit: beyond 1 a scan lies far out")
    return {
        "distance": (("obs",), outlying.distance, distance),
        "distance_ratio": (("obs",), outlying.ratio, ratio),
        "farthest": (("obs",), outlying.farthest, _attrs("robust sd", "largest distance of a single value")),
        "farthest_feature": (("obs",), np.array(farthest, dtype=object), _attrs("1", "feature of that value")),
        "duplicate_of": (("obs",), _first(study.obs, twins.first), _attrs("1", "first scan that this one repeats")),
        "exact_duplicate": (("obs",), twins.exact, _attrs("1", "whether it does so to the last digit")),
    }


def _of_features(study: Study, found: Measured) -> Variables:
    skewness = np.full(len(study.features), np.nan)
    skewness[found.estimable] = found.skewness.value
    strong = np.zeros(len(study.features), dtype=bool)
    strong[found.estimable] = found.skewness.strong
    moments = found.moments
    constant = _attrs("1", "whether the feature is constant in the batch's scans, of which there are two or more")
    helps = "the logarithm" if study.spec.transform is None else "leaving the logarithm out"
    return {
        "constant": (("feature",), moments.constant, _attrs("1", "whether it is so overall or in a batch")),
        "constant_in_batch": (("batch", "feature"), moments.constant_in_levels, constant),
        "estimable": (("feature",), found.estimable, _attrs("1", "whether residuals were looked at")),
        "skewness": (("feature",), skewness, _attrs("1", f"L-skewness of residuals within batches, {NOT_JUDGED}")),
        "strongly_skewed": (("feature",), strong, _attrs("1", "whether skewness is strong and beyond chance")),
        "other_scale_helps": (("feature",), found.less_skewed, _attrs("1", f"whether {helps} makes it less skewed")),
        "duplicate_feature_of": (
            ("feature",),
            _first(study.features, found.twin_features),
            _attrs("1", "first feature that this one repeats, but for unit and origin"),
        ),
    }


def _first(labels: Any, first: np.ndarray) -> np.ndarray:
    """Return the label of the first of each group, empty for the first itself."""
    names = [str(labels[at]) if at != place else "" for place, at in enumerate(first)]
    return np.array(names, dtype=object)


def _attrs(units: str, long_name: str) -> dict[str, str]:
    return {"units": units, "long_name": long_name}
