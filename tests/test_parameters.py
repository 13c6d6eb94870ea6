"""Parameters as they are reported: the constraint, the labels, and the exact draw of the cell means."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import bayescombat as bc
from bayescombat.errors import DataError

FEATURE_UNITS = {"alpha", "beta", "gamma", "sigma"}
HYPERPARAMETERS = {"gamma_mean", "gamma_sd", "log_delta_mean", "log_delta_sd"}
DIMS = {
    "alpha": ("feature",),
    "beta": ("feature", "covariate"),
    "gamma": ("batch", "feature"),
    "delta": ("batch", "feature"),
    "sigma": ("feature",),
    **dict.fromkeys(HYPERPARAMETERS, ("batch",)),
}
# How batches differ: scalars in the model of one batch variable, reported for each variable.
POPULATION = {
    "gamma_mean_spread",
    "gamma_sd_log_typical",
    "gamma_sd_spread",
    "log_delta_mean_spread",
    "log_delta_sd_log_typical",
    "log_delta_sd_spread",
}
# What draws have and estimates have not.
DIMS_OF_DRAWS = {
    "gamma_typical": ("batch_variable", "feature"),
    "delta_typical": ("batch_variable", "feature"),
    **dict.fromkeys(POPULATION, ("batch_variable",)),
}


@pytest.fixture(scope="module")
def draws(nuts_fit: bc.Fit) -> xr.Dataset:
    return nuts_fit.parameters


@pytest.fixture(scope="module")
def loose_draws(study: bc.Study) -> xr.Dataset:
    """Draws that satisfy no constraint, as a sampler of the explicit model would give them."""
    rng = np.random.default_rng(5)
    sizes = {
        "chain": 2,
        "draw": 50,
        "feature": len(study.features),
        "batch": len(study.batches),
        "covariate": len(study.covariates),
    }
    positive = {"delta", "sigma", "gamma_sd", "log_delta_sd"} | {name for name in POPULATION if "spread" in name}
    data = {}
    for name, dims in (DIMS | dict.fromkeys(sorted(POPULATION), ())).items():
        whole = ("chain", "draw", *dims)
        values = rng.normal(size=[sizes[dim] for dim in whole])
        data[name] = (whole, np.exp(0.3 * values) if name in positive else values)
    coords = {
        "chain": np.arange(2),
        "draw": np.arange(50),
        "feature": list(study.features),
        "batch": list(study.batches),
        "covariate": list(study.covariates),
    }
    return xr.Dataset(data, coords)


def weights(study: bc.Study) -> xr.DataArray:
    counts = np.bincount(study.codes)
    return xr.DataArray(counts / counts.sum(), {"batch": list(study.batches)}, ("batch",))


def cell_means(parameters: xr.Dataset) -> xr.DataArray:
    return parameters["alpha"] + parameters["gamma"]


def cell_scales(parameters: xr.Dataset) -> xr.DataArray:
    return parameters["sigma"] * parameters["delta"]


# ---------------------------------------------------------------- the constraint


def test_shifts_average_to_zero_in_every_draw(draws: xr.Dataset, study: bc.Study) -> None:
    average = (weights(study) * draws["gamma"] / draws["sigma"]).sum("batch")
    assert abs(average).max() <= 1e-10


def test_squared_scales_average_to_one_in_every_draw(draws: xr.Dataset, study: bc.Study) -> None:
    average = (weights(study) * draws["delta"] ** 2).sum("batch")
    assert abs(average - 1).max() <= 1e-10


def test_loose_draws_are_brought_under_the_constraint(loose_draws: xr.Dataset, study: bc.Study) -> None:
    found = bc.identify(loose_draws, study)
    assert abs((weights(study) * found["gamma"] / found["sigma"]).sum("batch")).max() <= 1e-10
    assert abs((weights(study) * found["delta"] ** 2).sum("batch") - 1).max() <= 1e-10


def test_reference_is_exactly_zero_and_one(loose_draws: xr.Dataset, study_to_a_reference: bc.Study) -> None:
    found = bc.identify(loose_draws, study_to_a_reference).sel(batch="site_02")
    assert (found["gamma"] == 0).all() and (found["delta"] == 1).all()


def test_reference_is_exactly_zero_and_one_for_empirical_bayes(study_to_a_reference: bc.Study) -> None:
    found = bc.fit(study_to_a_reference, method="eb").parameters.sel(batch="site_02")
    assert (found["gamma"] == 0).all() and (found["delta"] == 1).all()


def test_empirical_bayes_without_shrinkage_averages_to_zero(study: bc.Study) -> None:
    found = bc.fit(study, method="eb", shrinkage="none").parameters
    assert abs((weights(study) * found["gamma"] / found["sigma"]).sum("batch")).max() <= 1e-10


@pytest.mark.parametrize("reference", [False, True])
def test_cell_means_and_scales_stay_as_they_are(
    loose_draws: xr.Dataset, study: bc.Study, study_to_a_reference: bc.Study, reference: bool
) -> None:
    found = bc.identify(loose_draws, study_to_a_reference if reference else study)
    xr.testing.assert_allclose(cell_means(found), cell_means(loose_draws), rtol=0, atol=1e-12)
    xr.testing.assert_allclose(cell_scales(found), cell_scales(loose_draws), rtol=1e-12)


def test_slopes_and_spreads_of_scales_stay_as_they_are(loose_draws: xr.Dataset, study: bc.Study) -> None:
    found = bc.identify(loose_draws, study)
    for name in ("beta", "log_delta_sd"):
        np.testing.assert_array_equal(found[name], loose_draws[name])


def test_spreads_across_batches_stay_as_they_are(loose_draws: xr.Dataset, study: bc.Study) -> None:
    found = bc.identify(loose_draws, study).sel(batch_variable="site")
    for name in POPULATION:
        np.testing.assert_array_equal(found[name], loose_draws[name])


@pytest.mark.parametrize("reference", [False, True])
def test_what_is_expected_of_an_unseen_batch_stays_as_it_is(
    loose_draws: xr.Dataset, study: bc.Study, study_to_a_reference: bc.Study, reference: bool
) -> None:
    # In the model such a batch is expected at alpha, with the scale sigma.
    found = bc.identify(loose_draws, study_to_a_reference if reference else study).sel(batch_variable="site")
    mean, scale = found["alpha"] + found["gamma_typical"], found["sigma"] * found["delta_typical"]
    np.testing.assert_allclose(mean.transpose(..., "feature"), loose_draws["alpha"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(scale.transpose(..., "feature"), loose_draws["sigma"], rtol=1e-12)


def test_hyperparameters_have_the_origin_and_unit_of_the_effects(loose_draws: xr.Dataset, study: bc.Study) -> None:
    found = bc.identify(loose_draws, study)
    weights = xr.DataArray(np.bincount(study.codes) / len(study.codes), dims="batch")
    assert abs((weights * found["gamma_mean"]).sum("batch")).max() < 1e-12
    expected_square = np.exp(2 * (found["log_delta_mean"] + found["log_delta_sd"] ** 2))
    np.testing.assert_allclose((weights * expected_square).sum("batch"), 1, rtol=1e-12)


def test_hyperparameters_are_zero_at_the_reference(loose_draws: xr.Dataset, study_to_a_reference: bc.Study) -> None:
    found = bc.identify(loose_draws, study_to_a_reference).sel(batch=study_to_a_reference.reference)
    assert not found["gamma_mean"].any()
    assert not found["log_delta_mean"].any()


def test_draws_under_the_constraint_stay_as_they_are(draws: xr.Dataset, study: bc.Study) -> None:
    xr.testing.assert_allclose(bc.identify(draws, study), draws, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("target", ["site_01", "site_02", "site_04"])
def test_values_harmonized_to_a_batch_know_no_constraint(
    nuts_fit: bc.Fit, study: bc.Study, study_to_a_reference: bc.Study, target: str
) -> None:
    tree = nuts_fit.tree.copy()
    tree["posterior"] = xr.DataTree(bc.identify(nuts_fit.parameters, study_to_a_reference))
    other = bc.Fit(tree).harmonize(study, target=target)
    expected = nuts_fit.harmonize(study, target=target)
    assert abs(other["mean"] - expected["mean"]).max() < 1e-11
    assert abs(other["sd"] - expected["sd"]).max() < 1e-11


def test_a_study_and_its_moments_say_the_same(loose_draws: xr.Dataset, study: bc.Study) -> None:
    loose = loose_draws.drop_vars("gamma")
    by_study = bc.identify(loose, study, seed=1)
    xr.testing.assert_identical(bc.identify(loose, bc.Moments.from_study(study), seed=1), by_study)


def test_identify_leaves_the_draws_it_is_given(loose_draws: xr.Dataset, study: bc.Study) -> None:
    before = loose_draws.copy(deep=True)
    bc.identify(loose_draws, study)
    xr.testing.assert_identical(loose_draws, before)


def test_labels_decide_rather_than_the_order_of_dims(loose_draws: xr.Dataset, study: bc.Study) -> None:
    turned = loose_draws.transpose("feature", "batch", "covariate", "draw", "chain")
    xr.testing.assert_allclose(bc.identify(turned, study), bc.identify(loose_draws, study))


def test_labels_decide_rather_than_positions(loose_draws: xr.Dataset, study: bc.Study) -> None:
    turned = loose_draws.isel(feature=slice(None, None, -1), batch=slice(None, None, -1))
    expected = bc.identify(loose_draws, study)
    xr.testing.assert_allclose(bc.identify(turned, study).sel(expected.coords), expected)


# ---------------------------------------------------------------- what is missing


@pytest.mark.parametrize("name", sorted((set(DIMS) | POPULATION) - {"gamma", "beta"}))
def test_missing_variables_are_named(loose_draws: xr.Dataset, study: bc.Study, name: str) -> None:
    with pytest.raises(DataError, match=f"'{name}'"):
        bc.identify(loose_draws.drop_vars(name), study)


def test_missing_slopes_are_named_where_there_are_covariates(loose_draws: xr.Dataset, study: bc.Study) -> None:
    with pytest.raises(DataError, match="'beta'"):
        bc.identify(loose_draws.drop_vars("beta"), study)


def test_slopes_may_be_missing_without_covariates(loose_draws: xr.Dataset, simulation: bc.datasets.Simulation) -> None:
    study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
    loose = loose_draws.drop_vars("beta").drop_dims("covariate", errors="ignore")
    assert bc.identify(loose, study)["beta"].sizes["covariate"] == 0


def test_what_is_no_study_is_refused(loose_draws: xr.Dataset, simulation: bc.datasets.Simulation) -> None:
    with pytest.raises(DataError, match="found DataFrame"):
        bc.identify(loose_draws, simulation.table)  # type: ignore[arg-type]


# ---------------------------------------------------------------- labels


@pytest.fixture(scope="module", params=["nuts", "eb"])
def reported(request: pytest.FixtureRequest, nuts_fit: bc.Fit, eb_fit: bc.Fit) -> xr.Dataset:
    return {"nuts": nuts_fit, "eb": eb_fit}[request.param].parameters


def test_names(nuts_fit: bc.Fit, eb_fit: bc.Fit) -> None:
    assert set(nuts_fit.parameters.data_vars) == set(DIMS) | set(DIMS_OF_DRAWS)
    assert set(eb_fit.parameters.data_vars) == set(DIMS)


def test_dims(nuts_fit: bc.Fit, eb_fit: bc.Fit) -> None:
    for name, dims in (DIMS | DIMS_OF_DRAWS).items():
        assert nuts_fit.parameters[name].dims == ("chain", "draw", *dims)
    for name, dims in DIMS.items():
        assert eb_fit.parameters[name].dims == dims


def test_coordinates_are_the_study(reported: xr.Dataset, study: bc.Study) -> None:
    assert tuple(reported["feature"].values) == study.features
    assert tuple(reported["batch"].values) == study.batches
    assert tuple(reported["covariate"].values) == study.covariates


def test_batch_variables_are_those_of_the_study(nuts_fit: bc.Fit, study: bc.Study) -> None:
    assert tuple(nuts_fit.parameters["batch_variable"].values) == study.spec.batch


def test_every_variable_says_its_units(reported: xr.Dataset) -> None:
    units = {str(name): variable.attrs["units"] for name, variable in reported.data_vars.items()}
    in_feature_units = FEATURE_UNITS | {"gamma_typical"}
    without = {"delta", "delta_typical", "gamma_sd_spread", "log_delta_sd_spread"}
    assert all(units[name].startswith("feature units") for name in in_feature_units & set(units))
    assert all(units[name] == "1" for name in without & set(units))
    assert all("sigma" in units[name] for name in set(units) - in_feature_units - without)


def test_every_variable_says_what_it_is(reported: xr.Dataset) -> None:
    said = [variable.attrs["long_name"] for variable in reported.data_vars.values()]
    assert all(said) and len(set(said)) == len(said)


def test_both_estimators_use_the_same_words(nuts_fit: bc.Fit, eb_fit: bc.Fit) -> None:
    for name in DIMS:
        assert nuts_fit.parameters[name].attrs == eb_fit.parameters[name].attrs


# ---------------------------------------------------------------- the exact draw of the cell means


N_DRAW = 4000


@pytest.fixture(scope="module")
def one_draw(loose_draws: xr.Dataset) -> xr.Dataset:
    return loose_draws.isel(chain=0, draw=0, drop=True).drop_vars("gamma")


@pytest.fixture(scope="module")
def conditional(one_draw: xr.Dataset, study: bc.Study) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws of the cell means given all else, (draw, batch, feature), and their closed-form mean and variance."""
    repeated = one_draw.expand_dims(chain=1, draw=N_DRAW)
    found = cell_means(bc.identify(repeated, study, seed=7)).isel(chain=0).transpose("draw", "batch", "feature")
    raw = {name: one_draw[name].values for name in one_draw.data_vars}
    residual = study.y - (study.x - study.x.mean(axis=0)) @ raw["beta"].T
    means, variances = [], []
    for i in range(len(study.batches)):
        rows = residual[study.codes == i]
        precision = len(rows) / (raw["sigma"] * raw["delta"][i]) ** 2
        prior_precision = 1 / (raw["sigma"] * raw["gamma_sd"][i]) ** 2
        prior_mean = raw["alpha"] + raw["sigma"] * raw["gamma_mean"][i]
        variances.append(1 / (precision + prior_precision))
        means.append(variances[-1] * (precision * rows.mean(axis=0) + prior_precision * prior_mean))
    return found.values, np.array(means), np.array(variances)


