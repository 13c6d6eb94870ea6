"""Moments of different scans into those of the pooled table."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from bayescombat.batches import Levels
from bayescombat.errors import DataError, listing
from bayescombat.moments.moments import Moments, as_moments
from bayescombat.moments.subjects import Subjects
from bayescombat.moments.sums import exact_sum
from bayescombat.study import Study

__all__ = ["check_same_design", "merge"]


def merge(moments: Sequence[Moments | Study]) -> Moments:
    """Merge moments of different scans into those of the pooled table.

    Parameters
    ----------
    moments : sequence of Moments or Study
        Of different batches, or of different scans of the same batches; with equal design.

    Returns
    -------
    Moments
        Over all batches, in sorted order, with the reference batch that any of them has. Batches whose scans all stand
        in one part keep their figures to the last bit.

    Raises
    ------
    DataError
        If there is nothing to merge, or the designs or reference batches differ.

    Notes
    -----
    The pairwise update of Chan, Golub and LeVeque (1983), doi:10.1080/00031305.1983.10483115. That ComBat can be fitted
    to summaries of sites was shown by Chen et al. (2022), doi:10.1016/j.neuroimage.2021.118822.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10), features=3)
    >>> study = bc.Study.from_dataframe(
    ...     simulation.table, batch="site", covariates="age", features=simulation.features
    ... )
    >>> bc.merge([bc.Moments.from_study(study), bc.Moments.from_study(study)]).n.ravel()
    array([40., 20.])
    """
    if isinstance(moments, Moments | Study | str):
        raise DataError(f"Expected a list of Moments to merge, found {type(moments).__name__}. Put them into a list.")
    items = [as_moments(item) for item in moments]
    if not items:
        raise DataError("Expected at least one Moments to merge, found none.")
    first = items[0]
    for other in items[1:]:
        check_same_design(first, other)
    references = sorted({item.reference for item in items if item.reference is not None})
    if len(references) > 1:
        raise DataError(
            f"Expected one reference batch, found {listing(references)}. Make every part with the same reference."
        )
    labels = [label for item in items for label in item.batches]
    batches = Levels.of(first.spec.batch, labels).sort(labels)
    merged = reduce(_add, [_spread(item, batches) for item in items])
    return replace(merged, reference=references[0] if references else None)


def check_same_design(first: Moments, other: Moments) -> None:
    """Raise a DataError if two moments cannot be merged."""
    if (first.cross is None) != (other.cross is None):
        raise DataError(
            "Expected moments that all hold the features' cross-products, or none, found some of each. Make every part "
            "in the same way: Moments.from_study(study, cross=True)."
        )
    if first.spec != other.spec:
        differing = [
            name
            for name in ("batch", "features", "formula", "remove", "covariates", "transform", "subject", "smooths")
            if getattr(first.spec, name) != getattr(other.spec, name)
        ]
        raise DataError(
            "Expected moments of one design, found designs that differ in "
            f"{listing(differing or ['levels, knots or transforms learned from the table'])}. "
            "Learn the design once and use it for every part."
        )


def _spread(moments: Moments, batches: tuple[str, ...]) -> Moments:
    """Return the moments over more batches; those without scans have size zero."""
    place = [batches.index(label) for label in moments.batches]
    arrays: dict[str, Any] = {}
    for name in moments.held:
        value = getattr(moments, name)
        arrays[name] = np.zeros((len(batches), *value.shape[1:]), dtype=value.dtype)
        arrays[name][place] = value
    subjects = None if moments.subjects is None else moments.subjects.placed(place)
    return replace(moments, **arrays, batches=batches, subjects=subjects)


def _add(a: Moments, b: Moments) -> Moments:
    n = a.n + b.n
    share = b.n / np.maximum(n, 1)
    between = a.n * share
    dx = b.mean_x - a.mean_x
    dy = (b.mean_y - a.mean_y) + (b.mean_y_low - a.mean_y_low)
    mean_y, mean_y_low = exact_sum(a.mean_y, share * dy + a.mean_y_low)
    # A batch that one side has no scans of keeps the other's means as they are.
    only_a, only_b = b.n == 0, a.n == 0
    mean_x = np.where(only_a[..., None], a.mean_x, a.mean_x + share[..., None] * dx)
    return replace(
        a,
        scans=a.scans + b.scans,
        n=n,
        mean_x=np.where(only_b[..., None], b.mean_x, mean_x),
        sxx=a.sxx + b.sxx + between[..., None, None] * dx[..., :, None] * dx[..., None, :],
        mean_y=np.where(only_b, b.mean_y, np.where(only_a, a.mean_y, mean_y)),
        mean_y_low=np.where(only_b, b.mean_y_low, np.where(only_a, a.mean_y_low, mean_y_low)),
        sxy=a.sxy + b.sxy + between[..., None] * dx * dy[..., None],
        syy=a.syy + b.syy + between * dy**2,
        cross=_cross(a, b, np.sqrt(between) * dy),
        subjects=None if a.subjects is None or b.subjects is None else Subjects.joined([a.subjects, b.subjects]),
    )


def _cross(a: Moments, b: Moments, between: np.ndarray) -> np.ndarray | None:
    if a.cross is None or b.cross is None:
        return None
    return np.asarray(a.cross + b.cross + between[:, :, None] * between[:, None, :])
