"""Features that share factors, with several batch variables: noise of cells, effects and patterns of levels."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.linalg import block_diag

import bayescombat as bc
from bayescombat.factors import factors_of
from bayescombat.identification import estimable
from bayescombat.moments import Moments
from bayescombat.pooling import Pooled
from bayescombat.repeated import fixed_effects
from bayescombat.scores import CrossedSharing, sharing_of
from bayescombat.shared import Found, found_of

SCANS = (40, 35, 30, 25, 20, 15, 10, 3)
COILS = ("p", "q", "r", "s")
ROLES = {"batch": ["site", "coil"]}


def crossed(
    scans: tuple[int, ...], features: int, seed: int, factor_sd: float = 0.3
) -> tuple[pd.DataFrame, xr.Dataset]:
    """Return scans with four coils, the last one rare, and the true shifts of sites and coils in units of sigma."""
    options = {"factors": 2, "factor_share": 0.5, "factor_sd": factor_sd, "site_age_sd": 2.0}
    simulation = bc.datasets.simulate(scans, features=features, seed=seed, **options)
    rng, sigma = np.random.default_rng([seed, 9]), simulation.truth["sigma"]
    coil = rng.choice(4, sum(scans), p=[0.5, 0.3, 0.15, 0.05])
    coil[:4] = range(4)
    shift = rng.normal(0, 0.3, (4, 1)) + rng.normal(0, 0.3, (4, features))
    shift -= np.bincount(coil) / len(coil) @ shift
    names = list(simulation.features)
    y = simulation.table[names] + shift[coil] * sigma.values
    table = pd.concat([simulation.table[["site", "age"]], y], axis=1).assign(coil=np.array(COILS)[coil])
    gamma = (simulation.truth["gamma"] / sigma).transpose("batch", "feature").values
    labels = [f"site={site}" for site in sorted(set(table["site"]))] + [f"coil={name}" for name in COILS]
    truth = xr.DataArray(np.concatenate([gamma, shift]), dims=("batch", "feature"), coords={"batch": labels})
    return table.copy(), truth.to_dataset(name="gamma").assign(sigma=sigma)


def study_of(table: pd.DataFrame, **roles: object) -> bc.Study:
    features = [name for name in table if name.startswith("feature")]
    return bc.Study.from_dataframe(table, features=features, **(ROLES | roles))


def with_holes(table: pd.DataFrame) -> pd.DataFrame:
    names = [name for name in table if name.startswith("feature")]
    return table.assign(**table[names].mask(np.random.default_rng(0).random((len(table), len(names))) < 0.15))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return crossed((24, 20, 16, 12, 8), 18, 3)[0]


@pytest.fixture(scope="module")
def tiny() -> pd.DataFrame:
    return crossed((14, 9, 7), 6, 2)[0]


def moments_of(table: pd.DataFrame) -> Moments:
    return estimable(Moments.from_study(study_of(table), cross=True))


def dense(moments: Moments, found: Found) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return design, prior covariance and noise covariance of all shifts, as (row, level x feature) matrices."""
    features, blocks = len(moments.features), []
    for shifts, patterns in zip(found.shifts, found.patterns, strict=True):
        for spread, along in zip(shifts.sd, patterns.of_features, strict=True):
            own = spread**2 * (np.eye(features) + along @ along.T)
            blocks.append(own + shifts.spread[0] ** 2)
    member = np.zeros((len(moments.batches), sum(moments.levels.sizes)))
    np.put_along_axis(member, moments.positions, 1.0, axis=1)
    noise = [np.diag(own) + loadings @ loadings.T for own, loadings in zip(*found.errors, strict=True)]
    return np.kron(member, np.eye(features)), block_diag(*blocks), block_diag(*noise)


# ---------------------------------------------------------------- empirical Bayes


@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
def test_shifts_are_those_of_the_normal_distribution_of_everything(tiny: pd.DataFrame, holes: bool) -> None:
    moments = moments_of(with_holes(tiny) if holes else tiny)
    found = found_of(moments, fixed_effects(moments), factors_of(moments, 1))
    design, prior, noise = dense(moments, found)
    seen = np.isfinite(np.diagonal(noise))
    assert seen.all() != holes
    design, noise = design[seen], noise[np.ix_(seen, seen)]
    total = design @ prior @ design.T + noise
    expected = prior @ design.T @ np.linalg.solve(total, found.residual.ravel()[seen])
    effects = np.concatenate([shifts.effect for shifts in found.shifts])
    np.testing.assert_allclose(effects.ravel(), expected, atol=1e-8)


def test_levels_of_one_cell_are_these_cells() -> None:
    rng = np.random.default_rng(0)
    variance, noise, residual = rng.uniform(0.1, 1, (3, 5)), rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5))
    pooled = Pooled.of(np.arange(3), variance, noise)
    np.testing.assert_allclose(pooled.means(residual), residual, atol=1e-12)
    np.testing.assert_allclose(pooled.variance, variance)
    one, other = (part @ part.swapaxes(1, 2) for part in (pooled.noise, noise))
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_a_second_variable_of_one_level_changes_no_bit(table: pd.DataFrame) -> None:
    fits = [
        bc.fit(study_of(table.assign(field="3T"), batch=batch), method="eb", shared_factors=2)
        for batch in ("site", ["site", "field"], ["field", "site"])
    ]
    for fit in fits[1:]:
        xr.testing.assert_equal(fit.parameters, fits[0].parameters)