# Thirty-two cells are compared with 4,000 draws each: five standard errors are never exceeded by chance.
def test_conditional_draw_has_the_closed_form_mean(conditional: tuple[np.ndarray, ...]) -> None:
    found, mean, variance = conditional
    assert (abs(found.mean(axis=0) - mean) / np.sqrt(variance / N_DRAW)).max() < 5


def test_conditional_draw_has_the_closed_form_variance(conditional: tuple[np.ndarray, ...]) -> None:
    found, _, variance = conditional
    assert abs(found.var(axis=0, ddof=1) / variance - 1).max() < 5 * np.sqrt(2 / N_DRAW)


def test_conditional_draw_is_normal(conditional: tuple[np.ndarray, ...]) -> None:
    found, mean, variance = conditional
    assert stats.kstest(((found - mean) / np.sqrt(variance)).ravel(), "norm").pvalue > 1e-3


def test_conditional_draws_of_cells_are_independent(conditional: tuple[np.ndarray, ...]) -> None:
    found, _, _ = conditional
    correlation = np.corrcoef(found.reshape(N_DRAW, -1), rowvar=False)
    assert abs(correlation - np.eye(len(correlation))).max() < 5 / np.sqrt(N_DRAW)


def test_conditional_draw_repeats_with_its_seed(loose_draws: xr.Dataset, study: bc.Study) -> None:
    loose = loose_draws.drop_vars("gamma")
    first, second, other = (bc.identify(loose, study, seed=seed)["gamma"] for seed in (1, 1, 2))
    xr.testing.assert_identical(first, second)
    assert (first != other).all()


def test_chains_have_conditional_draws_of_their_own(one_draw: xr.Dataset, study: bc.Study) -> None:
    found = bc.identify(one_draw.expand_dims(chain=2, draw=5), study, seed=1)["gamma"]
    assert (found.isel(chain=0) != found.isel(chain=1)).all()
