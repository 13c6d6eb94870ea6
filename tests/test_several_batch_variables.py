"""Several batch variables: additive shifts and multiplicative scales of each, and what cannot be told apart."""

import numpy as np
import pandas as pd
import pytest

import bayescombat as bc
from bayescombat.additive import Additive
from bayescombat.moments import Moments
from bayescombat.regression import least_squares

ROLES = {"batch": ["site", "software"], "covariates": "age + sex"}


def crossed_table(
    scans: tuple[int, ...] = (30, 25, 20, 12, 6), features: int = 12, seed: int = 1
) -> tuple[pd.DataFrame, bc.datasets.Simulation, np.ndarray]:
    """Return a table with a second batch variable, the simulation, and the true shift of version 6.0."""
    simulation = bc.datasets.simulate(scans, features=features, seed=seed)
    rng = np.random.default_rng(seed)
    table = simulation.table.copy()
    table["software"] = rng.choice(["5.3", "6.0"], len(table))
    shift = rng.normal(0.8, 0.3, features) * simulation.truth["sigma"].values
    table[list(simulation.features)] += np.where(table["software"] == "6.0", 1.0, 0.0)[:, None] * shift
    return table, simulation, shift


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return crossed_table()[0]


@pytest.fixture(scope="module")
def features() -> list[str]:
    return [f"feature_{v}" for v in range(12)]


@pytest.fixture(scope="module")
def crossed_fit(table: pd.DataFrame, features: list[str]) -> bc.Fit:
    """A fit by NUTS to 4 of the features: 2 chains of 1,000 draws."""
    study = bc.Study.from_dataframe(table, features=features[:4], **ROLES)
    return bc.fit(study, chains=2, tune=500, draws=1000, seed=1, progress_bar=False)


def brute_force(study: bc.Study) -> tuple[np.ndarray, np.ndarray]:
    """Return fitted values and slopes of least squares on indicators of all levels beside the covariates."""
    parts = [label.split(" / ") for label in np.array(study.batches)[study.codes]]
    dummies = [pd.get_dummies(pd.Series(column), dtype=float).to_numpy() for column in zip(*parts, strict=True)]
    design = np.column_stack([*dummies, study.x])
    fitted, slopes = np.empty_like(study.y), []
    for v, y in enumerate(study.y.T):
        seen = ~np.isnan(y)
        solution = np.linalg.lstsq(design[seen], y[seen])[0]
        fitted[:, v] = design @ solution
        slopes.append(solution[-study.x.shape[1] :])
    return fitted, np.array(slopes)


# ---------------------------------------------------------------- least squares and empirical Bayes


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_least_squares_are_those_of_all_indicators(table: pd.DataFrame, features: list[str], share: float) -> None:
    holes = np.random.default_rng(0).random((len(table), len(features))) < share
    study = bc.Study.from_dataframe(table.assign(**table[features].mask(holes)), features=features, **ROLES)
    moments = Moments.from_study(study)
    fit = least_squares(moments)
    fitted, slopes = brute_force(study)
    np.testing.assert_allclose(fit.beta, slopes, rtol=0, atol=1e-10)
    center = np.broadcast_to(fit.center, slopes.shape)
    found = fit.cell_mean[study.codes] + np.einsum("ovp,vp->ov", study.x[:, None] - center, fit.beta)
    seen = ~np.isnan(study.y)
    np.testing.assert_allclose(found[seen], fitted[seen], rtol=0, atol=1e-10)
    squares = np.where(seen, (np.nan_to_num(study.y) - fitted) ** 2, 0.0)
    expected = np.stack([squares[study.codes == i].sum(axis=0) for i in range(len(study.batches))])
    np.testing.assert_allclose(fit.ssr, expected, rtol=1e-8, atol=1e-12)


def test_leverage_is_that_of_the_hat_matrix() -> None:
    positions = np.array([[0, 2], [0, 3], [1, 3], [1, 4], [0, 4]])
    weight = np.array([[4.0], [2.0], [7.0], [1.0], [3.0]])
    additive = Additive(positions, weight)
    scaled = np.sqrt(weight) * additive.indicator
    hat = scaled @ np.linalg.pinv(scaled)
    np.testing.assert_allclose(additive.leverage()[:, 0], np.diag(hat), atol=1e-10)