def test_the_order_of_variables_changes_labels_alone(table: pd.DataFrame) -> None:
    one, other = (
        bc.fit(study_of(table, batch=batch), method="eb", shared_factors=2).harmonized["mean"].values
        for batch in (["site", "coil"], ["coil", "site"])
    )
    # Spreads are found to one part in ten thousand.
    np.testing.assert_allclose(one, other, atol=1e-3 * table["feature_0"].std())


def test_shared_factors_bring_levels_closer_to_the_truth() -> None:
    errors: dict[int, list[float]] = {0: [], 2: []}
    for seed in range(5):
        data, truth = crossed(SCANS, 40, seed, factor_sd=0.1)
        for count, found in errors.items():
            parameters = bc.fit(study_of(data), method="eb", shared_factors=count).parameters
            away = parameters["gamma"] / truth["sigma"] - truth["gamma"]
            found.append(float((away**2).mean()))
    assert np.mean(errors[2]) < 0.9 * np.mean(errors[0])


def test_a_reference_does_not_move(table: pd.DataFrame) -> None:
    reference = {"site": "site_02", "coil": "q"}
    fit = bc.fit(study_of(table, reference=reference), method="eb", shared_factors=2)
    here = fit.parameters.sel(batch=["site=site_02", "coil=q"])
    assert (here["gamma"] == 0).all() and (here["delta"] == 1).all()
    pooled = bc.fit(study_of(table), method="eb", shared_factors=2)
    np.testing.assert_allclose(fit.harmonized["mean"], pooled.harmonize(table, target=reference)["mean"], atol=1e-10)


def test_mean_only_leaves_scales(table: pd.DataFrame) -> None:
    fit = bc.fit(study_of(table), method="eb", mean_only=True, shared_factors=2)
    assert (fit.parameters["delta"] == 1).all()


def test_update_is_fitting_everything_at_once(table: pd.DataFrame) -> None:
    new = table["site"] == "site_05"
    updated = bc.fit(study_of(table[~new]), method="eb", shared_factors=2).update(table[new])
    whole = bc.fit(study_of(table), method="eb", shared_factors=2)
    found, expected = (fit.harmonize(table)["mean"] for fit in (updated, whole))
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("reference", [None, {"site": "site_02", "coil": "q"}], ids=["pooled", "reference"])
@pytest.mark.parametrize("coils", [COILS, ("p",)], ids=["several cells", "one cell"])
def test_an_adopted_site_is_near_to_where_a_refit_brings_it(
    table: pd.DataFrame, coils: tuple[str, ...], reference: dict[str, str] | None
) -> None:
    table = table[(table["site"] != "site_05") | table["coil"].isin(coils)]
    new = table[table["site"] == "site_05"]
    fit = bc.fit(study_of(table.drop(new.index), reference=reference), method="eb", shared_factors=2)
    refit = bc.fit(study_of(table, reference=reference), method="eb", shared_factors=2).harmonize(new)["mean"].values
    found, raw = fit.adopt(new).harmonize(new)["mean"].values, new[list(fit.layout.features)].to_numpy()
    assert np.abs(found - refit).mean() < 1 / 4 * np.abs(raw - refit).mean()


# ---------------------------------------------------------------- full Bayes


@pytest.fixture(scope="module")
def sharing(tiny: pd.DataFrame) -> CrossedSharing:
    moments = moments_of(tiny)
    found = sharing_of(moments, fixed_effects(moments), factors_of(moments, 1))
    assert isinstance(found, CrossedSharing)
    return found


def test_scores_that_are_turned_have_the_prior_of_patterns_and_noise(
    tiny: pd.DataFrame, sharing: CrossedSharing
) -> None:
    parts = [one.of_shifts for one in sharing.of_variables] + [sharing.of_noise]
    loadings = np.concatenate([part.reshape(-1, len(sharing.score)) for part in parts])
    blocks = [each @ each.T for one in sharing.of_variables for each in one.patterns.each]
    expected = block_diag(*blocks, np.diag(1 / moments_of(tiny).scans))
    np.testing.assert_allclose(loadings @ loadings.T, expected, atol=1e-10)


