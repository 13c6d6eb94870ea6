"""A study in a few lines of text."""

from collections.abc import Sequence

import numpy as np

from bayescombat.batches import Levels
from bayescombat.design import DesignSpec
from bayescombat.errors import listing

__all__ = ["summary"]


def summary(
    y: np.ndarray,
    codes: np.ndarray,
    batches: Sequence[str],
    spec: DesignSpec,
    reference: str | None,
    subjects: np.ndarray | None,
) -> str:
    """Say how many scans, features and batches there are, what is missing, and what is modelled.

    The parameters are those of `Study`.

    Examples
    --------
    >>> spec = DesignSpec(("site",), ("left",), "", (), (), "", "log")
    >>> print(summary(np.array([[1.0], [np.nan], [2.0]]), np.array([0, 1, 1]), ["a", "b"], spec, "b", None))
    Study: 3 scans × 1 feature
      33.3 % of the cells missing
      2 batches of 1 ('a') to 2 ('b') scans
      covariates: none
      transform: log
      reference: 'b'
    """
    (n, v), missing = y.shape, 100 * np.isnan(y).mean()
    lines = [f"Study: {_count(n, 'scan')} × {_count(v, 'feature')}"]
    if missing:
        lines.append(f"{f'{missing:.1f}' if missing >= 0.05 else 'less than 0.1'} % of the cells missing")
    lines += _of_batches(codes, batches, spec.batch)
    of_smooths = {name for smooth in spec.smooths for name in smooth.names}
    preserved = [name for name in spec.covariates if name not in of_smooths and name not in spec.removed]
    preserved += [smooth.label for smooth in spec.smooths]
    lines.append(f"covariates: {listing(preserved, 10) or 'none'}")
    lines += [f"removed: {listing(spec.removed, 10)}"] if spec.removed else []
    lines += [] if subjects is None else [f"{_count(len(set(subjects)), 'subject')} in {spec.subject!r}"]
    lines += [f"transform: {spec.transform}"] if spec.transform else []
    lines += [f"reference: {reference!r}"] if reference is not None else []
    return "\n  ".join(lines)


def _of_batches(codes: np.ndarray, batches: Sequence[str], variables: Sequence[str]) -> list[str]:
    """Return a line per batch variable: how many levels it has, and how many scans they have."""
    levels = Levels.of(variables, batches)
    lines = []
    for name, places in zip(variables, levels.known(batches)[codes].T, strict=True):
        known = levels.names[name]
        sizes = np.bincount(places, minlength=len(known))
        least, most = int(sizes.argmin()), int(len(sizes) - 1 - sizes[::-1].argmax())
        lines.append(
            f"{f'{name!r}: ' if len(variables) > 1 else ''}{_count(len(sizes), 'batch', 'batches')} of "
            f"{sizes[least]} ({known[least]!r}) to {sizes[most]} ({known[most]!r}) scans"
        )
    return lines


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
