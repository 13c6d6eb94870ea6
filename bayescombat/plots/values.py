"""The values of one feature, before and after: what is drawn of it. No matplotlib."""

from dataclasses import dataclass

import numpy as np

from bayescombat.errors import DataError
from bayescombat.fit import Fit
from bayescombat.fit.layout import stacked
from bayescombat.frames import Frame
from bayescombat.plots.choosing import check_fit, chosen_feature
from bayescombat.study import Study

__all__ = ["Values", "values_of"]


@dataclass(frozen=True, eq=False)
class Values:
    """One feature of the scans that it was observed in.

    Parameters
    ----------
    feature : str
        Its name.
    raw, after : ndarray, (obs,)
        Values before and after harmonization, in feature units.
    lower, upper : ndarray, (obs,), optional
        Bounds of `after`, where the fit says how sure it is.
    probability : float, optional
        Of the interval between them.
    codes : ndarray of int, (obs,)
        Positions of the scans' batches.
    batches : tuple of str
        Labels of the batches.
    average : float
        Mean that batches are brought to.
    """

    feature: str
    raw: np.ndarray
    after: np.ndarray
    lower: np.ndarray | None
    upper: np.ndarray | None
    probability: float | None
    codes: np.ndarray
    batches: tuple[str, ...]
    average: float

    @property
    def interval(self) -> str:
        """What the bounds are, in words."""
        return "" if self.probability is None else f"{100 * self.probability:g} % interval"


def values_of(fit: Fit, feature: str | None, data: Frame | Study | None, at_average: bool) -> Values:
    """Return the values of a feature before and after.

    Parameters
    ----------
    fit : Fit
        The fit.
    feature : str, optional
        By default the one that batches explain best.
    data : frame (pandas, polars, ...) or Study, optional
        Rows; by default those that were fitted.
    at_average : bool
        Whether to move every scan to the average of the preserved covariates.

    Raises
    ------
    DataError
        If the feature was not modelled or never observed in these rows, or there are no rows.
    """
    check_fit(fit)
    name = chosen_feature(fit, feature)
    spec, place = fit.layout.spec, fit.layout.features.index(name)
    if data is None and "observed_data" not in fit.tree:
        raise DataError("Expected rows to draw, found a fit without any. Give them: data=table.")
    study = fit.study if data is None else data if isinstance(data, Study) else Study.from_design(data, spec)
    harmonized = (fit.harmonized if data is None else fit.harmonize(study)).sel(feature=name)
    raw = study.y[:, study.features.index(name)]
    columns = {"raw": raw, "after": harmonized["mean"].values}
    columns |= {key: harmonized[key].values for key in ("lower", "upper") if key in harmonized}
    alpha, beta = (stacked(fit.parameters, part)[:, place].mean(axis=0) for part in ("alpha", "beta"))
    log = spec.transform == "log"
    if at_average:
        away = study.x - fit.layout.center[min(place, len(fit.layout.center) - 1)]
        effect = away @ (beta * spec.kept)
        columns = {key: values * np.exp(-effect) if log else values - effect for key, values in columns.items()}
    seen = ~np.isnan(raw)
    if not seen.any():
        raise DataError(f"Expected values of {name!r}, found it missing in all {len(raw)} rows. Name another feature.")
    return Values(
        feature=name,
        raw=columns["raw"][seen],
        after=columns["after"][seen],
        lower=columns["lower"][seen] if "lower" in columns else None,
        upper=columns["upper"][seen] if "upper" in columns else None,
        probability=harmonized.attrs.get("probability"),
        codes=study.codes[seen],
        batches=study.batches,
        average=float(np.exp(alpha)) if log else float(alpha),
    )
