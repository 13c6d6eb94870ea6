"""Repeated scans: an intercept for every subject, against dense algebra, longCombat and simulations of known truth."""

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from pytensor.compile.mode import Mode
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import norm

import bayescombat as bc
from bayescombat.intercepts import Repeats, predicted_intercepts
from bayescombat.moments import Subjects
from bayescombat.repeated import fixed_effects
from bayescombat.vocabulary import POPULATION
from benchmarks import parity, repeated

type Point = dict[str, np.ndarray]

INTERPRETED = Mode(linker="py", optimizer="fast_compile")

SIMULATION = bc.datasets.simulate((15, 12, 9, 9), features=3, repeats=3, seed=1)
FEATURES = list(SIMULATION.features)
ROLES = {"batch": "site", "covariates": "age + sex", "subject": "subject"}


def table(holes: float = 0.0) -> pd.DataFrame:
    data = SIMULATION.table.copy()
    data["software"] = np.resize(["5", "6", "6", "5", "6"], len(data))
    y = data[FEATURES].to_numpy().copy()
    y[np.random.default_rng(2).random(y.shape) < holes] = np.nan
    data[FEATURES] = y
    return data


def study_of(data: pd.DataFrame, **options: object) -> bc.Study:
    return bc.Study.from_dataframe(data, features=FEATURES, **{**ROLES, **options})


@cache
def eb_fit(**options: object) -> bc.Fit:
    return bc.fit(study_of(table()), method="eb", **options)


@pytest.fixture(scope="module")
def nuts() -> bc.Fit:
    """Two chains of 1,000 draws of the four sites."""
    return bc.fit(study_of(table()), chains=2, tune=500, draws=1000, seed=1, progress_bar=False)


def test_predictive_checks_give_the_scans_of_a_subject_one_intercept(nuts: bc.Fit) -> None:
    found = bc.predictive_check(nuts, 300, progress_bar=False)
    width = (found["upper"] - found["lower"]).sel(statistic="mean").mean("batch")
    tau = nuts.parameters["subject_sd"].mean(("chain", "draw"))
    # Of five, four, three and three subjects; intercepts of scans would make it 1.7 times less wide.
    assert (width > 2 * 1.645 * tau * np.mean([5**-0.5, 4**-0.5, 3**-0.5, 3**-0.5])).all()


# ---------------------------------------------------------------- restricted maximum likelihood


def dense(data: pd.DataFrame, feature: str, variables: list[str]) -> tuple[np.ndarray, ...]:
    """Return y, the fixed design with an indicator of every cell, and the indicator of subjects."""
    seen = data[data[feature].notna()]
    x = np.column_stack([seen["age"], seen["sex"] == "M"]).astype(float)
    first = pd.get_dummies(seen[variables[0]], dtype=float)
    others = [pd.get_dummies(seen[name], dtype=float, drop_first=True) for name in variables[1:]]
    subjects = pd.get_dummies(seen["subject"], dtype=float).to_numpy()
    return seen[feature].to_numpy(), np.column_stack([first, *others, x]), subjects