def test_a_level_without_weight_has_no_effect() -> None:
    positions = np.array([[0, 2], [0, 3], [1, 3]])
    _, effects = Additive(positions, np.array([[4.0], [2.0], [0.0]])).effects(np.array([[1.0], [2.0], [99.0]]))
    assert effects[1, 0] == 0


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_without_shrinkage_every_level_is_centred_and_has_its_scale(
    table: pd.DataFrame, features: list[str], share: float
) -> None:
    holes = np.random.default_rng(0).random((len(table), len(features))) < share
    study = bc.Study.from_dataframe(table.assign(**table[features].mask(holes)), features=features, **ROLES)
    fit = bc.fit(study, method="eb", shrinkage="none")
    parameters, moments = fit.parameters, fit.moments
    predicted = parameters["alpha"].values + np.einsum(
        "ovp,vp->ov", study.x[:, None] - np.broadcast_to(fit.layout.center, (12, 2)), parameters["beta"].values
    )
    away = (fit.harmonized["mean"].values - predicted) / parameters["sigma"].values
    seen = ~np.isnan(away)
    freedom = moments.n - (moments.n > 0) * Additive(moments.positions, moments.n).leverage()
    for k, variable in enumerate(("site", "software")):
        for level in table[variable].unique():
            rows = table[variable].to_numpy() == level
            mine = np.array([label.split(" / ")[k] == level for label in moments.batches])
            squares = np.where(seen, away**2, 0.0)[rows].sum(axis=0)
            # The log-linear fit of the scales makes the standardised squares meet their degrees of freedom.
            expected = np.broadcast_to(freedom, (len(mine), 12))[mine].sum(axis=0)
            np.testing.assert_allclose(squares, expected, rtol=1e-8)


def test_the_second_variables_shift_is_found(features: list[str]) -> None:
    table, simulation, shift = crossed_table((80, 70, 60, 50), seed=5)
    study = bc.Study.from_dataframe(table, features=features, **ROLES)
    gamma = bc.fit(study, method="eb").parameters["gamma"]
    found = gamma.sel(batch="software=6.0") - gamma.sel(batch="software=5.3")
    error = (found.values - shift) / simulation.truth["sigma"].values
    # Two groups of about 130 scans: a standard error of 0.12 sigma.
    assert np.sqrt((error**2).mean()) < 0.2


def test_order_of_the_variables_changes_labels_alone(table: pd.DataFrame, features: list[str]) -> None:
    one = bc.Study.from_dataframe(table, features=features, **ROLES)
    other = bc.Study.from_dataframe(table, features=features, **ROLES | {"batch": ["software", "site"]})
    found = [bc.fit(study, method="eb").harmonized["mean"] for study in (one, other)]
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-10)


# ---------------------------------------------------------------- reduction to one variable


@pytest.mark.parametrize("position", [0, 1])
def test_a_variable_of_one_level_changes_nothing_for_empirical_bayes(
    table: pd.DataFrame, features: list[str], position: int
) -> None:
    batch = ["site"]
    batch.insert(position, "country")
    one = bc.Study.from_dataframe(table, features=features, **ROLES | {"batch": "site"})
    two = bc.Study.from_dataframe(table.assign(country="x"), features=features, **ROLES | {"batch": batch})
    fits = [bc.fit(study, method="eb") for study in (one, two)]
    assert fits[0].parameters.identical(fits[1].parameters)
    np.testing.assert_array_equal(fits[0].harmonized["mean"], fits[1].harmonized["mean"])


def test_a_variable_of_one_level_changes_nothing_for_nuts(
    tiny_simulation: bc.datasets.Simulation, tiny_fit: bc.Fit, fit_tiny: object
) -> None:
    table = tiny_simulation.table.assign(country="x")
    study = bc.Study.from_dataframe(
        table, batch=["site", "country"], covariates="age", features=tiny_simulation.features
    )
    found = fit_tiny(study)
    assert found.parameters.identical(tiny_fit.parameters)
    np.testing.assert_array_equal(found.harmonized["upper"], tiny_fit.harmonized["upper"])


# ---------------------------------------------------------------- NUTS


def test_shifts_and_scales_of_each_variable_meet_their_constraint(crossed_fit: bc.Fit, table: pd.DataFrame) -> None:
    parameters = crossed_fit.parameters
    share = {name: table[name].value_counts(normalize=True) for name in ("site", "software")}
    for name, shares in share.items():
        weights = {f"{name}={level}": value for level, value in shares.items()}
        gamma = sum(value * parameters["gamma"].sel(batch=label) for label, value in weights.items())
        assert abs(gamma / parameters["sigma"]).max() <= 1e-10
    delta = parameters["delta"]
    averages = [
        sum(value * delta.sel(batch=f"{name}={level}") ** 2 for level, value in shares.items())
        for name, shares in share.items()
    ]
    assert abs(averages[0] - averages[1]).max() <= 1e-10
    cells = table.groupby(["site", "software"]).size() / len(table)
    whole = sum(
        value * (delta.sel(batch=f"site={a}") * delta.sel(batch=f"software={b}")) ** 2
        for (a, b), value in cells.items()
    )
    assert abs(whole - 1).max() <= 1e-10


