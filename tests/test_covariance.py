"""Covariance harmonized: as published by empirical Bayes, with its uncertainty by NUTS."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayescombat as bc
from bayescombat.adjust import Draws
from bayescombat.covariance import covariances_of
from benchmarks.parity import difference_of_covariance

SCANS = (40, 30, 20, 8)
FEATURES = [f"feature_{v}" for v in range(8)]


def simulated(scans: tuple[int, ...] = SCANS, seed: int = 0, spread: float = 0.4) -> tuple[pd.DataFrame, np.ndarray]:
    """Sites whose scans have principal components of their own spread; and what they would be without."""
    rng = np.random.default_rng(seed)
    site, count = np.repeat(np.arange(len(scans)), scans), len(FEATURES)
    loadings = rng.normal(size=(count, 3))
    covariance = loadings @ loadings.T + 1.5 * np.eye(count)
    root = np.sqrt(np.diagonal(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(root, root))
    weight, own = np.array(scans) / len(site), np.exp(spread * rng.normal(size=(len(scans), count)))
    own /= np.sqrt((weight[:, None] * own**2).sum(axis=0))
    scores = rng.normal(size=(len(site), count)) * np.sqrt(values)
    age, sigma = rng.normal(40, 12, len(site)), 0.15 * np.exp(0.2 * rng.normal(size=count))
    shift, scale = rng.normal(size=(2, len(scans), count))
    scale = np.exp(0.15 * scale)
    # On the scale of the average site.
    sigma = sigma * np.sqrt((weight[:, None] * scale**2 * ((own**2 * values) @ (vectors**2).T)).sum(axis=0))
    fixed = 5 + sigma * np.outer((age - age.mean()) / 12, 0.3 * rng.normal(size=count))
    shift = 0.5 * (shift - weight @ shift)
    moved = scale / np.sqrt((weight[:, None] * scale**2 * ((own**2 * values) @ (vectors**2).T)).sum(axis=0))
    y = fixed + sigma * (shift[site] + moved[site] * ((scores * own[site]) @ vectors.T))
    table = pd.DataFrame(y, columns=FEATURES).assign(site=[f"site_{i + 1}" for i in site], age=age)
    return table, fixed + sigma * (scores @ vectors.T)


def study_of(table: pd.DataFrame, **options: Any) -> bc.Study:
    return bc.Study.from_dataframe(table, **({"batch": "site", "covariates": "age", "features": FEATURES} | options))


def fitted_part(fit: bc.Fit, study: bc.Study) -> np.ndarray:
    p = fit.parameters
    return p["alpha"].values + (study.x - fit.layout.center) @ p["beta"].values.T


def by_hand(
    values: np.ndarray,
    fitted: np.ndarray,
    codes: np.ndarray,
    share: float = 0.95,
    to: int | None = None,
    learned: np.ndarray | slice = slice(None),
) -> np.ndarray:
    """CovBat's second step on harmonized rows: standardise, rotate, bring scores to one location and scale, go back."""
    residual = values - fitted
    center, unit = residual[learned].mean(axis=0), residual[learned].std(axis=0, ddof=1)
    _, size, rows = np.linalg.svd((residual[learned] - center) / unit, full_matrices=False)
    count = int(np.flatnonzero(np.cumsum(size**2) / (size**2).sum() > share)[0]) + 1
    scores, counts = (residual - center) / unit @ rows.T, np.bincount(codes)
    means = np.stack([scores[codes == i].mean(axis=0) for i in range(len(counts))])
    squares = np.stack([((scores[codes == i] - means[i]) ** 2).sum(axis=0) for i in range(len(counts))])
    known = np.unique(codes[learned])
    total = counts[known].sum()
    middle, spread = counts[known] / total @ means[known], np.sqrt(squares[known].sum(axis=0) / total)
    if to is not None:
        middle, spread = means[to], np.sqrt(squares[to] / (counts[to] - 1))
    moved = (scores - means[codes]) / np.sqrt(squares / (counts - 1)[:, None])[codes] * spread + middle
    scores[:, :count] = moved[:, :count]
    return fitted + center + unit * (scores @ rows)


# ---------------------------------------------------------------- as published


def test_it_is_what_the_r_package_gives(reference_data: Path) -> None:
    # ComBatFamily stops its fixed point early, as sva does; the default iterates on.
    assert difference_of_covariance("sva") < 1e-10
    assert difference_of_covariance(None) < 1e-6


@pytest.mark.parametrize("share", [True, 0.5, 0.8])
def test_it_is_covbat_by_hand(share: bool | float) -> None:
    study = study_of(simulated()[0])
    plain, fit = bc.fit(study, method="eb"), bc.fit(study, method="eb", covariance=share)
    expected = by_hand(
        plain.harmonized["mean"].values, fitted_part(plain, study), study.codes, 0.95 if share is True else share
    )
    np.testing.assert_allclose(fit.harmonized["mean"], expected, rtol=0, atol=1e-12)
    assert np.abs(expected - plain.harmonized["mean"].values).max() > 0.05


