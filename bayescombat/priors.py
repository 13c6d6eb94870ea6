"""The priors of the hierarchical model, on its standardised scale."""

from dataclasses import dataclass, fields, replace
from typing import Self

from bayescombat.errors import BayesCombatError

__all__ = ["Priors"]

# Spreads of log scales where there are to be none, and how firmly they are held: the data of no table move them.
STILL = 1e-5
FIRMLY = 1e-3
NARROW = 1e-2


@dataclass(frozen=True)
class Priors:
    """Scales of the priors.

    The standardised scale: a feature is centred at its mean and divided by its residual standard deviation
    within batches (its sigma, nearly), design columns are whitened to unit covariance within batches.
    Batch means sum to zero, so that one of B of them spreads by sqrt(1 - 1/B) of what is said here.
    A quantity called *median* has a log-normal prior with that median, and the field that ends in *log_sd*
    beside it is the standard deviation of its logarithm.

    Parameters
    ----------
    alpha_sd : float
        Standard deviation of a feature's mean about its average in the table; units of sigma.
    beta_sd : float
        Standard deviation of the slopes; units of sigma per standard deviation of a covariate within batches.
    log_sigma_sd : float
        Standard deviation of the logarithm of sigma about the residual standard deviation.
    gamma_mean_median, gamma_mean_log_sd : float
        How much the batches' mean shifts spread across batches; median in units of sigma.
    gamma_sd_median, gamma_sd_log_sd : float
        How much a batch's shifts differ between features, in the typical batch; median in units of sigma.
    gamma_sd_spread_median, gamma_sd_spread_log_sd : float
        How much the logarithm of that spread differs between batches; median in log units.
    log_delta_mean_median, log_delta_mean_log_sd : float
        How much the batches' mean log scales spread across batches; median in log units.
    log_delta_sd_median, log_delta_sd_log_sd : float
        How much a batch's log scales differ between features, in the typical batch; median in log units.
    log_delta_sd_spread_median, log_delta_sd_spread_log_sd : float
        How much the logarithm of that spread differs between batches; median in log units.
    subject_sd_median, subject_sd_log_sd : float
        How much the intercepts of subjects spread, in the typical feature; median in units of sigma.
    subject_sd_spread_median, subject_sd_spread_log_sd : float
        How much the logarithm of that spread differs between features; median in log units.
    smooth_sd_median, smooth_sd_log_sd : float
        How far a smooth bends from its straight line in the typical feature, root mean square over its range; median
        in units of sigma.
    smooth_sd_spread_median, smooth_sd_spread_log_sd : float
        How much the logarithm of that differs between features; median in log units.
    nu_median, nu_log_sd : float
        Degrees of freedom of the noise's Student t, in a robust fit.

    Raises
    ------
    BayesCombatError
        If a field is not a positive number.

    Examples
    --------
    >>> import bayescombat as bc
    >>> bc.Priors(gamma_sd_median=1.0).gamma_sd_median
    1.0
    """

    alpha_sd: float = 10.0
    beta_sd: float = 5.0
    log_sigma_sd: float = 1.0
    gamma_mean_median: float = 0.3
    gamma_mean_log_sd: float = 1.0
    gamma_sd_median: float = 0.5
    gamma_sd_log_sd: float = 1.0
    gamma_sd_spread_median: float = 0.3
    gamma_sd_spread_log_sd: float = 0.5
    log_delta_mean_median: float = 0.15
    log_delta_mean_log_sd: float = 0.7
    log_delta_sd_median: float = 0.15
    log_delta_sd_log_sd: float = 0.7
    log_delta_sd_spread_median: float = 0.3
    log_delta_sd_spread_log_sd: float = 0.5
    subject_sd_median: float = 1.0
    subject_sd_log_sd: float = 1.0
    subject_sd_spread_median: float = 0.4
    subject_sd_spread_log_sd: float = 0.5
    smooth_sd_median: float = 0.2
    smooth_sd_log_sd: float = 1.0
    smooth_sd_spread_median: float = 0.5
    smooth_sd_spread_log_sd: float = 0.5
    nu_median: float = 10.0
    nu_log_sd: float = 1.0

    def __post_init__(self) -> None:
        """Check every number."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
                raise BayesCombatError(f"Expected Priors.{field.name} to be a positive finite number, found {value!r}.")

    @property
    def scales_held(self) -> bool:
        """Whether all batches are of one scale, as by `mean_only`."""
        return self == self.mean_only()

    def mean_only(self) -> Self:
        """Return these priors with all batches of one scale: delta is one to within a ten-thousandth.

        Returns
        -------
        Priors
            All that is said of ``log_delta`` is replaced.

        Examples
        --------
        >>> import bayescombat as bc
        >>> bc.Priors(gamma_sd_median=1.0).mean_only().gamma_sd_median
        1.0
        """
        medians = {"mean": STILL, "sd": STILL, "sd_spread": NARROW}
        held = {f"log_delta_{name}_median": median for name, median in medians.items()}
        return replace(self, **held, **{f"log_delta_{name}_log_sd": FIRMLY for name in medians})
