"""ComBat: harmonization as a step of a pipeline, learned from the training scans alone."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, Self, get_args

import numpy as np
import pandas as pd
import xarray as xr
from sklearn import get_config
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from bayescombat.design import batch_names, formula_text, parse
from bayescombat.errors import BayesCombatError, check_choice
from bayescombat.fit import Fit, fit
from bayescombat.fit.contents import Method
from bayescombat.fit.harmonizer import Unseen
from bayescombat.frames import as_pandas
from bayescombat.sklearn.tables import Rows, is_frame
from bayescombat.study import Study

__all__ = ["ComBat"]


class ComBat(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Remove the effects of batches, as learned from the scans that it is fitted to.

    In a pipeline under cross-validation these are the training scans. Harmonized before they are split, test scans have
    a say in what they are tested by; with the outcome among the covariates a classifier then finds what is not there.

    Labels of batches and covariates are columns of X, which `batch` and `covariates` name here: they are used and not
    returned. Or they come beside X, as the metadata ``batch`` and ``covariates`` of `fit` and `transform`: `ComBat`
    asks for these by itself once ``sklearn.set_config(enable_metadata_routing=True)`` was called, but not all of
    scikit-learn passes metadata on to what predicts. A name is looked for beside X first.

    Parameters
    ----------
    method : {"eb", "nuts"}
        Empirical Bayes, or full Bayes by NUTS, which is sampled again in every fold.
    batch : str, sequence of str, or callable, optional
        Where labels of batches are, unless they come as metadata: a column, or several for several batch variables;
        or a function of X that returns labels.
    covariates : str or sequence of str, optional
        What is to be preserved: a formula such as ``"age + sex"``, or names of columns. By default every column of
        the metadata ``covariates`` that has no other role. Never the outcome that is predicted: harmonizing a scan
        takes its covariates, and a scan to be predicted has no outcome. `y` is not looked at.
    remove : str or sequence of str, optional
        Covariates whose effects are taken out, as in `bayescombat.Study.from_dataframe`.
    smooth : mapping of str to int, optional
        Columns to be preserved as curves, and how many basis functions each has.
    reference : str, optional
        Batch to harmonize to; by default the pooled average of the training scans.
    unseen : {"error", "prior"}
        What `transform` does with scans of a batch that was not there in `fit`. ``"prior"`` takes it for one drawn
        from the population of batches, by empirical Bayes for an average one: its mean shift stays in.
    shrinkage : {"parametric", "nonparametric", "none"}
        For empirical Bayes.
    mean_only : bool
        Adjust the location alone.
    shared_factors : int or "auto", optional
        How many factors the features share in the noise of a scan.
    factors : int or "auto"
        How many hidden factors of the residuals to remove.
    covariance : bool or float
        Harmonize how features vary together too, as CovBat does.
    uncertainty : bool
        For empirical Bayes: whether `harmonize` says how sure it is.
    draws, tune, chains : int, optional
        For NUTS.
    random_state : int, RandomState or None
        For NUTS, and the uncertainty of empirical Bayes. An integer is the ``seed`` of `bayescombat.fit`.

    Attributes
    ----------
    fit_ : bayescombat.Fit
        The fit to the training scans, which it holds.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str, (column,)
        Their names, if X was a frame.

    Notes
    -----
    The settings from `shrinkage` on are those of `bayescombat.fit`, which says what each does and where it stops.
    Features of X may have missing cells, which stay missing. Values are returned in double precision. For ratios, take
    logarithms in a step before, and exponentials in one after.

    Errors of `transform` happen while predictions are scored, where scikit-learn makes them NaN and a warning unless
    ``error_score="raise"``.

    Examples
    --------
    >>> import bayescombat as bc
    >>> from bayescombat.sklearn import ComBat
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> table = simulation.table
    >>> X, covariates = table[list(simulation.features)], table[["age", "sex"]]
    >>> ComBat().fit_transform(X, batch=table["site"], covariates=covariates).shape
    (35, 3)
    >>> combat = ComBat(batch="site", covariates="age + sex").fit(table)
    >>> combat.get_feature_names_out()
    array(['feature_0', 'feature_1', 'feature_2'], dtype=object)
    """

    __metadata_request__fit = {"batch": True, "covariates": True}
    __metadata_request__transform = {"batch": True, "covariates": True}

    def __init__(
        self,
        method: Method = "eb",
        *,
        batch: str | Sequence[str] | Callable[[Any], Any] | None = None,
        covariates: str | Sequence[str] | None = None,
        remove: str | Sequence[str] | None = None,
        smooth: Mapping[str, int] | None = None,
        reference: str | None = None,
        unseen: Unseen = "error",
        shrinkage: str = "parametric",
        mean_only: bool = False,
        shared_factors: int | str | None = None,
        factors: int | str = 0,
        covariance: bool | float = False,
        uncertainty: bool = False,
        draws: int | None = None,
        tune: int = 500,
        chains: int = 4,
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.batch = batch
        self.covariates = covariates
        self.remove = remove
        self.smooth = smooth
        self.reference = reference
        self.unseen = unseen
        self.shrinkage = shrinkage
        self.mean_only = mean_only
        self.shared_factors = shared_factors
        self.factors = factors
        self.covariance = covariance
        self.uncertainty = uncertainty
        self.draws = draws
        self.tune = tune
        self.chains = chains
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, *, batch: Any = None, covariates: Any = None) -> Self:
        """Learn the effects of batches.

        Parameters
        ----------
        X : array-like or frame of pandas, polars, ..., (obs, feature)
            Measurements; NaN or null where a cell is missing.
        y : object
            Not looked at.
        batch : array-like or series, (obs,), or frame, optional
            Labels of batches; a frame for several batch variables.
        covariates : frame, or array-like of (obs, covariate), optional
            Numbers and categories; columns of an array are ``covariate_0`` and so on.

        Returns
        -------
        ComBat
            Itself.

        Raises
        ------
        DataError
            If there are no labels of batches, two scans or batches, or columns cannot be used.
        BayesCombatError
            If a setting is not one of those above, or belongs to the other method.
        """
        check_choice("unseen", self.unseen, get_args(Unseen))
        rows = self._rows(X, batch, covariates, "fit")
        variables = rows.batch or batch_names(self.batch)
        covered = list(parse("", formula_text(self.remove)).columns.values()) + list(self.smooth or {})
        preserved = self.covariates
        if preserved is None:
            preserved = [name for name in rows.beside.columns if name not in {*variables, *covered}]
        roles = [*variables, *parse(formula_text(preserved)).columns.values(), *covered]
        features = rows.features(set(roles))
        study = Study.from_dataframe(
            rows.table(features, roles),
            batch=list(variables),
            covariates=preserved,
            features=features,
            remove=self.remove,
            reference=self.reference,
            smooth=self.smooth,
        )
        self.fit_: Fit = fit(study, self.method, **self._settings())
        return self

    def transform(self, X: Any, *, batch: Any = None, covariates: Any = None) -> Any:
        """Return harmonized values, posterior means by NUTS.

        Parameters
        ----------
        X : array-like or frame, (obs, feature)
            The same columns as in `fit`; any scans.
        batch, covariates : optional
            As in `fit`.

        Returns
        -------
        ndarray of float64, (obs, feature), or a frame as `set_output` says
            In feature units; columns of X that are labels or covariates are not there.

        Raises
        ------
        UnseenBatchError
            If scans are of a batch that was not there in `fit`, unless ``unseen="prior"``.
        UnseenLevelError
            If a covariate has a level that was not there.
        DataError
            If there are no labels of batches, or columns cannot be used.
        """
        return self.harmonize(X, batch=batch, covariates=covariates, probability=None)["mean"].values

    def fit_transform(self, X: Any, y: Any = None, *, batch: Any = None, covariates: Any = None) -> Any:
        """Return harmonized values of the scans that the effects of batches are learned from: `fit`, `transform`."""
        return self.fit(X, y, batch=batch, covariates=covariates).transform(X, batch=batch, covariates=covariates)

    def harmonize(
        self, X: Any, *, batch: Any = None, covariates: Any = None, probability: float | None = 0.9
    ) -> xr.Dataset:
        """Return harmonized values with what is said of how sure they are.

        Parameters
        ----------
        X, batch, covariates
            As in `transform`.
        probability : float, optional
            Of the interval from ``lower`` to ``upper``; None for none.

        Returns
        -------
        xarray.Dataset
            ``mean``, and by NUTS or with `uncertainty` ``sd``, ``lower`` and ``upper`` (obs, feature), as
            `bayescombat.Fit.harmonize` returns them.

        Examples
        --------
        >>> import bayescombat as bc
        >>> from bayescombat.sklearn import ComBat
        >>> table = bc.datasets.simulate((20, 10, 5), features=3).table
        >>> combat = ComBat(batch="site", covariates="age + sex", uncertainty=True).fit(table)
        >>> list(combat.harmonize(table, probability=None))
        ['mean', 'sd']
        """
        check_is_fitted(self)
        design = self.fit_.layout.spec
        rows = self._rows(X, batch, covariates, "transform").called(design.batch)
        table = rows.table(design.features, [*design.batch, *design.sources])
        return self.fit_.harmonize(table, probability=probability, unseen=self.unseen)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the harmonized columns: those of X without labels of batches and covariates.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the columns of X; those of `fit` if it was given a frame.
        """
        check_is_fitted(self)
        names = np.asarray(super().get_feature_names_out(input_features))
        return names[np.isin(self._names(), self.fit_.layout.spec.features)]

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn should know: cells may be missing."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _names(self) -> np.ndarray:
        """Return what columns of X are called."""
        unnamed = np.array([f"x{v}" for v in range(self.n_features_in_)], dtype=object)
        return np.asarray(getattr(self, "feature_names_in_", unnamed))

    def _rows(self, X: Any, batch: Any, covariates: Any, step: str) -> Rows:
        """Return rows of X with what came beside them."""
        learning = step == "fit"
        if is_frame(X):
            validate_data(self, X, skip_check_array=True, reset=learning)
            values = as_pandas(X)
        else:
            least = 2 if learning else 1
            found = validate_data(
                self, X, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=least, reset=learning
            )
            values = pd.DataFrame(found, copy=False)
        # Rows drawn with replacement have labels more than once.
        index = values.index if values.index.is_unique else pd.RangeIndex(len(values))
        values = values.set_axis(pd.Index(self._names(), dtype=object), axis=1).set_axis(index, axis=0)
        if batch is not None and self.batch is not None:
            raise BayesCombatError(
                f"Expected labels of batches once, found the metadata batch in {step} and batch={self.batch!r} in the "
                "constructor. Leave one of them out."
            )
        if batch is None and self.batch is None:
            raise _no_labels(step)
        return Rows.of(X, values, self.batch(X) if callable(self.batch) else batch, covariates)

    def _settings(self) -> dict[str, Any]:
        """Return the arguments of `bayescombat.fit`."""
        names = ("shrinkage", "mean_only", "shared_factors", "factors", "covariance", "uncertainty")
        settings = {name: getattr(self, name) for name in (*names, "draws", "tune", "chains")}
        if self.method == "nuts" or self.uncertainty:
            settings["seed"] = _seed(self.random_state)
        return settings | ({"progress_bar": False} if self.method == "nuts" else {})


def _seed(random_state: Any) -> int | None:
    if random_state is None or isinstance(random_state, Integral):
        return None if random_state is None else int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _no_labels(step: str) -> BayesCombatError:
    """Return the error for rows of which nobody says what batch they are of."""
    routed = get_config()["enable_metadata_routing"]
    how = (
        "predict and score of a pipeline pass them on, named scorers, cross_val_predict and predict of a search do not"
        if routed
        else "a pipeline passes them on to transform only after sklearn.set_config(enable_metadata_routing=True)"
    )
    return BayesCombatError(
        f"Expected labels of batches in ComBat.{step}, found none. Give {step}(X, batch=labels): {how}. Or name the "
        "column of X that holds them, which works everywhere: ComBat(batch='site')."
    )
