"""Pictures show the numbers that fits, evaluations and simulations hold, and leave everything as it was."""

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from scipy import stats

import bayescombat as bc
from bayescombat.adoption import Population, from_prior
from bayescombat.plots.canvas import new_picture, ratios
from bayescombat.vocabulary import POPULATION
from tests.studies import small_study, without_cells
from tests.test_structure import PACKAGE, imports


@pytest.fixture(scope="module")
def sure_fit(study: bc.Study) -> bc.Fit:
    """By empirical Bayes, with intervals."""
    return bc.fit(study, method="eb", uncertainty=True, seed=1)


@pytest.fixture(scope="module")
def judged(study: bc.Study, eb_fit: bc.Fit) -> bc.Evaluation:
    return bc.evaluate(study, eb_fit, folds=2, permutations=20, seed=1, progress_bar=False)


@pytest.fixture(scope="module")
def ranks() -> xr.Dataset:
    uniform = np.random.default_rng(2).random((60, 3, 2))
    # Some lie on points that curves are drawn at.
    biased = np.ceil(60 * uniform[:, 0, 0] ** 3) / 60
    return xr.Dataset({"gamma": (("simulation", "batch", "feature"), uniform), "tau": ("simulation", biased)})


@pytest.fixture(scope="module")
def distribution(nuts_fit: bc.Fit) -> list[Axes]:
    return bc.plots.site_distribution(nuts_fit).axes


SHARES = pd.DataFrame({"EB": [0.7, 0.8], "NUTS": [0.9, np.nan]}, index=pd.Index([1, 20], name="scans"))


def points(axes: Axes) -> list[np.ndarray]:
    """Positions of what was scattered, (point, 2), NaN where there is no number; an array for each call."""
    dots = [part.get_offsets() for part in axes.collections if isinstance(part, PathCollection)]
    return [np.ma.filled(np.ma.asarray(part, dtype=float), np.nan) for part in dots]


def segments(axes: Axes) -> list[np.ndarray]:
    """Ends of lines, (line, end, 2), an array for each call."""
    lines = [part for part in axes.collections if isinstance(part, LineCollection)]
    return [np.array([path.vertices for path in part.get_paths()]) for part in lines]


def labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def without(fit: bc.Fit, group: str) -> bc.Fit:
    """The fit as it is read from a file that was saved without a part of it."""
    tree = fit.tree.copy()
    del tree[group]
    return bc.Fit(tree)


def legend(picture: Figure) -> list[str]:
    return [text.get_text() for text in picture.legends[0].get_texts()]


# What all pictures have in common

DRAWN: dict[str, Callable[..., Figure]] = {
    "sites": lambda nuts, eb, judged, ranks: bc.plots.sites(nuts),
    "harmonized": lambda nuts, eb, judged, ranks: bc.plots.harmonized(nuts),
    "effects": lambda nuts, eb, judged, ranks: bc.plots.effects({"EB": eb, "NUTS": nuts}),
    "shrinkage": lambda nuts, eb, judged, ranks: bc.plots.shrinkage({"EB": eb, "NUTS": nuts}),
    "site_distribution": lambda nuts, eb, judged, ranks: bc.plots.site_distribution(nuts),
    "evaluation": lambda nuts, eb, judged, ranks: bc.plots.evaluation(judged),
    "calibration": lambda nuts, eb, judged, ranks: bc.plots.calibration(ranks),
    "coverage": lambda nuts, eb, judged, ranks: bc.plots.coverage(SHARES, 50),
}


def test_every_picture_is_looked_at() -> None:
    assert set(DRAWN) == set(bc.plots.__all__)


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_whole_and_leaves_all_as_it_was(
    name: str, nuts_fit: bc.Fit, eb_fit: bc.Fit, judged: bc.Evaluation, ranks: xr.Dataset
) -> None:
    trees = [fit.tree.copy(deep=True) for fit in (nuts_fit, eb_fit)]
    copies = judged.dataset.copy(deep=True), ranks.copy(deep=True), SHARES.copy()
    settings = dict(plt.rcParams)
    picture = DRAWN[name](nuts_fit, eb_fit, judged, ranks)
    assert isinstance(picture, Figure)
    assert picture.description.endswith(".")
    picture.savefig(BytesIO(), dpi=50)
    # Nothing is cut off.
    box = picture.get_tightbbox()
    width, height = picture.get_size_inches()
    assert min(box.x0, box.y0) > -0.02 and box.x1 < width + 0.02 and box.y1 < height + 0.02
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == settings
    assert all(fit.tree.identical(tree) for fit, tree in zip((nuts_fit, eb_fit), trees, strict=True))
    assert judged.dataset.identical(copies[0]) and ranks.identical(copies[1]) and SHARES.equals(copies[2])


