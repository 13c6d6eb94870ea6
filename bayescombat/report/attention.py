"""What to look at: whether the fit can be trusted, and what was found of the study, in words."""

from typing import Literal, NamedTuple

import numpy as np

from bayescombat.columns import heard
from bayescombat.diagnose import diagnose
from bayescombat.diagnose.findings import SEVERITIES, Finding
from bayescombat.errors import listing
from bayescombat.report.held import Held
from bayescombat.report.pieces import counted

__all__ = ["Banner", "banner", "items", "without_rows"]

Level = Literal["good", "caution", "bad"]
FEWEST_SCANS = 5


class Banner(NamedTuple):
    """Whether the result can be trusted: a level that colours stand for, a sentence, and what it rests on."""

    level: Level
    words: str
    detail: str


def items(held: Held) -> list[Finding]:
    """Return what was found, the gravest first."""
    found = [] if held.fit.converged else [Finding("estimation", "error", held.fit.verdict)]
    if held.study is not None:
        with heard():
            found += diagnose(held.study).findings
    # The diagnosis of rows says of features that were set aside whether they are worth a look.
    said = [message for message in held.warned if held.study is None or not message.startswith("Set aside")]
    found += [Finding("warned by the fit", "look", message) for message in said]
    found += [*_negative(held), *_small(held)]
    order = list(SEVERITIES)
    return sorted(found, key=lambda item: order.index(item.severity))


def banner(held: Held, found: list[Finding]) -> Banner:
    """Return the verdict in words."""
    look = sum(item.severity == "look" for item in found)
    ahead = f"Look at {counted(look, 'thing')} below before you lean on the result" if look else ""
    if not held.fit.converged:
        return Banner("bad", "Not to be trusted as it stands.", held.fit.verdict)
    if held.nuts:
        nothing = "Nothing in the study stands out" if held.study is not None else "No rows are there to be looked at"
        words = f"The sampler did its work. {ahead or nothing}."
    elif held.sure:
        words = f"The estimates stand; how sure they are is said given the hyper-parameters alone. {_ended(ahead)}"
    else:
        words = f"The estimates stand; nothing is said of how sure they are. {_ended(ahead)}"
    return Banner("caution" if look or not held.sure else "good", words.strip(), held.fit.verdict)


def without_rows(held: Held) -> str:
    """Say what could not be looked at; nothing where the fit holds its rows."""
    if held.study is not None:
        return ""
    told = "what its moments tell" if held.moments is not None else "no more than the parameters tell"
    return (
        f"This fit holds no rows: it was made of moments or in chunks, or saved without data. So scans were not "
        f"looked at, and here stands {told}. bayescombat.diagnose(study) looks a study over where its rows are."
    )


def _ended(text: str) -> str:
    return f"{text}." if text else ""


def _small(held: Held) -> list[Finding]:
    """Return that estimates lean on small batches where no diagnosis of the rows says so."""
    scans, labels = held.fit.layout.scans, np.array(held.fit.layout.levels.labels, dtype=object)
    small = scans < FEWEST_SCANS
    if held.study is not None or not small.any():
        return []
    words = f"{counted(int(small.sum()), 'batch', 'batches')} of fewer than {FEWEST_SCANS} scans: "
    return [Finding("small batches", "look", f"{words}{listing(labels[small])}.", "Their effects are mostly prior.")]


def _negative(held: Held) -> list[Finding]:
    """Return which features are positive as measured and negative once harmonized."""
    if held.harmonized is None or held.study is None or held.logs:
        return []
    mean = held.harmonized["mean"].transpose("obs", "feature").values
    lowest = [np.fmin.reduce(values, axis=0) for values in (held.study.y, mean)]
    names = np.array(held.study.features, dtype=object)[(lowest[0] > 0) & (lowest[1] < 0)]
    if not len(names):
        return []
    words = f"{counted(len(names), 'feature')} positive in all scans with harmonized values below zero: "
    return [Finding("negative values", "look", f"{words}{listing(names)}.", 'A study with transform="log" has none.')]