def test_scores_are_independent_given_the_data_and_where_these_expect_them(
    tiny: pd.DataFrame, sharing: CrossedSharing
) -> None:
    moments = moments_of(tiny)
    found = found_of(moments, fixed_effects(moments), factors_of(moments, 1))
    design, _, _ = dense(moments, found)
    features, own = len(moments.features), np.concatenate([shifts.sd**2 for shifts in found.shifts])
    rest = design @ np.kron(np.diag(own), np.eye(features)) @ design.T + np.diag(found.errors[0].ravel())
    shifts = [one.sd[:, None, None] * (one.patterns.axes @ one.of_shifts) for one in sharing.of_variables]
    along = design @ np.concatenate(shifts).reshape(-1, len(sharing.score))
    delta = np.exp(
        sum(one.effect[column - column.min()] for one, column in zip(found.scales, moments.positions.T, strict=True))
    )
    noise = delta[..., None] * (factors_of(moments, 1).loadings @ sharing.of_noise)
    along += noise.reshape(along.shape)
    told = along.T @ np.linalg.solve(rest, along)
    np.testing.assert_allclose(told, np.diag(np.diagonal(told)), atol=1e-8 * np.diagonal(told).max())
    mean = np.concatenate([one.mean for one in sharing.of_variables]).repeat(features)
    right = along.T @ np.linalg.solve(rest, found.residual.ravel() - design @ mean)
    np.testing.assert_allclose(sharing.score, right / (1 + np.diagonal(told)), atol=1e-8)


def test_cell_means_are_drawn_from_their_distribution_given_everything(tiny: pd.DataFrame) -> None:
    study = study_of(tiny)
    moments, draws = moments_of(tiny), 4000
    factors, levels, rng = factors_of(moments, 1), moments.levels, np.random.default_rng(0)
    features, cells, dims = len(moments.features), len(moments.batches), levels.dims
    value = {
        "alpha": (("feature",), moments.mean_y.mean(axis=0)),
        "sigma": (("feature",), rng.uniform(0.1, 0.2, features)),
        "delta": (("batch", "feature"), rng.uniform(0.8, 1.2, (7, features))),
        "gamma_2": (("batch_2", "feature"), rng.normal(0, 0.05, (4, features))),
        "batch_pattern_1": (("batch_1", "feature"), rng.normal(0, 0.5, (3, features))),
        "noise_factor": (("cell", "factor"), rng.normal(0, 0.3, (cells, 1))),
    }
    for k in (1, 2):
        of_levels = {"gamma_mean": 0.2, "gamma_sd": 0.4, "log_delta_mean": 0.0, "log_delta_sd": 0.1}
        value |= {
            f"{name}_{k}": ((f"batch_{k}",), np.full(len(dims[f"batch_{k}"]), one)) for name, one in of_levels.items()
        }
        scalars = [f"{name}_{field}_{k}" for name in ("gamma", "log_delta") for field in ("mean_spread", "sd_spread")]
        scalars += [f"{name}_sd_log_typical_{k}" for name in ("gamma", "log_delta")]
        value |= {name: ((), np.array(0.3)) for name in scalars}
    # The order of labels does not matter.
    coords = {"feature": moments.features, "batch": levels.labels, "cell": moments.batches} | dims
    data = xr.Dataset(value, {name: list(labels) for name, labels in coords.items()}).isel(cell=slice(None, None, -1))
    found = bc.identify(data.expand_dims(chain=1, draw=draws), study, seed=1)
    place, other = moments.positions.T
    sigma, delta = value["sigma"][1], value["delta"][1][moments.positions].prod(axis=1)
    observed = moments.mean_y - value["alpha"][1] - value["gamma_2"][1][other - 3]
    observed -= sigma * delta * (value["noise_factor"][1] @ factors.loadings.T)
    noise = (sigma * delta) ** 2 * factors.of_own(np.broadcast_to(moments.n, delta.shape), moments.scans)
    precision = np.stack([(1 / noise)[place == i].sum(axis=0) for i in range(3)]) + 1 / (0.4 * sigma) ** 2
    weighted = np.stack([(observed / noise)[place == i].sum(axis=0) for i in range(3)])
    mean = (weighted + sigma * (0.2 + value["batch_pattern_1"][1]) / (0.4 * sigma) ** 2) / precision
    alpha, gamma = found["alpha"].values[0], found["gamma"].values[0]
    total = alpha[:, None] + gamma[:, place] + gamma[:, other]
    expected = value["alpha"][1] + mean[place] + value["gamma_2"][1][other - 3]
    sd = precision[place] ** -0.5
    assert np.abs((total.mean(axis=0) - expected) / sd).max() < 5 / draws**0.5
    np.testing.assert_allclose(total.std(axis=0) / sd, 1, atol=5 / (2 * draws) ** 0.5)


def test_loadings_of_a_fit_name_the_variable_of_every_pattern(table: pd.DataFrame) -> None:
    fit = bc.fit(study_of(table), method="eb", shared_factors=2)
    owner = fit.tree["factors"]["batch_variable"].values
    assert fit.patterns.shape == (18, len(owner)) and list(dict.fromkeys(owner)) == ["site", "coil"]


def test_subjects_are_refused(table: pd.DataFrame) -> None:
    study = study_of(table.assign(subject=np.arange(len(table)) // 2), subject="subject")
    with pytest.raises(bc.BayesCombatError, match="scans of one subject each where features share factors"):
        bc.fit(study, method="eb", shared_factors=2)