def test_notebooks_show_a_picture_with_its_words_whether_pyplot_is_imported_or_not(eb_fit: bc.Fit) -> None:
    picture = bc.plots.effects(eb_fit)
    for formats in ((), ("png",)):
        shell = InteractiveShell()
        select_figure_formats(shell, formats)
        shown, told = shell.display_formatter.format(picture)
        assert len(shown["image/png"]) > 1000
        assert told["image/png"]["alt"] == picture.description


def test_no_picture_knows_of_pyplot() -> None:
    used = {name for path in (PACKAGE / "plots").glob("*.py") for name in imports(path)}
    assert {name for name in used if "pyplot" in name} == set()


def test_without_matplotlib_the_error_names_the_extra(eb_fit: bc.Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'pymc-combat\[plot\]'"):
        bc.plots.effects(eb_fit)


@pytest.mark.parametrize("draw", [bc.plots.sites, bc.plots.effects, bc.plots.shrinkage, bc.plots.site_distribution])
def test_what_is_no_fit_is_refused(draw: Callable[..., Figure], study: bc.Study) -> None:
    with pytest.raises(bc.DataError, match=r"Expected a Fit, found Study"):
        draw(study)


@pytest.mark.parametrize("draw", [bc.plots.sites, bc.plots.harmonized])
def test_a_feature_that_was_not_modelled_is_refused(draw: Callable[..., Figure], study: bc.Study) -> None:
    still = replace(study, y=np.where(np.arange(8) == 2, 1.5, study.y))
    with pytest.warns(bc.FeatureWarning):
        fit = bc.fit(still, method="eb")
    with pytest.raises(bc.DataError, match=r"were modelled, found 'feature_2'"):
        draw(fit, "feature_2")
    with pytest.raises(bc.DataError, match=r"Did you mean 'feature_3'"):
        draw(fit, "faeture_3")


# Sites


@pytest.mark.parametrize("draw", [bc.plots.sites, bc.plots.harmonized])
def test_one_feature_is_drawn_at_a_time(draw: Callable[..., Figure], eb_fit: bc.Fit) -> None:
    with pytest.raises(bc.DataError, match="Expected the name of one feature"):
        draw(eb_fit, ["feature_0", "feature_1"])


@pytest.mark.parametrize("draw", [bc.plots.sites, bc.plots.harmonized])
def test_rows_that_lack_the_feature_are_refused(draw: Callable[..., Figure], eb_fit: bc.Fit, study: bc.Study) -> None:
    y = study.y.copy()
    y[:, 0] = np.nan
    with pytest.raises(bc.DataError, match="found it missing in all 63 rows"):
        draw(eb_fit, "feature_0", data=replace(study, y=y))


def row_of(picture: Figure, batch: str) -> int:
    return next(row for row, label in enumerate(labels(picture.axes[0])) if label.startswith(f"{batch} "))


def test_sites_shows_every_scan_at_the_average_covariates(nuts_fit: bc.Fit, study: bc.Study) -> None:
    picture = bc.plots.sites(nuts_fit, "feature_3")
    beta = nuts_fit.parameters["beta"].mean(("chain", "draw")).sel(feature="feature_3").values
    effect = (study.x - study.x.mean(axis=0)) @ beta
    harmonized = nuts_fit.harmonized.sel(feature="feature_3")
    for code, batch in enumerate(study.batches):
        row, own = row_of(picture, batch), study.codes == code
        before, after = (points(panel)[row] for panel in picture.axes)
        np.testing.assert_allclose(before[:, 0], np.sort((study.y[:, 3] - effect)[own]), rtol=1e-12)
        order = np.argsort((harmonized["mean"].values - effect)[own])
        np.testing.assert_allclose(after[:, 0], (harmonized["mean"].values - effect)[own][order], rtol=1e-12)
        assert (abs(after[:, 1] - row) < 0.5).all()
        # Of every batch there are intervals, and then the bar of its mean.
        intervals, bar = segments(picture.axes[1])[2 * row : 2 * row + 2]
        for end, bound in enumerate(("lower", "upper")):
            ends = (harmonized[bound].values - effect)[own][order]
            np.testing.assert_allclose(intervals[:, end, 0], ends, rtol=1e-12)
        np.testing.assert_allclose(bar[0, :, 0], after[:, 0].mean(), rtol=1e-12)


def test_sites_shows_values_as_they_are_if_asked(nuts_fit: bc.Fit, study: bc.Study) -> None:
    picture = bc.plots.sites(nuts_fit, "feature_3", at_average=False)
    for panel, values in zip(picture.axes, (study.y, nuts_fit.harmonized["mean"].values), strict=True):
        np.testing.assert_array_equal(np.sort(np.concatenate(points(panel))[:, 0]), np.sort(values[:, 3]))


def test_sites_stand_in_the_order_of_their_raw_means(nuts_fit: bc.Fit, study: bc.Study) -> None:
    picture = bc.plots.sites(nuts_fit, "feature_3", at_average=False)
    means = [study.y[study.codes == code, 3].mean() for code in range(4)]
    counts = np.bincount(study.codes)
    assert labels(picture.axes[0]) == [f"{study.batches[code]} ({counts[code]})" for code in np.argsort(means)[::-1]]


def test_sites_says_how_wide_the_median_interval_is(nuts_fit: bc.Fit, study: bc.Study) -> None:
    picture = bc.plots.sites(nuts_fit, "feature_3")
    harmonized = nuts_fit.harmonized.sel(feature="feature_3")
    half = ((harmonized["upper"] - harmonized["lower"]) / 2).values
    for code, batch in enumerate(study.batches):
        text = picture.axes[1].texts[row_of(picture, batch)].get_text()
        assert float(text.removeprefix("± ")) == pytest.approx(np.median(half[study.codes == code]), abs=5e-3)


def test_estimates_without_uncertainty_have_no_interval(eb_fit: bc.Fit) -> None:
    for panel in bc.plots.sites(eb_fit).axes:
        assert [part.shape for part in segments(panel)] == 4 * [(1, 2, 2)]
        assert list(panel.texts) == []
    assert segments(bc.plots.harmonized(eb_fit).axes[0]) == []


def test_the_feature_that_batches_explain_best_is_shown_by_default(study: bc.Study) -> None:
    shifted = study.y + 5 * (study.codes[:, None] == 0) * (np.arange(8) == 6)
    fit = bc.fit(replace(study, y=shifted), method="eb")
    assert bc.plots.sites(fit).get_supxlabel().startswith("feature_6 ")


def test_logarithms_are_moved_by_factors(study: bc.Study) -> None:
    logs = bc.Study.from_arrays(
        study.y, batch=np.array(study.batches)[study.codes], covariates=study.x, transform="log"
    )
    fit = bc.fit(logs, method="eb")
    effect = (study.x - study.x.mean(axis=0)) @ fit.parameters["beta"].isel(feature=1).values
    panel = bc.plots.sites(fit, "feature_1").axes[0]
    found = np.sort(np.concatenate(points(panel))[:, 0])
    np.testing.assert_allclose(found, np.sort(study.y[:, 1] * np.exp(-effect)), rtol=1e-12)
    np.testing.assert_allclose(panel.lines[0].get_xdata(), np.exp(fit.parameters["alpha"].isel(feature=1)))


def test_what_is_removed_stands_in_raw_values(study: bc.Study, simulation: bc.datasets.Simulation) -> None:
    removing = bc.Study.from_dataframe(
        simulation.table, batch="site", covariates="age", remove="sex", features=simulation.features
    )
    fit = bc.fit(removing, method="eb")
    away = removing.x[:, 0] - removing.x[:, 0].mean()
    effect = away * fit.parameters["beta"].sel(feature="feature_0", covariate="age").item()
    found = [np.sort(np.concatenate(points(panel))[:, 0]) for panel in bc.plots.sites(fit, "feature_0").axes]
    np.testing.assert_allclose(found[0], np.sort(removing.y[:, 0] - effect), rtol=1e-12)
    np.testing.assert_allclose(found[1], np.sort(fit.harmonized["mean"].values[:, 0] - effect), rtol=1e-12)


def test_missing_cells_are_left_out(study: bc.Study) -> None:
    holed = without_cells(study)
    with pytest.warns(bc.FeatureWarning):
        fit = bc.fit(holed, method="eb", uncertainty=True, seed=1)
    picture = bc.plots.sites(fit, "feature_2")
    seen = ~np.isnan(holed.y[:, 2])
    counts = np.bincount(holed.codes[seen], minlength=4)
    assert sorted(labels(picture.axes[0])) == [
        f"{name} ({count})" for name, count in zip(holed.batches, counts, strict=True)
    ]
    # A batch in which the feature was never observed comes last and is empty.
    assert labels(picture.axes[0])[-1] == f"{holed.batches[1]} (0)"
    assert [len(part) for part in map(np.concatenate, map(points, picture.axes))] == [seen.sum(), seen.sum()]
    assert len(picture.axes[1].texts) == 3
    # With missing cells every feature has average covariates of its own.
    center = holed.x[seen].mean(axis=0)
    effect = (holed.x[seen] - center) @ fit.parameters["beta"].sel(feature="feature_2").values
    found = np.sort(np.concatenate(points(picture.axes[0]))[:, 0])
    np.testing.assert_allclose(found, np.sort(holed.y[seen, 2] - effect), rtol=1e-12)


def test_other_rows_can_be_shown(eb_fit: bc.Fit, simulation: bc.datasets.Simulation, study: bc.Study) -> None:
    fit = without(eb_fit, "observed_data")
    with pytest.raises(bc.DataError, match="Give them: data=table"):
        bc.plots.sites(fit, "feature_0")
    some = simulation.table.iloc[[0, 1, 40]]
    for data in (some, bc.Study.from_design(some, study.spec)):
        picture = bc.plots.harmonized(fit, "feature_0", data=data)
        found = np.concatenate(points(picture.axes[0]))
        np.testing.assert_allclose(found[:, 0], some["feature_0"], rtol=1e-12)
        np.testing.assert_allclose(found[:, 1], fit.harmonize(some)["mean"].sel(feature="feature_0"), rtol=1e-12)


# Harmonized against raw values


def test_harmonized_shows_values_with_intervals_against_raw_ones(sure_fit: bc.Fit, study: bc.Study) -> None:
    picture = bc.plots.harmonized(sure_fit, "feature_5")
    found = sure_fit.harmonized.sel(feature="feature_5")
    for code, (dots, lines) in enumerate(zip(points(picture.axes[0]), segments(picture.axes[0]), strict=True)):
        own = study.codes == code
        np.testing.assert_array_equal(dots, np.column_stack([study.y[own, 5], found["mean"].values[own]]))
        np.testing.assert_array_equal(lines[:, 0, 1], found["lower"].values[own])
        np.testing.assert_array_equal(lines[:, 1, 1], found["upper"].values[own])
    assert legend(picture) == [f"{name} ({count})" for name, count in zip(study.batches, (30, 20, 10, 3), strict=True)]


def test_of_many_batches_those_that_moved_most_have_colours() -> None:
    fit = bc.fit(small_study((6, 6, 6, 6, 6, 6, 6, 6, 6)), method="eb")
    study = fit.study
    moved = fit.harmonized["mean"].values[:, 0] - study.y[:, 0]
    by_batch = pd.Series(moved).groupby(np.array(study.batches)[study.codes]).mean().abs()
    names = sorted(by_batch.nlargest(6).index)
    found = legend(bc.plots.harmonized(fit, "feature_0"))
    assert found == ["3 others (18)", *(f"{name} (6)" for name in names)]


# Effects


def test_effects_are_those_of_the_summary(nuts_fit: bc.Fit, eb_fit: bc.Fit) -> None:
    picture = bc.plots.effects({"EB": eb_fit, "NUTS": nuts_fit}, probability=0.5)
    order = eb_fit.summary().sort_values("shift", ascending=False).index
    assert labels(picture.axes[0]) == [f"{name} ({eb_fit.summary().loc[name, 'scans']})" for name in order]
    for panel, name in zip(picture.axes, ("shift", "shift_rms", "scale"), strict=True):
        eb, nuts = points(panel)
        np.testing.assert_allclose(eb[:, 0], eb_fit.summary().loc[order, name], rtol=1e-12)
        np.testing.assert_allclose(nuts[:, 0], nuts_fit.summary().loc[order, name], rtol=1e-12)
        np.testing.assert_allclose(eb[:, 1] + nuts[:, 1], 2 * np.arange(4))
        assert len(segments(panel)) == 1
    assert legend(picture) == ["EB", "NUTS"]


def test_intervals_of_effects_are_quantiles_of_draws(nuts_fit: bc.Fit) -> None:
    picture = bc.plots.effects(nuts_fit, probability=0.8)
    order = nuts_fit.summary().sort_values("shift", ascending=False).index
    gamma = (nuts_fit.parameters["gamma"] / nuts_fit.parameters["sigma"]).mean("feature").sel(batch=order)
    expected = gamma.quantile([0.1, 0.9], ("chain", "draw")).values.T
    np.testing.assert_allclose(segments(picture.axes[0])[0][..., 0], expected, rtol=1e-12)
    assert picture.legends == []


def test_effects_of_several_batch_variables_are_those_of_their_levels() -> None:
    simulation = bc.datasets.simulate((12, 10, 8), features=3, seed=1)
    table = simulation.table.assign(software=["5", "6"] * 15)
    study = bc.Study.from_dataframe(table, batch=["site", "software"], features=simulation.features)
    fit = bc.fit(study, method="eb")
    found = labels(bc.plots.effects(fit).axes[0])
    assert sorted(found) == [f"{name} ({count})" for name, count in fit.summary()["scans"].items()]
    assert [label.split("=")[0] for label in found] == 3 * ["site"] + 2 * ["software"]
    assert len(labels(bc.plots.sites(fit).axes[0])) == 6
    assert len(labels(bc.plots.shrinkage(fit).axes[0])) == 5


def test_fits_side_by_side_have_to_be_of_the_same_study(eb_fit: bc.Fit) -> None:
    with pytest.raises(bc.DataError, match=r"same feature labels in the same order, found other ones: 'feature_4'"):
        bc.plots.effects({"one": eb_fit, "other": bc.fit(small_study((30, 20, 10, 3)), method="eb")})
    with pytest.raises(bc.DataError, match="at least one fit, found none"):
        bc.plots.effects({})


def test_effects_refuse_what_is_no_probability(eb_fit: bc.Fit) -> None:
    with pytest.raises(bc.BayesCombatError, match="probability between 0 and 1, found 90"):
        bc.plots.effects(eb_fit, probability=90)


# Shrinkage


def test_shrinkage_leads_from_least_squares_to_every_fit(study: bc.Study, nuts_fit: bc.Fit, eb_fit: bc.Fit) -> None:
    picture = bc.plots.shrinkage({"EB": eb_fit, "NUTS": nuts_fit})
    order = eb_fit.summary().sort_values("scans", ascending=False).index
    plain = bc.fit(study, method="eb", shrinkage="none").parameters
    mean = nuts_fit.parameters.mean(("chain", "draw"))
    shifts = [found["gamma"] / plain["sigma"] for found in (plain, eb_fit.parameters, mean)]
    log = np.log(nuts_fit.parameters["delta"]).mean(("chain", "draw"))
    scales = [plain["delta"], eb_fit.parameters["delta"], np.exp(log)]
    assert labels(picture.axes[0]) == [f"{name} ({eb_fit.summary().loc[name, 'scans']})" for name in order]
    for panel, steps in zip(picture.axes, (shifts, scales), strict=True):
        for dots, step in zip(points(panel), steps, strict=True):
            np.testing.assert_allclose(dots[:, 0], step.sel(batch=order).values.ravel(), rtol=1e-10)
        # Lines join them, feature by feature.
        lines = np.concatenate(segments(panel)[:4])[..., 0]
        expected = np.stack([step.sel(batch=order).values.ravel() for step in steps], axis=1)
        np.testing.assert_allclose(lines, expected, rtol=1e-10)
    assert legend(picture) == ["unshrunken", "EB", "NUTS"]


def test_bars_are_the_middles_of_the_priors(eb_fit: bc.Fit) -> None:
    gamma, delta = bc.plots.shrinkage(eb_fit).axes
    order = eb_fit.summary().sort_values("scans", ascending=False).index
    prior = eb_fit.parameters.sel(batch=order)
    np.testing.assert_allclose([bar[0, 0, 0] for bar in segments(gamma)[4:]], prior["gamma_mean"])
    np.testing.assert_allclose([bar[0, 0, 0] for bar in segments(delta)[4:]], np.exp(prior["log_delta_mean"]))
    plain = bc.fit(eb_fit.study, method="eb", shrinkage="nonparametric")
    assert [len(segments(panel)) for panel in bc.plots.shrinkage(plain).axes] == [4, 4]


def test_shifts_of_features_that_share_factors_have_no_middle() -> None:
    simulation = bc.datasets.simulate((30, 20, 10), features=12, factors=1, seed=1)
    study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
    gamma, delta = bc.plots.shrinkage(bc.fit(study, method="eb", shared_factors=1)).axes
    assert [len(segments(panel)) for panel in (gamma, delta)] == [3, 6]


@pytest.mark.parametrize(
    ("low", "high"), [(0.61, 1.35), (0.97, 1.02), (1.1, 1.4), (0.3, 3.0), (0.01, 40.0), (2e6, 2.1e6)]
)
def test_ratios_have_ticks_that_can_be_read(low: float, high: float) -> None:
    axes = new_picture(4, 2).subplots()
    ratios(axes, np.log(low), np.log(high))
    ticks = axes.get_xticks()
    assert 3 <= len(ticks) <= 8 and low <= ticks.min() and ticks.max() <= high
    assert [float(label.get_text()) for label in axes.get_xticklabels()] == pytest.approx(ticks)


def test_one_scan_tells_of_no_scale_before_shrinkage() -> None:
    with pytest.warns(bc.BatchSizeWarning):
        fit = bc.fit(small_study(), method="eb")
    gamma, delta = (points(panel)[0][:, 0].reshape(4, 4) for panel in bc.plots.shrinkage(fit).axes)
    assert np.isfinite(gamma).all()
    assert np.isfinite(delta[:3]).all() and np.isnan(delta[3]).all()


def test_batches_are_chosen_by_size_or_by_name(eb_fit: bc.Fit) -> None:
    many = bc.fit(small_study(tuple(range(4, 24))), method="eb")
    found = [int(label.split("(")[1].strip(")")) for label in labels(bc.plots.shrinkage(many).axes[0])]
    assert found == sorted(found, reverse=True) and len(found) == 12 and {found[0], found[-1]} == {23, 4}
    named = bc.plots.shrinkage(eb_fit, batches=["site_04", "site_02"])
    assert labels(named.axes[0]) == ["site_02 (20)", "site_04 (3)"]
    with pytest.raises(bc.DataError, match=r"found 'site_05'. Did you mean 'site_0\d'"):
        bc.plots.shrinkage(eb_fit, batches=["site_05"])


def test_an_adopted_batch_has_nothing_before_shrinkage() -> None:
    table = bc.datasets.simulate((12, 9, 7, 5), features=4, seed=3).table
    old = table[table["site"] != "site_04"]
    fit = bc.fit(bc.Study.from_dataframe(old, batch="site", features="feature"), method="eb")
    panel = bc.plots.shrinkage(fit.adopt(table[table["site"] == "site_04"])).axes[0]
    before, after = (part[:, 0].reshape(4, 4) for part in points(panel))
    assert np.isnan(before[3]).all() and np.isfinite(before[:3]).all() and np.isfinite(after).all()
    np.testing.assert_allclose(before[:3], points(bc.plots.shrinkage(fit).axes[0])[0][:, 0].reshape(3, 4))


def test_nothing_is_drawn_of_a_reference_batch(study_to_a_reference: bc.Study) -> None:
    picture = bc.plots.shrinkage(bc.fit(study_to_a_reference, method="eb"), batches=["site_02"])
    gamma, delta = ([np.unique(part[:, 0]) for part in points(panel)] for panel in picture.axes)
    np.testing.assert_array_equal(np.concatenate(gamma), 0)
    np.testing.assert_array_equal(np.concatenate(delta), 1)


def test_shrinkage_needs_moments(eb_fit: bc.Fit) -> None:
    with pytest.raises(bc.DataError, match="holds its moments"):
        bc.plots.shrinkage(without(eb_fit, "moments"))


# What batches are drawn from


def test_priors_are_drawn_as_they_are_documented(distribution: list[Axes]) -> None:
    at, height = distribution[1].collections[0].get_paths()[0].vertices[1:200].T
    expected = stats.lognorm.pdf(at, bc.Priors().gamma_sd_log_sd, scale=bc.Priors().gamma_sd_median)
    np.testing.assert_allclose(height[1:-1], expected[1:-1], rtol=1e-10)


def test_densities_are_those_of_the_draws(distribution: list[Axes], nuts_fit: bc.Fit) -> None:
    for panel, name in zip([*distribution[:3], *distribution[4:7]], POPULATION, strict=True):
        drawn = nuts_fit.parameters[name].values.ravel()
        drawn = np.exp(drawn) if "log_typical" in name else drawn
        at, density = panel.lines[0].get_data()
        below = np.cumsum(density) * (at[1] - at[0])
        for share in (0.25, 0.5, 0.75):
            assert np.interp(np.quantile(drawn, share), at, below) == pytest.approx(share, abs=0.04), name


def test_a_new_batch_is_expected_where_the_population_draws_it(distribution: list[Axes], nuts_fit: bc.Fit) -> None:
    scalars = {name: nuts_fit.parameters[name].values.ravel() for name in POPULATION}
    drawn = from_prior(Population(**scalars, batches=4), 8, np.random.default_rng(9)).gamma
    at, density = distribution[3].lines[0].get_data()
    below = np.cumsum(density) * (at[1] - at[0])
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert np.interp(np.quantile(drawn, share), at, below) == pytest.approx(share, abs=0.05)


def test_ticks_are_the_fitted_batches(distribution: list[Axes], nuts_fit: bc.Fit) -> None:
    shift, scale = distribution[3], distribution[7]
    draws = nuts_fit.parameters.isel(batch_variable=0)
    away = (draws["gamma"] - draws["gamma_typical"]) / (draws["sigma"] * draws["delta_typical"])
    log = np.log(draws["delta"] / draws["delta_typical"])
    over = ("chain", "draw", "feature")
    np.testing.assert_allclose(segments(shift)[0][:, 0, 0], away.mean(over))
    np.testing.assert_allclose(segments(scale)[0][:, 0, 0], np.exp(log.mean(over)))


def test_scales_that_are_held_have_no_panels(tiny_study: bc.Study) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        fit = bc.fit(tiny_study, mean_only=True, chains=2, tune=100, draws=100, seed=3, progress_bar=False)
    picture = bc.plots.site_distribution(fit)
    assert [len(picture.axes), picture.axes[0].get_title(loc="left")] == [4, "Shifts"]
    low, high = bc.plots.effects(fit).axes[2].get_xlim()
    assert low <= 0.95 and high >= 1.05


def test_empirical_bayes_knows_no_distribution_of_batches(eb_fit: bc.Fit) -> None:
    with pytest.raises(bc.BayesCombatError, match="by NUTS, found empirical-Bayes"):
        bc.plots.site_distribution(eb_fit)


def test_a_batch_variable_is_one_of_the_fit(nuts_fit: bc.Fit) -> None:
    with pytest.raises(bc.DataError, match="one of 'site', found 'scanner'"):
        bc.plots.site_distribution(nuts_fit, batch_variable="scanner")


# Evaluation


def test_the_table_of_an_evaluation_is_drawn(judged: bc.Evaluation) -> None:
    picture = bc.plots.evaluation(judged)
    for panel, kind in zip(picture.axes, ("removal", "preservation"), strict=True):
        part = judged.dataset.isel(metric=np.flatnonzero(judged.dataset["kind"].values == kind))
        assert labels(panel) == [str(name) for name in part["metric"].values]
        *intervals, expected = segments(panel)
        for k, (dots, lines) in enumerate(zip(points(panel), intervals, strict=True)):
            np.testing.assert_array_equal(dots[:, 0], part["estimate"].isel(table=k))
            np.testing.assert_array_equal(lines[..., 0].T, [part["lower"].isel(table=k), part["upper"].isel(table=k)])
        np.testing.assert_array_equal(expected[:, 0, 0], part["expected"])
    assert legend(picture) == ["raw", "harmonized", "expected"]


def test_what_is_no_evaluation_is_refused(eb_fit: bc.Fit) -> None:
    with pytest.raises(bc.DataError, match="Expected an Evaluation, found Fit"):
        bc.plots.evaluation(eb_fit)


# Calibration


def test_curves_are_differences_of_distribution_functions(ranks: xr.Dataset) -> None:
    gamma, tau = bc.plots.calibration(ranks).axes
    inside, outside = (segments(panel) for panel in (gamma, tau))
    at, height = outside[1][0].T
    values = ranks["tau"].values
    expected = [(values <= point).mean() - point for point in at]
    np.testing.assert_allclose(height, expected, atol=1e-12)
    assert len(inside[0]) + len(inside[1]) == 6
    assert (gamma.texts[0].get_text(), tau.texts[0].get_text()) == (f"{len(inside[1])} of 6 outside", "outside")


def test_bands_hold_uniform_ranks_as_often_as_they_say() -> None:
    uniform = xr.DataArray(np.random.default_rng(4).random((80, 600)), dims=("simulation", "feature"), name="alpha")
    text = bc.plots.calibration(uniform).axes[0].texts[0].get_text()
    # Six standard errors of a share of 5 % among 600 are 5.3 %.
    assert 0 < int(text.split()[0]) < 62


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.full(50, 7.0), "between 0 and 1, found others in 'rank'"),
        (np.full(50, np.nan), "found missing ones in 'rank'"),
        (np.full(4, 0.5), "ten or more simulations"),
    ],
)
def test_what_are_no_ranks_is_refused(bad: np.ndarray, said: str) -> None:
    with pytest.raises(bc.DataError, match=said):
        bc.plots.calibration(xr.DataArray(bad, dims="simulation"))