def test_after_hidden_factors_it_is_covbat_of_what_they_leave() -> None:
    study = study_of(simulated()[0])
    options: dict[str, Any] = {"method": "eb", "factors": 1, "factors_despite_covariates": True}
    plain = bc.fit(study, **options)
    expected = by_hand(plain.harmonized["mean"].values, fitted_part(plain, study), study.codes)
    found = bc.fit(study, **options, covariance=True).harmonized["mean"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_rows_of_a_target_keep_their_values_and_others_get_its_spread() -> None:
    table, _ = simulated()
    study = study_of(table)
    fit, plain = (bc.fit(study, method="eb", covariance=covariance) for covariance in (True, False))
    found = fit.harmonize(table, target="site_2")["mean"].values
    still = study.codes == 1
    np.testing.assert_array_equal(found[still], study.y[still])
    gamma, delta = (plain.parameters[name].sel(batch="site_2").values for name in ("gamma", "delta"))
    fitted = fitted_part(plain, study)
    pooled = by_hand(plain.harmonized["mean"].values, fitted, study.codes, to=1)
    expected = fitted + gamma + delta * (pooled - fitted)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_rows_of_the_reference_keep_every_bit() -> None:
    table, _ = simulated()
    fit = bc.fit(study_of(table, reference="site_3"), method="eb", covariance=True)
    plain = bc.fit(study_of(table, reference="site_3"), method="eb")
    still = fit.study.codes == 2
    found = fit.harmonized["mean"].values
    np.testing.assert_array_equal(found[still], fit.study.y[still])
    assert np.abs(found - plain.harmonized["mean"].values)[~still].max() > 0.05


def test_removed_covariates_go_before() -> None:
    table, _ = simulated()
    kept, removed = study_of(table), study_of(table, covariates=None, remove="age")
    found = [bc.fit(study, method="eb", covariance=True).harmonized["mean"].values for study in (kept, removed)]
    fit = bc.fit(kept, method="eb")
    np.testing.assert_allclose(found[0] - found[1], fitted_part(fit, kept) - fit.parameters["alpha"].values, atol=1e-12)


# ---------------------------------------------------------------- what it goes with


def test_moments_of_the_sites_say_all() -> None:
    table, _ = simulated()
    study = study_of(table)
    parts = [bc.Study.from_design(rows, study.spec) for _, rows in table.groupby("site")]
    moments = bc.merge([bc.Moments.from_study(part, cross=True) for part in parts])
    expected = bc.fit(study, method="eb", covariance=True)
    np.testing.assert_allclose(
        bc.fit(moments, method="eb", covariance=True).harmonize(table)["mean"], expected.harmonized["mean"], atol=1e-10
    )
    updated = bc.fit(study_of(table[table["site"] != "site_4"]), method="eb", covariance=True)
    updated = updated.update(table[table["site"] == "site_4"])
    np.testing.assert_allclose(updated.harmonize(table)["mean"], expected.harmonized["mean"], atol=1e-10)


def test_an_adopted_batch_changes_nothing_and_gets_the_spread_of_the_others() -> None:
    table, _ = simulated((40, 40, 40, 40))
    # So that it comes before the others in sorted order.
    table["site"] = table["site"].replace("site_4", "a_new_one")
    new = (table["site"] == "a_new_one").to_numpy()
    fits = [bc.fit(study_of(table[~new]), method="eb", covariance=covariance) for covariance in (True, False)]
    adopted, plain = (fit.adopt(table[new]) for fit in fits)
    found = adopted.harmonize(table)["mean"].values
    np.testing.assert_array_equal(found[~new], fits[0].harmonized["mean"])
    study = bc.Study.from_design(table, plain.layout.spec)
    values = plain.harmonize(table)["mean"].values
    expected = by_hand(values, fitted_part(plain, study), study.codes, learned=~new)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert np.abs(expected - values)[new].max() > 0.05


def test_missing_cells_change_little() -> None:
    table, _ = simulated((200, 150, 100))
    holes = np.random.default_rng(0).random((len(table), len(FEATURES))) < 0.03
    whole = bc.fit(study_of(table), method="eb", covariance=0.99).harmonized["mean"].values
    plain = bc.fit(study_of(table), method="eb").harmonized["mean"].values
    found = bc.fit(study_of(table.assign(**table[FEATURES].mask(holes))), method="eb", covariance=0.99)
    found = found.harmonized["mean"].values
    np.testing.assert_array_equal(np.isnan(found), holes)
    away, moved = (np.sqrt(((found - whole)[~holes] ** 2).mean()), np.sqrt(((plain - whole)[~holes] ** 2).mean()))
    assert away < 0.25 * moved


def test_logarithms_are_harmonized_where_the_study_takes_them() -> None:
    table, _ = simulated()
    found = bc.fit(study_of(table.assign(**np.exp(table[FEATURES])), transform="log"), method="eb", covariance=True)
    expected = bc.fit(study_of(table), method="eb", covariance=True).harmonized["mean"]
    np.testing.assert_allclose(np.log(found.harmonized["mean"]), expected, rtol=0, atol=1e-12)


def test_a_batch_of_one_scan_keeps_its_scores() -> None:
    table, _ = simulated((40, 30, 20, 1))
    with pytest.warns(bc.BatchSizeWarning) as caught:
        fit = bc.fit(study_of(table), method="eb", covariance=True)
        plain = bc.fit(study_of(table), method="eb")
    assert any("its covariance is left as it is" in str(warning.message) for warning in caught)
    np.testing.assert_allclose(fit.harmonized["mean"][-1], plain.harmonized["mean"][-1], rtol=0, atol=1e-12)


def several(table: pd.DataFrame) -> bc.Fit:
    study = study_of(table.assign(software=np.resize(["5", "6"], len(table))), batch=["site", "software"])
    return bc.fit(study, method="eb", covariance=True)


def of_an_unknown_batch(table: pd.DataFrame) -> Any:
    fit = bc.fit(study_of(table), method="eb", covariance=True)
    assert np.isfinite(fit.harmonize(table, unseen="prior")["mean"]).all()
    return fit.harmonize(table.assign(site="site_9"), unseen="prior")


def saved_without_moments(table: pd.DataFrame) -> Any:
    return bc.fit(study_of(table), method="eb", covariance=True).save("never.nc", moments=False)


def never_observed(table: pd.DataFrame) -> Any:
    table.loc[table["site"] == "site_2", "feature_3"] = np.nan
    return bc.fit(study_of(table), method="eb", covariance=True)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (several, "Expected one batch variable for covariance, found 'site', 'software'"),
        (of_an_unknown_batch, "Expected batches whose covariance the fit has learned, found 'site_9'"),
        (saved_without_moments, "Expected moments=True for a fit with covariance"),
        (never_observed, "found 'feature_3' observed at most once in 'site_2'"),
        (lambda t: bc.fit(study_of(t, features=FEATURES[:1]), method="eb", covariance=True), "found one: 'feature_0'"),
        (lambda t: bc.fit(study_of(t), method="eb", covariance=1.5), "a share of variance between 0 and 1, found 1.5"),
        (
            lambda t: bc.fit(bc.Moments.from_study(study_of(t)), method="eb", covariance=True),
            "which covariance is learned from, found moments without",
        ),
    ],
)
def test_what_is_refused(refused: Any, message: str) -> None:
    with pytest.raises(bc.BayesCombatError, match=message):
        refused(simulated()[0])


