"""The study at a glance: what was harmonized, and of whom."""

from typing import NamedTuple

import numpy as np

from bayescombat.report.held import Held
from bayescombat.report.pieces import Fact, Table, counted, cut, numbers, percent, united

__all__ = ["facts", "of_batches", "of_covariates", "of_what_was_set_aside", "sized", "target"]

# Design columns that stand beside the batches, so that the table fits onto a page.
MOST_COLUMNS = 4
REASONS = {"": "not told by the file"}


class Column(NamedTuple):
    """A design column: its name, its place among all, and whether it is one of zeros and ones."""

    name: str
    place: int
    indicator: bool


def facts(held: Held) -> list[Fact]:
    """Return what the study is, name by name."""
    fit = held.fit
    spec = fit.layout.spec
    found = [
        Fact("Scans", f"{held.scans:,}"),
        Fact("Features", _of_features(held)),
        *(Fact(f"Levels of ‘{name}’", words) for name, words in sized(held).items()),
        Fact("Harmonized to", target(held)),
        Fact("Preserved", united([*_preserved(held)]) or "no covariates"),
    ]
    if spec.removed:
        found.append(Fact("Removed", spec.remove))
    if spec.subject is not None:
        found.append(Fact("Subjects", _of_subjects(held)))
    found.append(Fact("Scale", "natural logarithms of the features" if held.logs else "the features as they are"))
    missing = held.missing
    words = "not known: the fit holds neither rows nor moments" if np.isnan(missing) else percent(missing)
    found.append(Fact("Missing cells", "none" if missing == 0 else words))
    if held.adopted:
        found.append(Fact("Added after the fit", united(held.adopted)))
    return found


def sized(held: Held) -> dict[str, str]:
    """Return by batch variable how many levels there are, and of how many scans."""
    layout, found = held.fit.layout, {}
    for k, name in enumerate(layout.levels.active):
        scans = layout.scans[layout.levels.owner == k]
        low, high = int(scans.min()), int(scans.max())
        found[name] = f"{len(scans)} batches of {f'{low:,} to ' if low < high else ''}{counted(high, 'scan')}"
    return found


def target(held: Held) -> str:
    """Return in words what values are brought to."""
    reference = held.fit.layout.reference
    return "the average of the batches, weighted by their scans" if reference is None else f"the batch ‘{reference}’"


def _preserved(held: Held) -> list[str]:
    spec = held.fit.layout.spec
    return [*([spec.formula] if spec.formula else []), *(f"{smooth.column} (as a curve)" for smooth in spec.smooths)]


def _of_features(held: Held) -> str:
    modelled = f"{len(held.fit.layout.features):,} harmonized"
    return f"{modelled}, {len(held.left):,} set aside" if held.left else modelled


def _of_subjects(held: Held) -> str:
    name = held.fit.layout.spec.subject
    if held.moments is not None and held.moments.subjects is not None:
        return f"{counted(len(held.moments.subjects.labels), 'subject')} of ‘{name}’, with intercepts of their own"
    return f"of ‘{name}’, with intercepts of their own"


def of_batches(held: Held) -> Table:
    """Return the batches with their sizes, and what is known of their covariates."""
    layout = held.fit.layout
    columns = _columns(held)[:MOST_COLUMNS]
    parts = [_of_column(held, column) for column in columns]
    headings = ["Batch", "Scans", *(f"{column.name}{' (share)' if column.indicator else ''}" for column in columns)]
    rows = [
        [label, f"{scans:,}", *(part[place] for part in parts)]
        for place, (label, scans) in enumerate(zip(layout.levels.labels, layout.scans, strict=True))
    ]
    caption = "Batches"
    if columns:
        spread = ": mean, and lowest to highest" if held.study is not None else ": mean"
        caption = f"Batches and their covariates{spread}"
    shown, more = cut(rows)
    return Table(caption, headings, shown, more=more)


