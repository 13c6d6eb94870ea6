"""Which pictures a report has, and words in place of those that it cannot have."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from bayescombat import plots
from bayescombat.evaluate import Evaluation
from bayescombat.report.figures import Figure, figure_of
from bayescombat.report.held import Held

if TYPE_CHECKING:
    from bayescombat.plots.picture import Picture

__all__ = ["Pictures", "pictures_of"]

# A row each: more would be yards of paper.
MOST_BATCHES = 100


class Pictures(NamedTuple):
    """Figures by what they show, and why the others are not there."""

    figures: dict[str, Figure]
    lacking: dict[str, str]


def pictures_of(held: Held, evaluation: Evaluation | None) -> Pictures:
    """Draw what can be drawn of a fit."""
    fit, figures, lacking = held.fit, {}, {}

    def draw(name: str, caption: str, picture: "Callable[[], Picture]") -> None:
        figures[f"{name}-picture"] = figure_of(picture, f"{name}-picture", caption)

    intervals = ", with 90 % intervals" if held.nuts else ""
    count = len(fit.layout.levels.labels)
    if count > MOST_BATCHES:
        lacking["effects-picture"] = (
            f"A picture of {count} batches would be too long; bayescombat.plots.effects(fit) draws it."
        )
    else:
        draw("effects", f"Shifts and scales of the batches{intervals}", lambda: plots.effects(fit))
    if held.moments is None:
        lacking["shrinkage-picture"] = (
            "How far effects are shrunken cannot be drawn: the fit was made in chunks or saved without moments."
        )
    else:
        words = "How far every feature’s shift and scale are drawn to what its batch has in common"
        draw("shrinkage", words, lambda: plots.shrinkage(fit))
    if held.study is None:
        lacking["sites-picture"] = "Values before and after cannot be drawn: the fit holds no rows."
    elif len(held.study.batches) > MOST_BATCHES:
        words = f"A picture of {len(held.study.batches)} batches would be too long"
        lacking["sites-picture"] = f"{words}; bayescombat.plots.sites(fit) draws it."
    else:
        words = "The feature that batches explain best, before and after harmonization"
        draw("sites", words, lambda: plots.sites(fit))
    if evaluation is not None:
        draw("evaluation", "Removal beside preservation", lambda: plots.evaluation(evaluation))
    return Pictures(figures, lacking)
