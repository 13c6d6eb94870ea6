"""The one table, for programs and for people."""

from collections.abc import Mapping, Sequence

import pandas as pd

from benchmarks.study.judging import COLUMNS, Judged, over
from benchmarks.study.methods import METHODS, PAIRS

__all__ = ["long_table", "markdown", "tally"]

DIRECTIONS = ("removal", "preservation")


def long_table(parts: Mapping[str, Judged]) -> pd.DataFrame:
    """Return a row for every dataset, metric and method, and for every gain."""
    return pd.DataFrame([row for part in parts.values() for row in part.rows], columns=list(COLUMNS))


def tally(table: pd.DataFrame) -> pd.DataFrame:
    """Return in how many metrics either of a pair is better by more than its interval, by dataset and direction."""
    found = {}
    for pair in PAIRS:
        gains = table[(table["method"] == over(pair)) & table["lower"].notna()]
        for (name, direction), rows in gains.groupby(["dataset", "direction"], sort=False):
            counts = rows["better"].value_counts()
            found[over(pair), name, direction] = {
                "first better": counts.get(pair[0], 0),
                "second better": counts.get(pair[1], 0),
                "undecided": counts.get("", 0),
                "first ahead": int((rows["estimate"] > 0).sum()),
                "second ahead": int((rows["estimate"] < 0).sum()),
            }
    index = ["pair", "dataset", "direction"]
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(index) if found else pd.DataFrame()


def markdown(table: pd.DataFrame, abouts: Mapping[str, str], notes: Mapping[str, Sequence[str]]) -> str:
    """Return the table for people: a row for every dataset and metric, gains with their intervals, and the tally."""
    gains = [over(pair) for pair in PAIRS if over(pair) in set(table["method"])]
    methods = [name for name in ("raw", *METHODS) if name in set(table["method"])]
    lines = [_line(["dataset", "direction", "metric", "chance, or within", *methods, *gains])]
    lines.append(_line(["---"] * (4 + len(methods) + len(gains))))
    for (name, direction, metric), rows in table.groupby(["dataset", "direction", "metric"], sort=False):
        by = rows.set_index("method")
        figures = [_number(by["estimate"].get(method)) for method in methods]
        reference = by["reference"].iloc[0]
        told = [_gain(by.loc[one]) if one in by.index else "" for one in gains]
        lines.append(_line([name, direction, metric, _number(reference), *figures, *told]))
    parts = ["\n".join(lines), "\n".join(f"- **{name}**: {about}." for name, about in abouts.items())]
    counted = tally(table)
    if len(counted):
        head = [*counted.index.names, *counted.columns]
        body = [
            _line([*map(str, index), *map(str, row)]) for index, row in zip(counted.index, counted.values, strict=True)
        ]
        parts.append("\n".join([_line(map(str, head)), _line(["---"] * len(head)), *body]))
    parts.append("\n".join(f"- {name}: {note}" for name, each in notes.items() for note in each))
    return "\n\n".join(part for part in parts if part) + "\n"


def _line(cells: object) -> str:
    return f"| {' | '.join(cells)} |"  # type: ignore[arg-type]


def _number(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.3f}"


def _gain(row: pd.Series) -> str:
    """Return a gain with its interval; in bold, with the name of the better one, where that excludes zero."""
    if pd.isna(row["lower"]):
        return f"{row['estimate']:+.3f}"
    text = f"{row['estimate']:+.3f} ({row['lower']:+.3f}, {row['upper']:+.3f})"
    return f"**{text} {row['better']}**" if row["better"] else text