# ---------------------------------------------------------------- by NUTS


@pytest.fixture(scope="module")
def nuts(nuts_fit: bc.Fit, study: bc.Study) -> bc.Fit:
    """The shared fit by NUTS, as covariance=True would have made it: the sampler does not know of it."""
    tree = nuts_fit.tree.copy()
    tree["moments"] = xr.DataTree(bc.Moments.from_study(study, cross=True).to_dataset())
    tree.attrs = dict(nuts_fit.tree.attrs) | {"covariance": 0.95}
    return bc.Fit(tree)


def test_figures_are_those_of_the_draws(nuts: bc.Fit, study: bc.Study) -> None:
    # Of 2,000 draws every second one.
    every, found = nuts.draws(2000), nuts.harmonized
    draws = every[::2]
    np.testing.assert_allclose(found["mean"], draws.mean("draw"), rtol=0, atol=1e-10)
    np.testing.assert_allclose(found["sd"], draws.std("draw", ddof=1), rtol=1e-9)
    np.testing.assert_allclose(found["lower"], draws.quantile(0.05, "draw"), rtol=0, atol=1e-10)
    # A draw is the same whichever others are asked for beside it, and so is a row.
    few = nuts.draws(3)
    np.testing.assert_allclose(few, every.sel(draw=few["draw"]), rtol=0, atol=1e-10)
    rows = replace(study, y=study.y[[3, 55]], x=study.x[[3, 55]], codes=study.codes[[3, 55]], obs=study.obs[[3, 55]])
    np.testing.assert_allclose(nuts.harmonize(rows)["sd"], found["sd"][[3, 55]], rtol=1e-9)


