"""What the batches do, and what harmonization changed."""

from typing import NamedTuple

import numpy as np

from bayescombat.fit.layout import averaged
from bayescombat.report.held import Held
from bayescombat.report.pieces import Table, cut, number

__all__ = ["of_batches", "of_features", "reading", "reading_of_features"]

MOST_FEATURES = 15


class Changed(NamedTuple):
    """How far features were changed (feature,), in units of sigma; how sure that is; and the batch that moved most."""

    size: np.ndarray
    sd: np.ndarray | None
    shift: np.ndarray


def of_batches(held: Held) -> Table:
    """Return shift and scale of every batch, with their standard deviations where there are draws."""
    summary = held.fit.summary()
    headings = {"shift": "Mean shift (σ)", "shift_rms": "RMS shift (σ)", "scale": "Mean scale"}
    columns = ["Batch", "Scans"]
    for name, words in headings.items():
        columns += [words, "sd"] if f"{name}_sd" in summary else [words]
    rows = []
    for label, one in summary.iterrows():
        cells = [number(one[key]) for name in headings for key in (name, f"{name}_sd") if key in summary]
        rows.append([str(label), f"{int(one['scans']):,}", *cells])
    shown, more = cut(rows)
    words = ", with posterior standard deviations" if held.nuts else ""
    return Table(f"Effects of the batches, over all features{words}", columns, shown, more=more)


def reading(held: Held) -> str:
    """Say what the columns of `of_batches` are."""
    words = (
        "Mean shift is that of all features, in units of a feature’s residual standard deviation σ; RMS shift its root "
        "mean square, to which shifts of either sign add; mean scale a geometric mean of how much wider the batch "
        "spreads."
    )
    if held.fit.mean_only:
        words += " Scales were held at one: the location alone was adjusted."
    if not held.nuts:
        words += " These are estimates; how sure they are is not said."
    return words


def of_features(held: Held) -> Table:
    """Return the features that were changed most."""
    found = _changed(held)
    order = np.argsort(-found.size, kind="stable")[:MOST_FEATURES]
    labels, features = held.fit.layout.levels.labels, held.fit.layout.features
    rows = []
    for place in order:
        most = int(np.abs(found.shift[:, place]).argmax())
        row = [features[place], number(found.size[place])]
        row += [] if found.sd is None else [number(found.sd[place])]
        rows.append([*row, f"{labels[most]} ({number(found.shift[most, place])})"])
    sure = [] if found.sd is None else ["sd of a value (σ)" if held.study is not None else "sd"]
    headings = ["Feature", "RMS change (σ)", *sure, "Largest shift (σ)"]
    shown, more = cut(rows, total=len(features))
    return Table("Features that were changed most", headings, shown, words=(len(headings) - 1,), more=more)


def reading_of_features(held: Held) -> str:
    """Say what the columns of `of_features` are."""
    unit = "logarithms" if held.logs else "values"
    if held.study is None:
        words = (
            "RMS change is the root mean square, over the scans of all batches, of what shifts and scales by "
            f"themselves are expected to do to {unit}, in units of σ: the fit holds no rows to compare."
        )
        return f"{words} sd is its posterior standard deviation." if held.nuts else words
    words = (
        f"RMS change is the root mean square difference between {unit} before and after harmonization, in units of the "
        "feature’s residual standard deviation σ."
    )
    if held.sure:
        words += " sd of a value is how unsure a harmonized value is, root mean square over the scans."
    return f"{words} Largest shift is that of the batch whose shift is farthest from zero."


def _changed(held: Held) -> Changed:
    """Return how far features were changed, by their rows or, without these, by what batches are expected to do."""
    parameters = held.fit.parameters
    shift = averaged(parameters["gamma"] / parameters["sigma"]).transpose("batch", "feature").values
    if held.harmonized is None or held.study is None:
        return _expected(held, shift)
    kept, sigma = held.fit.layout.modelled, averaged(parameters["sigma"]).values
    raw = held.study.transformed[:, kept]
    after = held.harmonized["mean"].transpose("obs", "feature").values[:, kept]
    sd = held.harmonized["sd"].transpose("obs", "feature").values[:, kept] if "sd" in held.harmonized else None
    if held.logs:
        sd, after = None if sd is None else sd / after, np.log(after)
    return Changed(_rms(after - raw) / sigma, None if sd is None else _rms(sd) / sigma, shift)


def _expected(held: Held, shift: np.ndarray) -> Changed:
    """Return what shifts and scales of the batches do to scans that the model expects."""
    parameters, layout = held.fit.parameters, held.fit.layout
    share = layout.scans / np.maximum(np.bincount(layout.levels.owner, layout.scans)[layout.levels.owner], 1)
    squares = (parameters["gamma"] / parameters["sigma"]) ** 2 + (parameters["delta"] - 1) ** 2
    size = (squares.transpose(..., "batch", "feature") * share[:, None]).sum("batch") ** 0.5
    over = [dim for dim in ("chain", "draw") if dim in size.dims]
    sd = size.std(over, ddof=1).values if over else None
    return Changed(averaged(size).values, sd, shift)


def _rms(values: np.ndarray) -> np.ndarray:
    """Return the root mean square over scans that are observed, (feature,)."""
    return np.asarray(np.sqrt(np.nanmean(values**2, axis=0)))