def test_coverage_is_drawn_with_jeffreys_intervals() -> None:
    picture = bc.plots.coverage(SHARES, pd.Series([50, 80], index=[1, 20]), probability=0.8)
    panel = picture.axes[0]
    eb, nuts = points(panel)
    np.testing.assert_allclose(eb[:, 1], [70, 80])
    np.testing.assert_allclose(nuts[:, 1], [90, np.nan])
    lines = segments(panel)[0]
    np.testing.assert_allclose(lines[0, :, 1], 100 * stats.beta.ppf([0.025, 0.975], 35.5, 15.5))
    np.testing.assert_allclose(lines[1, :, 1], 100 * stats.beta.ppf([0.025, 0.975], 64.5, 16.5))
    assert panel.lines[0].get_ydata()[0] == pytest.approx(80)
    assert [label.get_text() for label in panel.get_xticklabels()] == ["1", "20"]


def test_shares_and_trials_are_checked() -> None:
    with pytest.raises(bc.DataError, match="Divide percentages by 100"):
        bc.plots.coverage(100 * SHARES, 50)
    with pytest.raises(bc.DataError, match="positive number of trials"):
        bc.plots.coverage(SHARES, pd.Series([50, 80], index=[1, 30]))


# Traces and ranks of draws are left to ArviZ


@pytest.mark.parametrize("draw", [az.plot_trace, az.plot_rank])
def test_arviz_draws_the_tree_of_a_fit(draw: Callable[..., object], nuts_fit: bc.Fit) -> None:
    collection = draw(nuts_fit.tree, var_names=["gamma_mean"], backend="none")
    assert collection.viz["plot"]["gamma_mean"].sizes == {"batch": 4}