def test_covariances_add_to_the_uncertainty(nuts: bc.Fit, nuts_fit: bc.Fit, study: bc.Study) -> None:
    ratio = nuts.harmonized["sd"].values / nuts_fit.harmonized["sd"].values
    by_site = [np.median(ratio[study.codes == code]) for code in range(4)]
    assert min(by_site[:3]) > 1.01 and by_site[3] > 0.95
    # Of a large site both ways go in the same direction; there is little that differs between these sites.
    large = study.codes == 0
    moved = (nuts.harmonized["mean"].values - nuts_fit.harmonized["mean"].values)[large]
    plain, whole = (bc.fit(study, method="eb", covariance=asked).harmonized["mean"].values for asked in (False, True))
    assert np.corrcoef(moved.ravel(), (whole - plain)[large].ravel())[0, 1] > 0.4


def test_scales_are_drawn_from_their_posterior() -> None:
    # Draws alike in all parameters: what differs is the inverse-gamma distribution of every scale.
    study = study_of(simulated()[0])
    p, count = bc.fit(study, method="eb").parameters, 4000
    arrays = {name: np.repeat(p[name].values[None], count, axis=0) for name in ("alpha", "beta", "gamma", "delta")}
    draws = Draws(
        **arrays,
        sigma=np.ones((count, 8)),
        center=study.x.mean(axis=0),
        kept=np.ones(1, dtype=bool),
        standing=np.zeros((count, 8)),
    )
    moments = bc.Moments.from_study(study, cross=True)
    streams = [np.random.default_rng([0, number]) for number in range(count)]
    one = {name: values[:1] for name, values in arrays.items()}
    average = replace(draws, **one, sigma=np.ones((1, 8)), standing=np.zeros((1, 8)))
    found = covariances_of(moments, draws, average, 0.95, streams=streams)
    # Components are drawn around those of the scans, and are orthonormal.
    fit, overlap = bc.fit(study, method="eb"), found.axes.vectors[0].T @ found.axes.vectors
    np.testing.assert_allclose(
        found.axes.vectors.swapaxes(1, 2) @ found.axes.vectors, np.eye(overlap.shape[1])[None] + 0 * overlap, atol=1e-12
    )
    assert np.median(np.abs(overlap[:, 0, 0])) > 0.8 and np.abs(overlap[1:, 0, 0]).max() < 1
    residual = fit.harmonized["mean"].values - fitted_part(fit, study)
    scores = residual / found.unit @ found.axes.vectors
    squares = np.stack([(scores[:, study.codes == i] ** 2).sum(axis=1) for i in range(4)], axis=1)
    pooled, n = squares.sum(axis=1, keepdims=True) / len(residual), np.array(SCANS)[:, None]
    ratio = squares / pooled
    mean, variance = (ratio / n).mean(axis=2, keepdims=True), (ratio / n).var(axis=2, ddof=1, keepdims=True)
    shape = 2 + mean**2 / variance
    expected = (mean * (shape - 1) + ratio / 2) / (shape + n / 2 - 1)
    drawn = found.scale**2 / pooled / expected
    np.testing.assert_allclose(drawn.mean(axis=0), 1, rtol=0.05)
    spread = np.sqrt((1 / (shape + n / 2 - 2)).mean(axis=0)) + 0 * drawn[0]
    np.testing.assert_allclose(drawn.std(axis=0), spread, rtol=0.15)
    np.testing.assert_allclose(found.pooled_scale**2, (n * found.scale**2).sum(axis=1) / n.sum())


@pytest.mark.slow
def test_small_sites_gain_where_the_published_way_loses() -> None:
    # Root mean square errors and coverage of sites of 3 to 10 scans, over three studies.
    scans, errors, covered = (80, 40, 40, 20, 10, 5, 3), {"eb": [], "nuts": [], "plain": []}, {"nuts": [], "plain": []}
    for seed in range(3):
        table, truth = simulated(scans, seed, spread=0.35)
        study, small = study_of(table), np.repeat(np.arange(7), scans) >= 4
        fit = bc.fit(study, covariance=True, chains=2, tune=500, draws=500, seed=1, progress_bar=False)
        tree = fit.tree.copy()
        tree.attrs = dict(fit.tree.attrs) | {"covariance": 0.0}
        found = {"nuts": fit.harmonized, "plain": bc.Fit(tree).harmonized}
        found["eb"] = bc.fit(study, method="eb", covariance=True).harmonized
        for name, values in found.items():
            errors[name].append((values["mean"].values - truth)[small])
            if name in covered:
                inside = (values["lower"].values <= truth) & (truth <= values["upper"].values)
                covered[name].append(inside[small])
    rmse = {name: np.sqrt(np.mean(np.concatenate(parts) ** 2)) for name, parts in errors.items()}
    assert rmse["nuts"] < rmse["plain"] and rmse["nuts"] < rmse["eb"]
    share = {name: np.mean(np.concatenate(parts)) for name, parts in covered.items()}
    assert share["nuts"] > share["plain"]