def test_nuts_agrees_with_empirical_bayes_where_scans_are_many(crossed_fit: bc.Fit) -> None:
    quick = bc.fit(crossed_fit.study, method="eb").harmonized["mean"]
    sigma = crossed_fit.parameters["sigma"].mean(("chain", "draw"))
    away = (crossed_fit.harmonized["mean"] - quick) / sigma
    large = crossed_fit.study.codes < 4
    assert float((away[large] ** 2).mean() ** 0.5) < 0.15


def test_nuts_mixes(crossed_fit: bc.Fit) -> None:
    assert crossed_fit.converged, crossed_fit.verdict


@pytest.mark.filterwarnings("ignore::bayescombat.errors.OverlapWarning")
def test_levels_that_were_never_seen_together_are_harmonized(crossed_fit: bc.Fit, table: pd.DataFrame) -> None:
    only = table[(table["site"] != "site_05") | (table["software"] == "5.3")]
    study = bc.Study.from_dataframe(only, features=crossed_fit.layout.features, **ROLES)
    rows = table[(table["site"] == "site_05") & (table["software"] == "6.0")]
    assert len(rows) and "site_05 / 6.0" not in study.batches
    assert np.isfinite(bc.fit(study, method="eb").harmonize(rows)["mean"]).all()


def test_rows_of_the_target_keep_every_bit(crossed_fit: bc.Fit, table: pd.DataFrame) -> None:
    found = crossed_fit.harmonize(table, target=["site_02", "6.0"])
    rows = ((table["site"] == "site_02") & (table["software"] == "6.0")).to_numpy()
    np.testing.assert_array_equal(found["mean"][rows], table.loc[rows, list(crossed_fit.layout.features)])
    assert (found["sd"].values[~rows] > 0).all()


def test_a_reference_is_one_level_of_each(table: pd.DataFrame, features: list[str]) -> None:
    study = bc.Study.from_dataframe(table, features=features, reference=["site_02", "6.0"], **ROLES)
    parameters = bc.fit(study, method="eb").parameters
    for label in ("site=site_02", "software=6.0"):
        assert (parameters["gamma"].sel(batch=label) == 0).all() and (parameters["delta"].sel(batch=label) == 1).all()


def test_an_unknown_level_names_its_variable(crossed_fit: bc.Fit, table: pd.DataFrame) -> None:
    with pytest.raises(bc.UnseenBatchError, match=r"'5.3', '6.0' in 'software', found '7.1'"):
        crossed_fit.harmonize(table.head(3).assign(software="7.1"))


# ---------------------------------------------------------------- what cannot be told apart


def refused(table: pd.DataFrame, batch: list[str]) -> str:
    study = bc.Study.from_dataframe(table, batch=batch, features=["feature_0"])
    with pytest.raises(bc.ConfoundedDesignError) as caught:
        bc.fit(study, method="eb")
    return str(caught.value)


def test_variables_that_are_the_same_are_refused_by_name(table: pd.DataFrame) -> None:
    message = refused(table.assign(scanner=table["site"].str.upper()), ["site", "scanner"])
    assert "'scanner' aliased with 'site'" in message and "'site=site_01' with 'scanner=SITE_01'" in message


def test_nested_variables_are_refused_by_name(table: pd.DataFrame) -> None:
    country = table["site"].map(dict(site_01="a", site_02="a", site_03="b", site_04="b", site_05="b"))
    message = refused(table.assign(country=country), ["site", "country"])
    assert "'country' aliased with 'site'" in message and "'site=site_01', 'site=site_02' with 'country=a'" in message


def test_variables_aliased_in_threes_are_refused(table: pd.DataFrame) -> None:
    # Every two of them have scans that connect their levels, yet the third is the sum of the first two.
    coil = np.random.default_rng(3).choice([0, 1], len(table))
    protocol = coil + (table["software"] == "6.0")
    message = refused(table.assign(coil=coil, protocol=protocol), ["software", "coil", "protocol"])
    assert "together 'software', 'coil', 'protocol' are aliased" in message


@pytest.mark.filterwarnings("ignore::bayescombat.errors.OverlapWarning")
def test_a_covariate_that_is_a_batch_variable_is_refused(table: pd.DataFrame) -> None:
    study = bc.Study.from_dataframe(
        table.assign(version=(table["software"] == "6.0") * 1.0),
        batch=["site", "software"],
        covariates="age + version",
        features=["feature_0"],
    )
    with pytest.raises(bc.ConfoundedDesignError, match="'version'"):
        bc.fit(study, method="eb")