def restricted(ratio: float, y: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple[float, np.ndarray, float]:
    """Minus twice the restricted log-likelihood, the coefficients and the residual variance, by dense matrices."""
    precision = np.linalg.inv(np.eye(len(y)) + ratio * z @ z.T)
    normal = x.T @ precision @ x
    coefficients = np.linalg.solve(normal, x.T @ precision @ y)
    left = y - x @ coefficients
    freedom = len(y) - x.shape[1]
    variance = left @ precision @ left / freedom
    volume = np.linalg.slogdet(normal)[1] - np.linalg.slogdet(precision)[1]
    return freedom * np.log(variance) + volume, coefficients, variance


def by_hand(data: pd.DataFrame, feature: str, variables: list[str]) -> tuple[float, np.ndarray, float]:
    parts = dense(data, feature, variables)
    found = minimize_scalar(
        lambda log: restricted(np.exp(log), *parts)[0], bounds=(-12, 12), method="bounded", options={"xatol": 1e-10}
    )
    return float(np.exp(found.x)), *restricted(np.exp(found.x), *parts)[1:]


@pytest.mark.parametrize("holes", [0.0, 0.2])
@pytest.mark.parametrize("variables", [["site"], ["site", "software"]])
def test_variances_and_slopes_are_those_of_the_dense_restricted_likelihood(holes: float, variables: list[str]) -> None:
    data = table(holes)
    fit = fixed_effects(bc.Moments.from_study(study_of(data, batch=variables)))
    for v, feature in enumerate(FEATURES):
        ratio, coefficients, variance = by_hand(data, feature, variables)
        # The optimum of a function is known to the root of the precision that it is computed to.
        np.testing.assert_allclose(fit.subject_sd[v] ** 2 / fit.variance[v], ratio, rtol=1e-6)
        np.testing.assert_allclose(fit.variance[v], variance, rtol=1e-6)
        np.testing.assert_allclose(fit.beta[v], coefficients[-2:], rtol=1e-6, atol=1e-9)
        differences = fit.cell_mean[1:, v] - fit.cell_mean[0, v]
        if variables == ["site"]:
            np.testing.assert_allclose(differences, np.diff(coefficients[:4]).cumsum(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_smoothness_and_intercepts_are_at_the_top_of_their_dense_restricted_likelihood(holes: float) -> None:
    data = table(holes)
    data[FEATURES] += np.sin(data[["age"]].to_numpy() / 8) * 0.3
    study = study_of(data, covariates="sex", smooth={"age": 8})
    fit = fixed_effects(bc.Moments.from_study(study))
    assert fit.curves is not None
    bent = study.spec.penalised[0]
    for v in range(len(FEATURES)):
        seen = ~np.isnan(study.y[:, v])
        z = (np.unique(study.subjects)[:, None] == study.subjects[seen]).T.astype(float)
        x = np.column_stack([study.codes[seen][:, None] == np.arange(4), np.delete(study.x[seen], bent, axis=1)])
        basis = study.x[seen][:, bent]

        def deviance(logs: np.ndarray, x=x, z=z, basis=basis, y=study.y[seen, v]) -> float:  # type: ignore[no-untyped-def]
            ratio, bend = np.exp(logs)
            both = np.column_stack([np.sqrt(ratio) * z, np.sqrt(bend) * basis])
            return restricted(1.0, y, x.astype(float), both)[0]

        found = np.log([fit.subject_sd[v] ** 2 / fit.variance[v], fit.curves.ratios[v, 0]])
        best = deviance(found)
        for step in ([0.02, 0], [-0.02, 0], [0, 0.02], [0, -0.02]):
            assert deviance(found + step) > best
        anywhere = minimize(deviance, found, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
        assert best - anywhere.fun < 1e-7
        both = np.column_stack([np.exp(found[0] / 2) * z, np.exp(found[1] / 2) * basis])
        _, coefficients, variance = restricted(1.0, study.y[seen, v], x.astype(float), both)
        np.testing.assert_allclose(fit.variance[v], variance, rtol=1e-6)
        np.testing.assert_allclose(np.delete(fit.beta[v], bent), coefficients[4:], rtol=1e-5, atol=1e-8)


def test_no_likelihood_nearby_is_higher() -> None:
    data = table()
    fit = fixed_effects(bc.Moments.from_study(study_of(data)))
    for v, feature in enumerate(FEATURES):
        parts, ratio = dense(data, feature, ["site"]), fit.subject_sd[v] ** 2 / fit.variance[v]
        best = restricted(ratio, *parts)[0]
        assert min(restricted(ratio * factor, *parts)[0] for factor in (0.99, 1.01)) > best


def test_what_is_left_of_the_degrees_of_freedom_is_the_trace_of_the_dense_projection() -> None:
    data = table()
    fit = fixed_effects(bc.Moments.from_study(study_of(data, covariates=None)))
    y, x, z = dense(data, FEATURES[0], ["site"])
    x = x[:, :4]
    precision = np.linalg.inv(np.eye(len(y)) + fit.subject_sd[0] ** 2 / fit.variance[0] * z @ z.T)
    projection = precision - precision @ x @ np.linalg.solve(x.T @ precision @ x, x.T @ precision)
    # What intercepts leave is this matrix times y, and it is its own covariance.
    np.testing.assert_allclose(fit.freedom[:, 0], x.T @ projection.diagonal(), rtol=1e-10)


def test_subjects_without_a_variance_give_least_squares() -> None:
    rng = np.random.default_rng(3)
    data = table()
    data[FEATURES] -= data.groupby("subject")[FEATURES].transform("mean")
    data[FEATURES] += rng.normal(0, 1e-3, (len(data), len(FEATURES)))
    moments = bc.Moments.from_study(study_of(data))
    fit, plain = fixed_effects(moments), fixed_effects(bc.Moments.from_study(study_of(data, subject=None)))
    assert (fit.subject_sd == 0).all()
    for name in ("beta", "cell_mean", "ssr", "freedom", "variance"):
        found, expected = np.broadcast_arrays(getattr(fit, name), getattr(plain, name))
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12, err_msg=name)


def spread_far(times: float) -> pd.DataFrame:
    """Return noise of one unit, and intercepts of that many; the subjects of the fourth site were scanned once."""
    rng, data = np.random.default_rng(4), table()
    alone = data["site"] == "site_04"
    data["subject"] = np.where(alone, [f"once {i}" for i in range(len(data))], data["subject"].astype(str))
    people = rng.normal(0, times, (data["subject"].nunique(), len(FEATURES)))
    data[FEATURES] = rng.normal(size=(len(data), len(FEATURES))) + people[pd.factorize(data["subject"])[0]]
    return data


@pytest.mark.parametrize("times", [1e3, 1e4, 3e4])
def test_intercepts_that_spread_far_leave_the_noise_as_it_is(times: float) -> None:
    data = spread_far(times)
    fit = fixed_effects(bc.Moments.from_study(study_of(data)))
    for v, feature in enumerate(FEATURES):
        y, x, z = dense(data, feature, ["site"])
        both = np.column_stack([x, z])
        left = y - both @ np.linalg.lstsq(both, y)[0]
        # Where intercepts could be anything, noise is what subjects do not explain by themselves.
        expected = left @ left / (len(y) - np.linalg.matrix_rank(both))
        np.testing.assert_allclose(fit.variance[v], expected, rtol=2e-3)
    assert (np.abs(np.log(fit.subject_sd / times)) < 0.5).all()


@pytest.mark.parametrize("variables", ["site", ["site", "software"]])
def test_a_reference_whose_intercepts_leave_it_no_scale_has_the_common_one(variables: object) -> None:
    data = spread_far(1e4)
    data["software"] = np.where(data["site"] == "site_04", "7", data["software"])
    data.loc[data.index[:8], "software"] = "7"
    reference = "site_04" if variables == "site" else ["site_04", "7"]
    with pytest.warns(bc.BatchSizeWarning, match="use up the scans of"):
        fit = bc.fit(study_of(data, batch=variables, reference=reference), method="eb")
    found = fixed_effects(fit.moments)
    only = [label.startswith("site_04") for label in fit.moments.batches]
    assert (found.freedom[only] < 1e-3).all()
    ratio = fit.parameters["sigma"] ** 2 / found.variance
    assert ((0.3 < ratio) & (ratio < 3)).all()
    assert np.isfinite(fit.harmonized["mean"]).all()


def test_no_cell_mean_is_known_better_than_by_scans_without_intercepts() -> None:
    """Two sites share three people who were scanned often; the third has many people of its own."""
    people = [(f"a{i}", "A") for i in range(40) for _ in range(2)]
    people += [(f"b{i}", site) for i in range(3) for site in "BC" for _ in range(10)]
    data = pd.DataFrame(people, columns=["subject", "site"])
    rng = np.random.default_rng(0)
    intercept = rng.normal(0, 3, (data["subject"].nunique(), len(FEATURES)))
    data[FEATURES] = rng.normal(size=(len(data), len(FEATURES))) + intercept[pd.factorize(data["subject"])[0]]
    moments = bc.Moments.from_study(study_of(data, covariates=None))
    assert (fixed_effects(moments).precision <= moments.n * (1 + 1e-9)).all()


# ---------------------------------------------------------------- published longitudinal ComBat


def test_longcombat_is_reproduced_on_travelling_people(reference_data: Path) -> None:
    # lmer stops its optimiser at a relative change of about 1e-8; residual deviations are about 0.03 mm.
    assert parity.difference_on_travelling_people("longcombat") < 3e-9


def test_longcombat_needs_subjects_and_no_reference() -> None:
    with pytest.raises(bc.BayesCombatError, match="no reference batch for compat='longcombat', found no subjects"):
        bc.fit(study_of(table(), subject=None), method="eb", compat="longcombat")
    with pytest.raises(bc.BayesCombatError, match="found a reference batch"):
        bc.fit(study_of(table(), reference="site_02"), method="eb", compat="longcombat")


def test_longcombat_takes_an_unknown_batch_for_an_average_one() -> None:
    fit = eb_fit(compat="longcombat")
    rows = table().head(4).assign(site="site_09")
    found = fit.harmonize(rows, unseen="prior")["mean"]
    assert np.isfinite(found).all()
    p = fit.parameters.mean("batch")
    scale = np.exp(np.log(fit.parameters["delta"]).mean("batch"))
    study, old = study_of(table()), fit.parameters
    kept = (study.x[:4] - fit.moments.center) @ old["beta"].values.T + old["alpha"].values
    # The subject is known: its intercept does not depend on where the rows are from.
    known, first = fit.harmonized["mean"][:4], old.isel(batch=0)
    ratio = first["delta"].values
    left = study.y[:4] - kept - first["gamma"].values
    intercept = (known.values - kept - left / ratio) / (1 - 1 / ratio)
    expected = kept + intercept + (study.y[:4] - kept - intercept - p["gamma"].values) / scale.values
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("travelling", repeated.TRAVELLING)
def test_harmonized_values_are_nearer_to_the_truth_than_the_published_ones(travelling: float) -> None:
    found = repeated.accuracy(travelling, range(6), nuts=False)
    assert found["RMSE EB"] < 0.9 * min(found["RMSE EB as published"], found["RMSE EB without subjects"])


# ---------------------------------------------------------------- the model


def density(model: pm.Model) -> Callable[[Point], float]:
    """Return the log-density of a model, without compiling it."""
    parts = model.compile_logp(mode=INTERPRETED, sum=False)
    return lambda point: float(sum(np.sum(part) for part in parts(point)))


def parameters(model: pm.Model, *names: str) -> Callable[[Point], list[np.ndarray]]:
    expressions = model.replace_rvs_by_values([model[name] for name in names])
    return model.compile_fn(expressions, inputs=model.value_vars, on_unused_input="ignore", mode=INTERPRETED)


def points(model: pm.Model, count: int = 3) -> Iterator[Point]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield {name: value + 0.1 * rng.normal(size=np.shape(value)) for name, value in model.initial_point().items()}


@pytest.mark.parametrize(("holes", "variables"), [(0.0, "site"), (0.2, ["site", "software"])])
def test_integrated_intercepts_and_their_conditional_make_the_textbook_form(holes: float, variables: object) -> None:
    study = study_of(table(holes), batch=variables)
    moments, textbook = bc.build_model(study), bc.build_model(study, likelihood="observations")
    of_moments, of_rows = density(moments), density(textbook)
    found = parameters(moments, "alpha", "beta", "gamma", "delta", "sigma", "subject_sd")
    rng, differences = np.random.default_rng(1), []
    for point in points(moments):
        mean, sd = conditional(study, *found(point))
        intercept = mean + sd * rng.normal(size=mean.shape)
        joint = of_moments(point) + norm.logpdf(intercept, mean, sd).sum()
        differences.append(joint - of_rows(point | {"intercept": intercept}))
    np.testing.assert_allclose(differences, differences[0], atol=1e-8)


@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_integrated_shifts_of_nested_subjects_and_their_conditional_make_the_explicit_form(holes: float) -> None:
    data = table(holes)
    data["subject"] = data["site"] + data["subject"].astype(str)
    study = study_of(data)
    integrated, explicit = bc.build_model(study), bc.build_model(study, cell_means="explicit")
    of_integrated, of_explicit = density(integrated), density(explicit)
    names = ("alpha", "beta", "delta", "sigma", "subject_sd", "gamma_mean", "gamma_sd")
    found = parameters(integrated, *names)
    rng, differences = np.random.default_rng(1), []
    for point in points(integrated):
        mean, sd = conditional_shifts(study, *found(point))
        gamma = mean + sd * rng.normal(size=mean.shape)
        joint = of_integrated(point) + norm.logpdf(gamma, mean, sd).sum()
        differences.append(joint - of_explicit(point | {"gamma": gamma}))
    np.testing.assert_allclose(differences, differences[0], atol=1e-8)


def conditional_shifts(study, alpha, beta, delta, sigma, subject_sd, expected, spread):  # type: ignore[no-untyped-def]
    """Mean and standard deviation of every shift given all else, by the dense covariance of a site's scans."""
    center = bc.Moments.from_study(study).center
    left = study.y - alpha - ((study.x[:, None, :] - center) * beta).sum(axis=-1)
    mean, sd = np.empty_like(delta), np.empty_like(delta)
    for i in range(len(delta)):
        for v in range(len(alpha)):
            rows = np.flatnonzero((study.codes == i) & ~np.isnan(study.y[:, v]))
            same = study.subjects[rows][:, None] == study.subjects[rows]
            precision = np.linalg.inv((sigma[v] * delta[i, v]) ** 2 * np.eye(len(rows)) + subject_sd[v] ** 2 * same)
            prior = 1 / (sigma[v] * spread[i]) ** 2
            total = prior + precision.sum()
            mean[i, v] = (prior * sigma[v] * expected[i] + (precision @ left[rows, v]).sum()) / total
            sd[i, v] = total**-0.5
    return mean, sd


def test_drawn_shifts_of_nested_subjects_have_their_conditional_distribution() -> None:
    data = table()
    data["subject"] = data["site"] + data["subject"].astype(str)
    study = study_of(data)
    model = bc.build_model(study)
    point = model.initial_point()
    names = (
        "alpha",
        "beta",
        "delta",
        "sigma",
        "subject_sd",
        "gamma_mean",
        "gamma_sd",
        "log_delta_mean",
        "log_delta_sd",
    )
    scalars = [name for name in POPULATION]
    values = dict(zip((*names, *scalars), parameters(model, *names, *scalars)(point), strict=True))
    dims = {name: ("chain", "draw", *(model.named_vars_to_dims.get(name) or ())) for name in values}
    draws = xr.Dataset(
        {name: (dims[name], np.broadcast_to(value, (1, 4000, *np.shape(value)))) for name, value in values.items()},
        {dim: list(labels) for dim, labels in model.coords.items() if dim in ("feature", "batch", "covariate")},
    ).assign_coords(chain=[0], draw=range(4000))
    found = bc.identify(draws, study, seed=1)
    mean, sd = conditional_shifts(study, *(values[name] for name in names[:7]))
    cells = (found["alpha"] + found["gamma"]).isel(chain=0).transpose("draw", "batch", "feature").values
    np.testing.assert_allclose(cells.mean(axis=0), values["alpha"] + mean, atol=5 * sd.max() / np.sqrt(4000))
    np.testing.assert_allclose(cells.std(axis=0), sd, rtol=0.06)


def conditional(study: bc.Study, alpha, beta, gamma, delta, sigma, subject_sd) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
    """Mean and standard deviation of every subject's intercept given all else, scan by scan."""
    moments = bc.Moments.from_study(study)
    at = moments.levels.positions(study.batches)[study.codes]
    seen = ~np.isnan(study.y)
    offset = study.x[:, None, :] - moments.center
    left = np.where(seen, study.y - alpha - (offset * beta).sum(axis=-1) - gamma[at].sum(axis=1), 0.0)
    precision = seen / (sigma * delta[at].prod(axis=1)) ** 2
    member = (np.unique(study.subjects)[:, None] == study.subjects).astype(float)
    variance = 1 / (1 / subject_sd**2 + member @ precision)
    assert list(np.unique(study.subjects)) == sorted(moments.subjects.labels)
    order = [sorted(moments.subjects.labels).index(label) for label in moments.subjects.labels]
    return (variance * (member @ (precision * left)))[order], np.sqrt(variance)[order]


def test_chains_start_at_the_restricted_maximum_likelihood() -> None:
    study = study_of(table())
    model, fit = bc.build_model(study), fixed_effects(bc.Moments.from_study(study))
    found = parameters(model, "subject_sd", "beta")(model.initial_point())
    np.testing.assert_allclose(found[0], fit.subject_sd, rtol=0.4)
    np.testing.assert_allclose(found[1], fit.beta, rtol=1e-6)


def test_every_prior_of_the_subjects_matters() -> None:
    study = study_of(table())
    point = bc.build_model(study).initial_point()
    names = [name for name in vars(bc.Priors()) if name.startswith("subject_sd")]
    assert len(names) == 4
    values = []
    for priors in (bc.Priors(), *(bc.Priors(**{name: 0.7}) for name in names)):
        model = bc.build_model(study, priors)
        spreads = [variable for variable in model.free_RVs if variable.name.startswith("subject_sd")]
        values.append(float(model.compile_logp(vars=spreads, mode=INTERPRETED)(point)))
    assert len(set(values)) == len(values)


def test_draws_of_the_prior_have_the_stated_spread() -> None:
    model = bc.build_model(study_of(table()))
    with model:
        drawn = pm.draw(model["subject_sd_standard"], draws=2000, random_seed=1)
    logs = np.log(drawn)
    priors = bc.Priors()
    assert abs(logs.mean() - np.log(priors.subject_sd_median)) < 0.1
    within = logs.std(axis=1, ddof=1)
    assert 0.5 * priors.subject_sd_spread_median < np.median(within) < 1.5 * priors.subject_sd_spread_median


def test_nuts_finds_what_restricted_maximum_likelihood_does(nuts: bc.Fit) -> None:
    fit = fixed_effects(nuts.moments)
    draws = nuts.parameters
    assert nuts.converged
    away = (draws["subject_sd"].mean(("chain", "draw")) - fit.subject_sd) / draws["subject_sd"].std(("chain", "draw"))
    assert np.abs(away).max() < 1.5
    away = (draws["beta"].mean(("chain", "draw")) - fit.beta) / draws["beta"].std(("chain", "draw"))
    assert np.abs(away).max() < 1


@pytest.mark.slow
@pytest.mark.parametrize("travelling", repeated.TRAVELLING)
def test_intervals_cover_the_truth(travelling: float) -> None:
    found = repeated.accuracy(travelling)
    assert 0.86 <= found["coverage of 90 %"] <= 0.94
    assert found["RMSE NUTS"] < found["RMSE EB"]


@pytest.mark.slow
@pytest.mark.parametrize("travelling", repeated.TRAVELLING)
def test_five_hundred_subjects_take_two_seconds_and_three_minutes(travelling: float) -> None:
    found = repeated.seconds(travelling)
    assert found["eb fit (s)"] + found["eb harmonize (s)"] < 2
    assert found["nuts fit (s)"] < 180


# ---------------------------------------------------------------- harmonized values


def test_intercepts_survive_unscaled() -> None:
    study, fit = study_of(table()), eb_fit()
    p, codes = fit.parameters, study.codes
    values = [p[name].values for name in ("alpha", "beta", "gamma", "delta", "sigma", "subject_sd")]
    mean, _ = conditional(study, *values)
    labels = fit.moments.subjects.labels
    kept = values[0] + (study.x - fit.moments.center) @ values[1].T + mean[[labels.index(s) for s in study.subjects]]
    expected = kept + (study.y - kept - values[2][codes]) / values[3][codes]
    np.testing.assert_allclose(fit.harmonized["mean"], expected, atol=1e-12)
    toward = fit.harmonize(table(), target="site_02")["mean"]
    moved = kept + values[2][1] + (study.y - kept - values[2][codes]) * values[3][1] / values[3][codes]
    np.testing.assert_allclose(toward[codes != 1], moved[codes != 1], atol=1e-12)
    np.testing.assert_array_equal(toward[codes == 1], study.y[codes == 1])


@pytest.mark.parametrize("method", ["eb", "nuts"])
def test_a_fitted_subject_is_the_same_whichever_of_its_scans_are_given(method: str, nuts: bc.Fit) -> None:
    fit, rows = eb_fit() if method == "eb" else nuts, table().iloc[[1, 20, 33]]
    found, whole = fit.harmonize(rows), fit.harmonized.isel(obs=[1, 20, 33])
    for name in found.data_vars:
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-12, err_msg=name)


def test_a_subject_that_was_not_fitted_is_known_by_its_rows() -> None:
    fit, rows = eb_fit(), table()[lambda data: data["subject"] == 4].assign(subject="someone else")
    alone, together = fit.harmonize(rows.iloc[:1])["mean"].values, fit.harmonize(rows)["mean"].values
    assert len(rows) > 1 and not np.isclose(alone, together[:1]).any()
    np.testing.assert_allclose(together, fit.harmonize(table()[lambda d: d["subject"] == 4])["mean"], rtol=1e-10)


def test_a_file_without_moments_knows_subjects_by_the_rows(tmp_path: Path) -> None:
    fit = eb_fit()
    fit.save(tmp_path / "fit.nc", data=False, moments=False)
    again = bc.load(tmp_path / "fit.nc")
    np.testing.assert_allclose(again.harmonize(table())["mean"], fit.harmonized["mean"], rtol=1e-12)
    assert not np.isclose(again.harmonize(table().head(1))["mean"], fit.harmonized["mean"][:1]).all()


def test_mean_sd_and_bounds_are_those_of_many_draws_of_the_intercepts(nuts: bc.Fit) -> None:
    found, draws = nuts.harmonized, nuts.draws(2000)
    spread = draws.std("draw")
    np.testing.assert_allclose(draws.mean("draw"), found["mean"], atol=5 * float(spread.max()) / np.sqrt(2000))
    np.testing.assert_allclose(spread, found["sd"], rtol=0.12)
    for name, share in (("lower", 0.05), ("upper", 0.95)):
        below = (draws < found[name]).mean("draw")
        assert abs(float(below.mean()) - share) < 0.01


def test_draws_of_a_subject_share_its_intercept(nuts: bc.Fit) -> None:
    """Two scans of one subject at one site differ, in every draw, by what scale and slopes make of them."""
    study = nuts.study
    same = [
        (i, j)
        for i in range(len(study.y))
        for j in range(i)
        if study.subjects[i] == study.subjects[j] and study.codes[i] == study.codes[j]
    ]
    i, j = same[0]
    draws, every = nuts.draws(50), np.linspace(0, 1999, 50).round().astype(int)
    p = nuts.parameters.stack(sample=("chain", "draw")).isel(sample=every)
    beta, delta = p["beta"].transpose("sample", "feature", "covariate").values, p["delta"].isel(batch=study.codes[i])
    slope = ((study.x[i] - study.x[j]) * beta).sum(axis=-1)
    expected = slope + (study.y[i] - study.y[j] - slope) / delta.transpose("sample", "feature").values
    np.testing.assert_allclose(draws[:, i] - draws[:, j], expected, atol=1e-12)


def test_intercepts_of_many_scans_take_memory_for_themselves_alone() -> None:
    people, sites, draws = 4000, 5, 500
    place, one = np.arange(people * sites), np.ones((draws, 1))
    subjects = Subjects(
        tuple(map(str, range(people))),
        place // sites,
        place % sites,
        np.ones((len(place), 1)),
        np.zeros((len(place), 1, 0)),
        np.random.default_rng(0).normal(size=(len(place), 1)),
    )
    effects = np.zeros((draws, sites, 1))
    repeats = Repeats(place // sites, subjects, subjects.batch[:, None], one, effects, np.exp(effects))
    tracemalloc.start()
    found = predicted_intercepts(repeats, 0 * one, np.zeros((draws, 1, 0)), one, np.zeros(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found.mean[-1], subjects.total(subjects.mean_y) / (sites + 1), rtol=1e-12)
    # Without blocks the scans' residuals of all draws, several times over, would take 300 MiB.
    assert peak < found.mean.nbytes + found.sd.nbytes + 100 * 2**20


def test_missing_cells_change_nothing_but_their_feature() -> None:
    data = table()
    data.loc[data.index[5], FEATURES[0]] = np.nan
    found = bc.fit(study_of(data), method="eb", shrinkage="none").harmonized["mean"]
    whole = bc.fit(study_of(table()), method="eb", shrinkage="none").harmonized["mean"]
    np.testing.assert_allclose(found[:, 1:], whole[:, 1:], rtol=1e-9)
    assert np.isnan(found[5, 0]) and not np.isclose(found[6, 0], whole[6, 0], rtol=1e-6)


# ---------------------------------------------------------------- moments


@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_parts_in_any_order_make_the_pooled_moments(holes: float) -> None:
    data, study = table(holes), study_of(table(holes))
    parts = [bc.Moments.from_study(bc.Study.from_design(rows, study.spec)) for _, rows in data.groupby("site")]
    pooled, merged = bc.Moments.from_study(study), bc.merge(parts[::-1])
    for name in ("labels", "subject", "batch", "n", "mean_x", "mean_y"):
        np.testing.assert_array_equal(getattr(merged.subjects, name), getattr(pooled.subjects, name), err_msg=name)
    halves = [
        bc.Moments.from_study(bc.Study.from_design(rows, study.spec)) for rows in (data.iloc[::2], data.iloc[1::2])
    ]
    whole = bc.merge(halves).subjects
    np.testing.assert_array_equal(whole.n * np.ones((1, 3)), pooled.subjects.n * np.ones((1, 3)))
    np.testing.assert_allclose(whole.mean_y, pooled.subjects.mean_y, rtol=1e-12)
    np.testing.assert_allclose(
        whole.mean_x * np.ones((1, 3, 1)), pooled.subjects.mean_x * np.ones((1, 3, 1)), rtol=1e-12
    )


def test_moments_come_back_from_their_file(tmp_path: Path) -> None:
    moments = bc.Moments.from_study(study_of(table()))
    with pytest.raises(bc.DataError, match="min_scans=1"):
        moments.save(tmp_path / "moments.nc")
    moments.save(tmp_path / "moments.nc", min_scans=1)
    again = bc.Moments.load(tmp_path / "moments.nc")
    for name in ("labels", "subject", "batch", "n", "mean_x", "mean_y"):
        np.testing.assert_array_equal(getattr(again.subjects, name), getattr(moments.subjects, name), err_msg=name)


def test_moments_of_subjects_that_cannot_be_any_are_refused(tmp_path: Path) -> None:
    moments = bc.Moments.from_study(study_of(table()))
    wrong = moments.subjects.mean_y.copy()
    wrong[0, 0] = np.nan
    replace(moments, subjects=replace(moments.subjects, mean_y=wrong)).save(tmp_path / "moments.nc", min_scans=1)
    with pytest.raises(bc.FileFormatError, match="found others in 'pair_mean_y'"):
        bc.Moments.load(tmp_path / "moments.nc")


def test_moments_with_and_without_subjects_do_not_merge() -> None:
    parts = [bc.Moments.from_study(study_of(table(), **options)) for options in ({}, {"subject": None})]
    with pytest.raises(bc.DataError, match="designs that differ in 'subject'"):
        bc.merge(parts)


def test_update_is_the_fit_to_everything() -> None:
    data, spec = table(), study_of(table()).spec
    first = bc.Study.from_design(data[data["site"] != "site_04"], spec)
    updated = bc.fit(first, method="eb").update(data[data["site"] == "site_04"])
    np.testing.assert_allclose(updated.harmonize(data)["mean"], eb_fit().harmonized["mean"], rtol=1e-9)


# ---------------------------------------------------------------- what cannot be


def test_row_16_one_scan_per_subject_is_refused_in_moments_too() -> None:
    data = table().assign(subject=np.arange(len(table())))
    with pytest.raises(bc.DataError, match="in 'subject', found one scan per subject: a subject's intercept and the"):
        study_of(data)
    parts = [bc.Study.from_design(rows, study_of(table()).spec) for _, rows in data.groupby("site")]
    with pytest.raises(bc.DataError, match="in 'subject', found one scan per subject"):
        bc.fit(bc.merge([bc.Moments.from_study(part) for part in parts]), method="eb")


def test_as_many_subjects_and_sites_as_scans_are_refused() -> None:
    """Three people go from site to site: whatever their scans differ by may be the sites'."""
    data = (
        table()
        .groupby("site")
        .head(2)
        .head(6)
        .assign(site=["site_01", "site_02", "site_02", "site_03", "site_03", "site_04"], subject=[1, 1, 2, 2, 3, 3])
    )
    with pytest.raises(bc.DataError, match="found 6 scans of 3 subjects in 4 batches"):
        bc.fit(study_of(data, covariates=None), method="eb")


def test_features_alike_in_all_scans_of_every_subject_are_set_aside() -> None:
    data = table()
    data[FEATURES[1]] = data.groupby("subject")[FEATURES[1]].transform("first")
    with pytest.warns(bc.FeatureWarning, match="alike in all scans of every subject: 'feature_1'"):
        fit = bc.fit(study_of(data), method="eb")
    np.testing.assert_array_equal(fit.harmonized["mean"][:, 1], data[FEATURES[1]])


@pytest.mark.parametrize("label", ["site", "everyone"])
def test_subjects_that_batches_explain_are_refused(label: str) -> None:
    data = table().assign(subject="one")
    data["subject"] = data["site"] if label == "site" else data["subject"]
    with pytest.raises(bc.DataError, match="which do not tell subjects' intercepts from batches"):
        bc.fit(study_of(data), method="eb")


def test_a_feature_whose_only_repeated_scan_a_covariate_explains_is_set_aside() -> None:
    data = table()
    again = np.flatnonzero(data.duplicated("subject"))[1:]
    data.loc[data.index[again], FEATURES[0]] = np.nan
    with pytest.warns(bc.FeatureWarning) as caught:
        fit = bc.fit(study_of(data), method="eb")
    words = "do not tell subjects' intercepts from noise or from batches: 'feature_0'"
    assert any(words in str(warning.message) for warning in caught)
    assert fit.layout.features == tuple(FEATURES[1:])


def test_features_alike_in_all_scans_of_every_subject_but_for_the_site_are_set_aside() -> None:
    data = table()
    data[FEATURES[1]] = data.groupby("subject")[FEATURES[1]].transform("first") + data["site"].str[-1].astype(int)
    with pytest.warns(bc.FeatureWarning, match="alike in all scans of every subject: 'feature_1'"):
        bc.fit(study_of(data), method="eb")


def test_penalised_columns_may_be_more_than_the_scans_tell_apart() -> None:
    fit = bc.fit(study_of(table(), covariates="sex", smooth={"age": 40}), method="eb")
    assert np.isfinite(fit.harmonized["mean"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compat": "sva"}, "no subjects for compat='sva'"),
        ({"shared_factors": 1}, "scans of one subject each where features share factors"),
    ],
)
def test_what_does_not_go_with_subjects_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(bc.BayesCombatError, match=message):
        bc.fit(study_of(table()), method="eb", **options)


def test_adopt_is_refused() -> None:
    rows = table().head(3).assign(site="site_09")
    with pytest.raises(bc.BayesCombatError, match="intercepts adopt does not know"):
        eb_fit().adopt(rows)


def test_a_site_of_single_scans_is_named_where_intercepts_use_them_up() -> None:
    data = table()
    data[FEATURES] = 10 * data.groupby("subject")[FEATURES].transform("mean") + 0.3 * data[FEATURES]
    mine = data["site"] == "site_04"
    data.loc[mine, "subject"] = 1000 + np.arange(mine.sum())
    with pytest.warns(bc.BatchSizeWarning, match="intercepts of subjects use up the scans of 'site_04'"):
        bc.fit(study_of(data), method="eb")


def test_rows_without_the_subject_column() -> None:
    with pytest.raises(bc.DataError, match="subject column 'subject'"):
        eb_fit().harmonize(table().drop(columns="subject"))


def test_a_study_of_arrays_has_subjects_too() -> None:
    data = table()
    study = bc.Study.from_arrays(
        data[FEATURES].to_numpy(),
        batch=data["site"].to_numpy(),
        covariates={"age": data["age"], "sex[T.M]": (data["sex"] == "M").to_numpy()},
        features=FEATURES,
        subject=data["subject"].to_numpy(),
    )
    np.testing.assert_allclose(bc.fit(study, method="eb").harmonized["mean"], eb_fit().harmonized["mean"], rtol=1e-12)
    with pytest.raises(bc.DataError, match=r"one label per scan \(one dimension\) in subject"):
        bc.Study.from_arrays(data[FEATURES].to_numpy(), batch=data["site"].to_numpy(), subject="subject")


def test_studies_with_and_without_subjects_do_not_mix() -> None:
    with pytest.raises(bc.DataError, match="Expected a study with subjects, found one without"):
        eb_fit().harmonize(study_of(table(), subject=None))
