"""Whether two designs give the same columns, so that studies of both can be merged."""

from bayescombat.design import DesignSpec
from bayescombat.errors import DataError, listing

__all__ = ["check_conformity"]


def check_conformity(found: DesignSpec, expected: DesignSpec) -> None:
    """Raise a DataError if two designs differ in more than the name of their one batch column.

    Parameters
    ----------
    found : DesignSpec
        Design of a study. A study made from arrays calls its batch column "batch".
    expected : DesignSpec
        The design that it should have.
    """
    names = {"features": "features", "covariates": "covariates", "removed": "covariates to be removed"}
    if max(len(found.batch), len(expected.batch)) > 1:
        names["batch"] = "batch variables"
    for field, meaning in names.items():
        wanted, given = getattr(expected, field), getattr(found, field)
        if wanted != given:
            raise DataError(
                f"Expected a study with the {meaning} {listing(wanted) or 'none'}, found {listing(given) or 'none'}. "
                "Make the study from its table with Study.from_design."
            )
    if found.transform != expected.transform:
        raise DataError(
            f"Expected a study with transform={expected.transform!r}, found transform={found.transform!r}. "
            "Make the study from its table with Study.from_design."
        )
    if (found.subject is None) != (expected.subject is None):
        wanted, given = ("without", "with") if expected.subject is None else ("with", "without")
        raise DataError(
            f"Expected a study {wanted} subjects, found one {given}. Make the study from its table with "
            "Study.from_design."
        )
    if (found.columns, found.state, found.smooths) != (expected.columns, expected.state, expected.smooths):
        raise DataError(
            "Expected a study of the same design, found design columns of the same names with other "
            "levels, knots, means or the like behind them. Make the study from its table with Study.from_design."
        )
