"""fit() and load(): strings the rooms together."""

import os
from dataclasses import replace
from functools import partial
from typing import get_args

from bayescombat.empirical import Compat
from bayescombat.errors import BayesCombatError, check_choice, listing
from bayescombat.estimation import Estimator, by_empirical_bayes, by_nuts
from bayescombat.factors import SharedFactors, by_default
from bayescombat.fit.chunked import chunked_tree
from bayescombat.fit.contents import Method
from bayescombat.fit.fitted import Fit
from bayescombat.fit.joining import Asked
from bayescombat.fit.trees import fitted_tree
from bayescombat.hidden import Factors
from bayescombat.moments import Moments, as_moments
from bayescombat.priors import Priors
from bayescombat.settings import Backend, Settings
from bayescombat.shrinkage import Shrinkage
from bayescombat.storage import read_tree
from bayescombat.study import ChunkedStudy, Study

__all__ = ["fit", "load"]


def fit(
    data: Study | Moments | ChunkedStudy,
    method: Method = "nuts",
    *,
    priors: Priors | None = None,
    draws: int | None = None,
    tune: int = 500,
    chains: int = 4,
    cores: int | None = None,
    seed: int | None = None,
    target_accept: float | None = None,
    progress_bar: bool = True,
    backend: Backend = "numba",
    shrinkage: Shrinkage = "parametric",
    mean_only: bool = False,
    compat: Compat | None = None,
    shared_factors: SharedFactors | None = None,
    factors: Factors = 0,
    factors_despite_covariates: bool = False,
    covariance: bool | float = False,
    uncertainty: bool = False,
    robust: bool = False,
) -> Fit:
    r"""Fit the hierarchical ComBat model.

    Scan :math:`j` of batch :math:`i` has, for feature :math:`v`,

    .. math:: y_{jv} = \alpha_v + x_j' \beta_v + \gamma_{iv} + \delta_{iv} \sigma_v \varepsilon_{jv}

    with x measured from its average, :math:`\gamma_{iv} / \sigma_v` and :math:`\log \delta_{iv}` normal over the
    features of a batch; y is a logarithm if the study takes logarithms.  Draws are reported under
    :math:`\sum_i n_i \gamma_{iv} = 0` and :math:`\sum_i n_i \delta_{iv}^2 = N`, or with :math:`\gamma = 0` and
    :math:`\delta = 1` for the reference batch if the study has one.

    Parameters
    ----------
    data : Study, Moments or ChunkedStudy
        The table, or its moments; a fit of moments can harmonize rows but holds none. A study in chunks, for empirical
        Bayes of independent features, is read once; its fit holds neither rows nor moments.
    method : {"nuts", "eb"}
        Full Bayes by NUTS, or empirical Bayes in closed form.
    priors : Priors, optional
        For NUTS: scales of the priors.
    draws, tune, chains : int, optional
        For NUTS: draws kept and warm-up steps per chain, and chains. By default 1,000 draws, and 2,000 where features
        of fewer than twenty batches share factors, which takes longer to explore.
    cores : int, optional
        For NUTS: chains sampled at a time; by default as many as the machine has cores.
    seed : int, optional
        For NUTS, and the `uncertainty` of empirical Bayes: the same seed gives the same bits on the same machine. By
        default a new one, kept in the fit.
    target_accept : float, optional
        For NUTS: acceptance that the step size is tuned to; by default 0.9, and 0.99 below 20 features.
    progress_bar : bool
        For NUTS, and for a study in chunks: whether to show one.
    backend : {"numba", "jax"}
        For NUTS: what compiles the log-density. ``"jax"`` (``pip install pymc-combat[jax]``) compiles the PyMC model
        for the device that JAX finds, such as a GPU; the posterior is the same. On a processor it is far slower. It
        sets JAX to double precision for the whole process.
    shrinkage : {"parametric", "nonparametric", "none"}
        For empirical Bayes: normal and inverse-gamma priors; the empirical distribution of the other features; or
        no shrinkage.
    mean_only : bool
        Adjust the location alone. By NUTS the batches' scales are held at one by their priors, to within a
        ten-thousandth (`Priors.mean_only`).
    compat : {"sva", "longcombat"}, optional
        For empirical Bayes: reproduce the R package sva, or with subjects longCombat, to the digit. The default differs
        from sva where that is known to be wrong: the fixed point is iterated until it stands still; mean-only shrinks
        by the size of the batch rather than as if each had one scan; a batch of one scan does not turn the whole run
        mean-only. It differs from longCombat in that repeated scans of a subject do not count as independent ones when
        a batch's shift is shrunken, in that its scale is measured by what intercepts leave of the degrees of freedom,
        and in that intercepts are predicted from the shrunken effects.
    shared_factors : int or "auto", optional
        How many factors the features share in the noise of a scan; batches then have patterns over the features too,
        learned from each other. ``"auto"`` for as many as parallel analysis finds, none below ten features. With none,
        the features of a scan are independent given its batch: then what is said of averages over correlated features
        is too sure. By default ``"auto"`` for NUTS, and none for empirical Bayes, whose estimates are then the
        published ones; none either where factors cannot be had (with subjects, with `factors`, in moments that were
        made without `cross`), nor, unless they are asked for, with several batch variables and in tables of more than
        500 features.
    factors : int or "auto"
        How many hidden factors of the residuals to *remove*, as ``remove`` of a study removes covariates; ``"auto"``
        for as many as parallel analysis finds. Not to be mixed up with `shared_factors`, which leave values where they
        are and say how sure one may be of them. Moments must have been made with `cross`.
    factors_despite_covariates : bool
        Remove factors even if they carry a preserved covariate.
    covariance : bool or float
        Harmonize how features vary together too, as CovBat does. True for the principal components that explain 95 %
        of the variance, a number for another share. Moments must have been made with `cross`.
    uncertainty : bool
        For empirical Bayes: whether harmonized values have sd, interval and draws, conditional on the
        hyper-parameters, alpha, beta and sigma, which are taken for known; ``docs/uncertainty.md`` says where they are
        too sure. Not unless asked for: the interval takes many times as long as the estimates. NUTS always says how
        sure it is.
    robust : bool
        For NUTS of a study with independent features: noise is Student's t, with degrees of freedom ``nu`` that all
        features have in common, so that outlying values have less say. All values stand in the model, which PyMC
        compiles anew: some thirty times the processor time for 65 scans of ten features, more with more scans. The fit
        neither updates nor adopts, and imputes nothing. Not with subjects.

    Returns
    -------
    Fit
        Harmonized data, parameters, and what is needed to harmonize new rows.

    Raises
    ------
    ConfoundedDesignError
        If batch and covariates cannot be told apart.
    DataError
        If there are too few batches, scans or varying features.
    BayesCombatError
        If an argument is not one of those above, or belongs to the other method; if factors to be removed carry a
        preserved covariate.

    Warns
    -----
    ConvergenceWarning
        If the draws should not be trusted: names the worst parameters and says what to do.
    FeatureWarning
        If features are constant, or observed too rarely: they are set aside and returned as they came. If features are
        never, or once, observed in a batch.
    BatchSizeWarning, PoolingWarning
        If a batch has one scan, or none that tells of its scale; or there is one feature.

    Notes
    -----
    The model and its empirical-Bayes estimates are those of Johnson, Li and Rabinovic (2007),
    doi:10.1093/biostatistics/kxj037. After an interrupt the draws so far are returned, with a warning. For more
    features than memory holds draws of there is `fit_blocks`.

    Missing cells are taken to be missing at random given batch and covariates (Rubin 1976,
    doi:10.1093/biomet/63.3.581): every feature is fitted to the scans that it was observed in. With ``compat="sva"``
    averages are weighted and variances divided as sva does once any cell is missing.

    With shared factors the noise of a scan is :math:`\varepsilon_j = L \eta_j + \text{rest}`, with loadings L of the
    pooled correlation of residuals, plugged in. Shifts of a batch vary together as well: :math:`\gamma_i / \sigma` is
    normal about its mean with covariance :math:`\mathrm{gamma\_sd}_i^2 (I + P_i P_i')`, where the patterns
    :math:`P_i` are learned from the effects of all *other* batches, drawn to the form of the noise,
    :math:`L \,\mathrm{diag}\, L'`, as by an inverse-Wishart prior that weighs as much as twenty batches (Chen 1979,
    doi:10.1111/j.2517-6161.1979.tb01078.x). By NUTS the scores of patterns and of the batch's mean noise are sampled;
    that sums of squares of correlated features vary together is approximated to first order on the log scale.
    By empirical Bayes effects are found by generalised least squares for every batch, means and log scales alike,
    and their spreads by expectation-maximisation. With several batch variables the means of noise belong to cells, the
    combinations of levels, and patterns to the levels of each variable, learned from its other levels. By empirical
    Bayes each variable's levels are then estimated given the others', in turn until nothing moves: shifts are posterior
    means given scales and spreads, but these are found as if the effects of the other variables were known.

    Where the study names subjects, scan j has in addition the intercept :math:`\eta_{sv} \sim
    \mathrm{Normal}(0, \tau_v)` of its subject (Beer et al. 2020, doi:10.1016/j.neuroimage.2020.117129), which
    harmonization leaves as it is. For NUTS it is integrated out, log :math:`\tau_v` being normal over the features,
    and given every draw it is normal again. By empirical Bayes :math:`\tau_v` and :math:`\sigma_v` are those of
    restricted maximum likelihood, feature by feature. Subjects go with neither shared factors nor `Fit.adopt`.

    Columns of `smooth` are penalised splines (Eilers and Marx 1996, doi:10.1214/ss/1038425655; as random effects: Wood
    2017, doi:10.1201/9781315370279), whose coefficients are normal with a standard deviation ``smooth_sd`` of every
    feature's own: how far the curve bends, root mean square over the range. By empirical Bayes it is that of the
    largest restricted likelihood, batches taken for equally noisy, and slopes are best linear predictions; by NUTS it
    is log-normal over the features. Smooths are refused with `compat`.

    **Hidden factors** are taken out of a scan's harmonized residuals, each by its score over all observed features
    (Bartlett's, of loadings by principal-axis factoring of the pooled correlation within batches). The model is fitted
    to the moments that the scans have without them, so that a batch in which a factor varies more is not taken for one
    of larger scale: then no combination of features tells the batches apart by it. The linear effects of preserved
    covariates cannot be carried by a factor: residuals hold nothing of them, and their slopes stay, what a factor by
    chance has of them included, which intervals do not know. What can be lost is all else that has a covariate's
    pattern over the features: the curved part of its effect, differences between cases. So factors are refused if their
    scores, read from the values with covariates left in, explain a tenth or more of the variance of a preserved design
    column within batches, and its pattern over the features is like theirs beyond chance (5 %, over random signs of the
    features). The test has no power below some ten features, nor for an effect without any linear part (the young and
    the old alike against the middle): give the covariate a form that says so. By NUTS the errors of the scores are
    drawn. Loadings are plugged in, so that intervals are somewhat too narrow.

    **Covariance** is harmonized after Chen et al. (2022), doi:10.1002/hbm.25688. By empirical Bayes it is their
    algorithm, with ``compat="sva"`` to the digit of the R package ComBatFamily. By NUTS every draw that is used has its
    own scales of the scores, drawn given the batch's sums of squares, so that what few scans tell of a covariance makes
    intervals wider; locations are those of the draws' shifts. A batch of one scan keeps its scores. A reference batch
    keeps its values, and its covariance is the target. Hidden factors go first. For both, mean and sd of harmonized
    values are from at most 1,000 draws, as their bounds are, and there has to be one batch variable.

    With several batch variables :math:`\gamma_{iv}` is the sum and :math:`\delta_{iv}` the product over the levels that
    a scan has. They are fitted together, where Horng et al. (2022), doi:10.1038/s41598-022-08412-9, harmonize for one
    variable after the other; for empirical Bayes by least squares and log-linear scales, each variable's levels
    being shrunken as batches are.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> study = bc.Study.from_dataframe(
    ...     simulation.table, batch="site", covariates="age + sex", features=simulation.features
    ... )
    >>> bc.fit(study, method="eb").harmonized["mean"].sizes
    Frozen({'obs': 35, 'feature': 3})
    >>> bc.fit(study, method="eb", covariance=True).asked.share
    0.95
    >>> list(bc.fit(study, method="eb", uncertainty=True, seed=1).harmonized)
    ['mean', 'sd', 'lower', 'upper']
    """
    settings = Settings(draws, tune, chains, cores, seed, target_accept, progress_bar, backend)
    if isinstance(data, ChunkedStudy):
        settings = replace(settings, progress_bar=True)
    _check_method(method, priors, settings, (shrinkage, compat), uncertainty)
    if shared_factors is None and (method == "eb" or factors != 0):
        shared_factors = 0
    if shared_factors != 0 and factors != 0:
        raise BayesCombatError(
            "Expected either shared_factors, which model what features share, or factors, which remove it, found both. "
            "Leave one of them out."
        )
    asked = Asked.of(factors, factors_despite_covariates, covariance)
    if uncertainty:
        _check_cells(data, asked)
    if robust:
        shared_factors = _check_robust(data, method, shared_factors, asked)
    if isinstance(data, ChunkedStudy):
        _check_chunks(method, shared_factors, asked)
        return Fit(chunked_tree(data, shrinkage, mean_only, compat, progress_bar))
    if shared_factors is None:
        shared_factors = by_default(data) if isinstance(data, Study | Moments) else 0
    moments = as_moments(data, cross=shared_factors != 0 or asked.needs_cross)
    estimator: Estimator = partial(
        by_empirical_bayes,
        shrinkage=shrinkage,
        mean_only=mean_only,
        compat=compat,
        shared_factors=shared_factors,
        uncertainty=uncertainty,
        seed=settings.seed,
    )
    if method == "nuts":
        rows = data if robust and isinstance(data, Study) else None
        priors = (priors or Priors()).mean_only() if mean_only else priors or Priors()
        estimator = partial(by_nuts, priors=priors, settings=settings, shared_factors=shared_factors, robust=rows)
    return Fit(fitted_tree(moments, estimator, asked, data if isinstance(data, Study) else None))