def of_covariates(held: Held) -> Table | None:
    """Return the covariates with their ranges over all scans; None where there are none, or nothing tells of them."""
    columns = _columns(held)
    if not columns:
        return None
    removed, rows = set(held.fit.layout.spec.removed), []
    for column in columns:
        mean, sd, low, high = _summary(held, column.place)
        figures = [percent(mean), "", "", ""] if column.indicator else numbers([mean, sd, low, high])
        rows.append([column.name, "removed" if column.name in removed else "preserved", *figures])
    shown, more = cut(rows)
    headings = ["Design column", "Effect", "Mean or share", "sd", "Lowest", "Highest"]
    if held.study is None:
        headings, shown = headings[:-2], [row[:-2] for row in shown]
    return Table("Covariates over all scans", headings, shown, words=(1,), more=more)


def of_what_was_set_aside(held: Held) -> list[Fact]:
    """Return by reasons which features were set aside."""
    return [
        Fact(f"{counted(len(names), 'feature')}, {reason or REASONS['']}", united(names))
        for reason, names in held.aside.items()
    ]


def _columns(held: Held) -> list[Column]:
    """Return the design columns that are not penalised; of a curve its covariate."""
    spec, found = held.fit.layout.spec, list[Column]()
    if held.study is None and held.moments is None:
        return found
    for place in spec.unpenalised:
        name = spec.covariates[place]
        if held.study is not None:
            indicator = bool(np.isin(held.study.x[:, place], (0, 1)).all())
        else:
            indicator = "[T." in name and ":" not in name
        found.append(Column(name.removesuffix("[linear]"), int(place), indicator))
    return found


def _of_column(held: Held, column: Column) -> list[str]:
    """Return what is known of a design column in every batch."""
    levels = held.fit.layout.levels
    if held.study is not None:
        member = levels.positions(held.study.batches)[held.study.codes]
        values = [held.study.x[(member == k).any(axis=1), column.place] for k in range(len(levels.labels))]
        means = [float(part.mean()) if len(part) else np.nan for part in values]
        if column.indicator:
            return [percent(mean) for mean in means]
        ends = [(part.min(), part.max()) if len(part) else (np.nan, np.nan) for part in values]
        shown = numbers([*means, *(end for pair in ends for end in pair)])
        low, high = shown[len(means) :: 2], shown[len(means) + 1 :: 2]
        return [
            f"{mean} ({start} to {end})" if mean != "–" else mean
            for mean, start, end in zip(shown, low, high, strict=False)
        ]
    means = _means_of_levels(held, column.place)
    return [percent(mean) for mean in means] if column.indicator else numbers(means)


def _means_of_levels(held: Held, place: int) -> list[float]:
    """Return the mean of a design column in every batch, by the moments; NaN where nothing tells of it."""
    levels, moments = held.fit.layout.levels, held.moments
    assert moments is not None
    positions = levels.positions(moments.batches)
    weights = moments.n
    sums, counts = np.zeros((2, len(levels.labels)))
    for k in range(positions.shape[1]):
        np.add.at(sums, positions[:, k], (weights * moments.mean_x[..., place]).mean(axis=1))
        np.add.at(counts, positions[:, k], weights.mean(axis=1))
    return [float(mean) for mean in np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)]


def _summary(held: Held, place: int) -> tuple[float, float, float, float]:
    """Return mean, standard deviation, lowest and highest value of a design column over all scans."""
    if held.study is not None:
        values = held.study.x[:, place]
        return float(values.mean()), float(values.std(ddof=1)), float(values.min()), float(values.max())
    assert held.moments is not None
    n, mean = held.moments.n, held.moments.mean_x[..., place]
    total = n.sum()
    middle = (n * mean).sum() / total
    squares = held.moments.sxx[..., place, place].sum() + (n * (mean - middle) ** 2).sum()
    return float(middle), float(np.sqrt(squares / (total - 1))), np.nan, np.nan
