r"""Subjects' intercepts given everything else, which has them normal and independent. Arrays only.

.. math:: \eta_{sv} \mid \cdot \sim \mathrm{Normal}\left(\frac{\tau_v^2 R_{sv}}{1 + \tau_v^2 P_{sv}},
    \frac{\tau_v^2}{1 + \tau_v^2 P_{sv}}\right)

with :math:`P` the precisions of a subject's scans, and :math:`R` what they leave of everything else, weighted by these.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from bayescombat.blocks import slices
from bayescombat.moments import Subjects

__all__ = ["Intercepts", "Repeats", "nested_information", "predicted_intercepts", "scores"]

GOLDEN = (np.sqrt(5) - 1) / 2
# Numbers in one block of work: 8 MiB of float64.
BLOCK = 2**20


@dataclass(frozen=True, eq=False)
class Repeats:
    """What intercepts are predicted from.

    Parameters
    ----------
    member : ndarray of int, (obs,)
        Positions of the scans' subjects.
    subjects : Subjects
        The subjects, their sizes and means.
    levels : ndarray of int, (pair, variable)
        Positions of the levels that a pair of subject and batch has.
    subject_sd : ndarray, (draw, feature)
        Spread of the intercepts, in feature units.
    gamma, delta : ndarray, (draw, batch, feature)
        Effects of the levels that are taken out first.
    noise : ndarray, (draw, subject, feature), optional
        Normal scores to draw intercepts by.
    """

    member: np.ndarray
    subjects: Subjects
    levels: np.ndarray
    subject_sd: np.ndarray
    gamma: np.ndarray
    delta: np.ndarray
    noise: np.ndarray | None = None

    def features(self, block: slice) -> "Repeats":
        """Return this for some features."""
        keep = np.zeros(self.subject_sd.shape[1], dtype=bool)
        keep[block] = True
        parts = {name: getattr(self, name)[..., block] for name in ("subject_sd", "gamma", "delta")}
        noise = None if self.noise is None else self.noise[..., block]
        return replace(self, subjects=self.subjects.select(keep), **parts, noise=noise)

    def draws(self, every: slice) -> "Repeats":
        """Return this for some draws."""
        return replace(self, **{name: getattr(self, name)[every] for name in ("subject_sd", "gamma", "delta")})


@dataclass(frozen=True, eq=False)
class Intercepts:
    """Intercepts of the subjects of some scans, given every draw of everything else.

    Parameters
    ----------
    mean, sd : ndarray, (draw, subject, feature)
        In feature units.
    member : ndarray of int, (obs,)
        Positions of the scans' subjects.
    noise : ndarray, (draw, subject, feature), optional
        Normal scores to draw intercepts by.
    """

    mean: np.ndarray
    sd: np.ndarray
    member: np.ndarray
    noise: np.ndarray | None

    def of(self, rows: np.ndarray | slice) -> "Intercepts":
        """Return the intercepts of some of the scans."""
        return replace(self, member=self.member[rows])

    def expected(self) -> np.ndarray:
        """Return every scan's expected intercept, (obs, feature, draw)."""
        return np.moveaxis(self.mean[:, self.member], 0, -1)

    def spread(self) -> np.ndarray:
        """Return the standard deviation of every scan's intercept, (obs, feature, draw)."""
        return np.moveaxis(self.sd[:, self.member], 0, -1)

    def drawn(self) -> np.ndarray:
        """Return one intercept for every scan and draw, the same for all scans of a subject, (obs, feature, draw)."""
        assert self.noise is not None
        mean, sd, noise = (part[:, self.member] for part in (self.mean, self.sd, self.noise))
        return np.moveaxis(mean + sd * noise, 0, -1)


def predicted_intercepts(
    repeats: Repeats, alpha: np.ndarray, beta: np.ndarray, sigma: np.ndarray, center: np.ndarray
) -> Intercepts:
    """Return the intercepts of the scans' subjects.

    Parameters
    ----------
    repeats : Repeats
        What they are predicted from.
    alpha, sigma : ndarray, (draw, feature)
    beta : ndarray, (draw, feature, covariate)
    center : ndarray, (covariate,)
        The average covariates that alpha refers to.
    """
    shape = len(alpha), len(repeats.subjects.labels), alpha.shape[1]
    mean, sd = np.empty(shape), np.empty(shape)
    for every in slices(len(alpha), BLOCK // max(repeats.subjects.mean_y.size, 1)):
        some = repeats.draws(every)
        mean[every], sd[every] = _mean_and_sd(some, alpha[every], beta[every], sigma[every], center)
    return Intercepts(mean, sd, repeats.member, repeats.noise)


def _mean_and_sd(
    repeats: Repeats, alpha: np.ndarray, beta: np.ndarray, sigma: np.ndarray, center: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return means and standard deviations of the intercepts, (draw, subject, feature)."""
    pairs = repeats.subjects
    scale, left = sigma[:, None, :].copy(), pairs.mean_y - alpha[:, None, :]
    for column in repeats.levels.T:
        scale = scale * repeats.delta[:, column]
        left -= repeats.gamma[:, column]
    for k in range(beta.shape[-1]):
        left -= (pairs.mean_x[..., k] - center[k]) * beta[:, None, :, k]
    precision = pairs.n / scale**2
    total, weighted = (np.add.reduceat(part, pairs.starts, axis=1) for part in (precision, precision * left))
    variance = repeats.subject_sd[:, None, :] ** 2
    known = 1 + variance * total
    return variance * weighted / known, np.sqrt(variance / known)


def nested_information(
    subjects: Subjects, batches: int, residual: np.ndarray, scale: np.ndarray, subject_sd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what scans of subjects with one batch each tell of the batches' shifts: precision, and times the shift.

    Parameters
    ----------
    subjects : Subjects
        The subjects.
    batches : int
        How many there are.
    residual : ndarray, (draw, pair, feature)
        What everything else leaves of the pairs' means.
    scale : ndarray, (draw, pair, feature)
        Residual standard deviations of their scans.
    subject_sd : ndarray, (draw, feature)
        Spread of the intercepts.

    Returns
    -------
    precision, weighted : ndarray, (draw, batch, feature)
    """
    own = subjects.n / scale**2
    own = own / (1 + subject_sd[:, None, :] ** 2 * own)
    member = (subjects.batch == np.arange(batches)[:, None]).astype(float)
    return member @ own, member @ (own * residual)


def scores(count: int) -> np.ndarray:
    """Return evenly spread normal scores (draw,) in an order that has nothing to do with the draws.

    The golden ratio's multiples fill the unit interval evenly, however many there are.
    """
    return np.asarray(ndtri((0.5 + GOLDEN * np.arange(count)) % 1))