def load(path: str | os.PathLike[str]) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Parameters
    ----------
    path : path-like
        The file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If it is not a fit of bayescombat, or of a newer version.

    Examples
    --------
    >>> import tempfile, bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bc.fit(study, method="eb").save(f"{folder}/fit.nc")
    ...     bc.load(f"{folder}/fit.nc").method
    'eb'
    """
    return Fit(read_tree(path, kind="fit"))


def _check_cells(data: Study | Moments | ChunkedStudy, asked: Asked) -> None:
    """Raise a BayesCombatError if how sure harmonized values are is not told by batch and feature, or in chunks."""
    if asked.needs_cross or isinstance(data, ChunkedStudy):
        raise BayesCombatError(
            "Expected neither factors, covariance nor a study in chunks for uncertainty, found one of these. What is "
            "done across features has no posterior that is known given the rest, and a fit of chunks keeps estimates "
            "alone. Leave uncertainty out; for a study in memory there is method='nuts' too."
        )


def _check_chunks(method: str, shared_factors: SharedFactors | None, asked: Asked) -> None:
    if method != "eb" or shared_factors != 0 or asked.needs_cross:
        raise BayesCombatError(
            "Expected method='eb' without shared_factors, factors or covariance for a study in chunks, found "
            f"method={method!r} or one of these. They need all features of a scan at once: fit in memory, or "
            "by NUTS in blocks of features (fit_blocks)."
        )


def _check_robust(data: object, method: str, shared_factors: SharedFactors | None, asked: Asked) -> SharedFactors:
    """Return that no factors are shared; raise a BayesCombatError where heavy tails cannot be modelled."""
    rows = isinstance(data, Study) and data.subjects is None
    if method != "nuts" or not rows or shared_factors not in (None, 0) or asked.needs_cross:
        raise BayesCombatError(
            "Expected a Study without subjects and method='nuts' for robust=True, without shared_factors, factors or "
            f"covariance, found {type(data).__name__}, method={method!r} or one of these. What outlying values are is "
            "not known from moments. Leave robust out, or the others."
        )
    return 0


def _check_method(
    method: str, priors: Priors | None, settings: Settings, eb: tuple[str, str | None], uncertainty: bool
) -> None:
    check_choice("method", method, get_args(Method))
    if uncertainty:
        settings = replace(settings, seed=None)
        if method == "nuts":
            raise BayesCombatError(
                "Expected uncertainty=True with method='eb' alone, found it with method='nuts', which always says how "
                "sure it is. Leave it out."
            )
    if method == "nuts" and eb != ("parametric", None):
        raise BayesCombatError(
            "Expected only arguments of method='nuts', found shrinkage or compat, which belong to "
            "method='eb'. Leave them out or choose that method."
        )
    given = [name for name, default in vars(Settings()).items() if getattr(settings, name) != default]
    given += [] if priors is None else ["priors"]
    if method == "eb" and given:
        raise BayesCombatError(
            f"Expected only arguments of method='eb', found some that belong to method='nuts': {listing(given)}. Leave "
            "them out or choose that method."
        )