@pytest.mark.filterwarnings("ignore::bayescombat.errors.OverlapWarning")
def test_a_covariate_told_by_the_cells_alone_is_estimated(table: pd.DataFrame, features: list[str]) -> None:
    # Constant within every combination, but not additive in the two variables.
    both = ((table["software"] == "6.0") & table["site"].isin(["site_01", "site_03"])) * 1.0
    study = bc.Study.from_dataframe(
        table.assign(both=both), batch=["site", "software"], covariates="both", features=features
    )
    _, slopes = brute_force(study)
    np.testing.assert_allclose(least_squares(Moments.from_study(study)).beta, slopes, atol=1e-10)


def test_sva_knows_one_batch_variable(table: pd.DataFrame, features: list[str]) -> None:
    study = bc.Study.from_dataframe(table, features=features, **ROLES)
    with pytest.raises(bc.BayesCombatError, match="one batch variable for compat='sva', found 'site', 'software'"):
        bc.fit(study, method="eb", compat="sva")


# ---------------------------------------------------------------- levels that others use up, names that clash


def sparse(cells: list[tuple[str, str]]) -> pd.DataFrame:
    table = pd.DataFrame(cells, columns=["site", "software"])
    return table.join(pd.DataFrame(np.random.default_rng(0).normal(size=(len(table), 4))).add_prefix("f"))


LATTICE = [("a", "5"), ("a", "6"), ("b", "5"), ("c", "6")] + [("b", "7")] * 8 + [("c", "7")] * 8


@pytest.mark.parametrize("reference", [{"site": "a", "software": "7"}, {"site": "b", "software": "5"}])
def test_a_reference_whose_scans_are_used_up_is_refused(reference: dict[str, str]) -> None:
    study = bc.Study.from_dataframe(
        sparse(LATTICE), batch=["site", "software"], features=["f0", "f1", "f2", "f3"], reference=reference
    )
    with pytest.raises(bc.DataError, match="at least two scans that tell of its scale, found none to spare in"):
        bc.fit(study, method="eb")


def test_a_site_whose_scans_are_used_up_gets_its_scale_from_the_prior() -> None:
    cells = [("a", "5"), ("a", "6")] + [("b", "6")] * 8 + [("b", "7")] * 8 + [("c", "7")] * 6
    study = bc.Study.from_dataframe(sparse(cells), batch=["site", "software"], features=["f0", "f1", "f2", "f3"])
    with (
        pytest.warns(bc.BatchSizeWarning, match="One scan in 1 of 6 batches: 'software=5'"),
        pytest.warns(bc.BatchSizeWarning, match="use up the scans of 'site=a'. There nothing tells of the scale"),
    ):
        found = bc.fit(study, method="eb")
    assert np.isfinite(found.harmonized["mean"].values).all()
    assert (found.parameters["delta"].sel(batch="site=a") == 1).all()


def test_names_of_batch_columns_are_not_taken_for_parameters(table: pd.DataFrame, features: list[str]) -> None:
    names = []
    for name in ("software", "typical", "scan/ner"):
        renamed = table.rename(columns={"software": name})
        study = bc.Study.from_dataframe(renamed, batch=["site", name], features=features[:2])
        names.append(sorted(bc.build_model(study).named_vars))
    assert names[0] == names[1] == names[2]
    assert "gamma_2" in names[0]


def test_labels_that_could_be_read_in_two_ways_are_refused(table: pd.DataFrame, features: list[str]) -> None:
    doubled = table.assign(a=np.where(table["software"] == "6.0", "b=c", "d")).rename(columns={"site": "a=b"})
    doubled["a=b"] = doubled["a=b"].replace("site_01", "c")
    with pytest.raises(bc.DataError, match="that '=' can join, found two that make 'a=b=c'. Rename"):
        bc.Study.from_dataframe(doubled, batch=["a", "a=b"], features=features)


@pytest.mark.parametrize(
    "target", [["site_01", 6], {"software": 6.0, "site": "site_01"}, "site_01 / 6", ("site_01", "6")], ids=str
)
def test_a_target_is_named_as_a_reference_is(table: pd.DataFrame, features: list[str], target: object) -> None:
    table = table.assign(software=np.where(table["software"] == "6.0", 6, 5))
    fit = bc.fit(bc.Study.from_dataframe(table, batch=["site", "software"], features=features), method="eb")
    assert fit.harmonize(table, target=target).attrs["target"] == "site_01 / 6"


def test_a_target_with_a_variable_that_the_fit_does_not_have_is_refused(
    table: pd.DataFrame, features: list[str]
) -> None:
    fit = bc.fit(bc.Study.from_dataframe(table, batch=["site", "software"], features=features), method="eb")
    with pytest.raises(bc.DataError, match="as target, found levels of 'site', 'software', 'coil'. Name one"):
        fit.harmonize(table, target={"site": "site_01", "software": "6.0", "coil": "x"})
