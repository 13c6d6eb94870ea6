"""Sites that keep their scans: the how-to runs as it stands, gives what the pooled table gives, and is frank."""

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayescombat as bc
from bayescombat.errors import DataError
from bayescombat.moments.sums import ARRAYS

HOW_TO = Path(__file__).parents[1] / "docs" / "federated.md"
NEW_SITE = "site_05"
SPLINE = "bs(age, knots=[40, 60]) + sex"


@pytest.fixture(scope="module")
def simulation() -> bc.datasets.Simulation:
    return bc.datasets.simulate((30, 20, 12, 8, 10), features=5, seed=6)


@pytest.fixture(scope="module")
def features(simulation: bc.datasets.Simulation) -> list[str]:
    return list(simulation.features)


@pytest.fixture(scope="module")
def holed(simulation: bc.datasets.Simulation, features: list[str]) -> pd.DataFrame:
    """A table that lacks a tenth of its cells; the second site lacks none."""
    table = simulation.table.copy()
    holes = np.random.default_rng(0).random((len(table), len(features))) < 0.1
    holes[table["site"] == "site_02"] = False
    table[features] = table[features].mask(holes)
    return table


@pytest.fixture(scope="module")
def design(features: list[str]) -> bc.DesignSpec:
    """The design of a coordinator without scans."""
    made_up = pd.DataFrame({"age": [5, 95], "sex": ["F", "M"]})
    return bc.DesignSpec.learn(made_up, batch="site", formula=SPLINE, features=features)


def moments_of(table: pd.DataFrame, design: bc.DesignSpec) -> bc.Moments:
    return bc.Moments.from_study(bc.Study.from_design(table, design))


def moments_of_sites(table: pd.DataFrame, design: bc.DesignSpec) -> list[bc.Moments]:
    return [moments_of(rows, design) for _, rows in table.groupby("site")]


def plain(features: list[str], formula: str = "age + sex") -> bc.DesignSpec:
    made_up = pd.DataFrame({"age": [5, 95], "sex": ["F", "M"]})
    return bc.DesignSpec.learn(made_up, batch="site", formula=formula, features=features)


# ---------------------------------------------------------------- the how-to


@pytest.fixture(scope="module")
def how_to(simulation: bc.datasets.Simulation, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the blocks of the how-to leave behind, run in order in a folder of their own."""
    sites = {str(site): rows for site, rows in simulation.table.groupby("site")}
    names: dict[str, Any] = {"features": list(simulation.features), "new_table": sites.pop(NEW_SITE), "tables": sites}
    blocks = re.findall(r"^```python\n(.*?)^```", HOW_TO.read_text(), re.S | re.M)
    assert len(blocks) >= 5
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("how_to"))
        for block in blocks:
            exec(compile(block, str(HOW_TO), "exec"), names)
        names["sent"] = bc.load("fit.nc")
    return names


def pooled_fit(how_to: dict[str, Any], table: pd.DataFrame) -> bc.Fit:
    return bc.fit(bc.Study.from_design(table, how_to["design"]), method="eb")


def test_the_how_to_gives_the_pooled_fit(how_to: dict[str, Any]) -> None:
    table = pd.concat(how_to["tables"].values())
    expected = pooled_fit(how_to, table).harmonized["mean"].to_pandas()
    for site, rows in how_to["tables"].items():
        np.testing.assert_allclose(how_to["harmonized"][site], expected.loc[rows.index], rtol=0, atol=1e-10)


def test_the_how_to_updates_to_the_pooled_fit_with_the_new_site(
    how_to: dict[str, Any], simulation: bc.datasets.Simulation
) -> None:
    expected = pooled_fit(how_to, simulation.table).harmonized["mean"]
    found = how_to["updated"].harmonize(simulation.table)["mean"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_the_how_to_sends_a_fit_that_knows_the_new_site_and_leaves_the_others(how_to: dict[str, Any]) -> None:
    assert np.isfinite(how_to["sent"].harmonize(how_to["new_table"])["mean"]).all()
    for site, rows in how_to["tables"].items():
        np.testing.assert_array_equal(how_to["sent"].harmonize(rows)["mean"], how_to["harmonized"][site])


# ---------------------------------------------------------------- equal to the pooled table


def test_moments_merged_in_any_order_are_the_pooled_ones_to_the_last_bit(
    holed: pd.DataFrame, design: bc.DesignSpec
) -> None:
    expected, sites = moments_of(holed, design), moments_of_sites(holed, design)
    # A site without a hole has no feature axis, the merged moments have one.
    assert [site.n.shape[1] for site in sites] == [5, 1, 5, 5, 5]
    for order in permutations(sites):
        merged = bc.merge(order)
        assert merged.batches == expected.batches
        for name in ("scans", *ARRAYS):
            np.testing.assert_array_equal(getattr(merged, name), getattr(expected, name), err_msg=name)


def test_nuts_of_merged_moments_gives_the_same_draws(
    tiny_study: bc.Study,
    tiny_fit: bc.Fit,
    tiny_simulation: bc.datasets.Simulation,
    fit_tiny: Callable[[bc.Study | bc.Moments], bc.Fit],
) -> None:
    sites = moments_of_sites(tiny_simulation.table, tiny_study.spec)
    found = fit_tiny(bc.merge(sites[::-1])).parameters
    for name in ("alpha", "beta", "gamma", "delta", "sigma"):
        np.testing.assert_allclose(found[name], tiny_fit.parameters[name], rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("query", ["sex == 'F'", "sex == 'M'", "age > 45 and age < 55"])
def test_levels_and_knots_come_from_the_design(
    simulation: bc.datasets.Simulation, design: bc.DesignSpec, tmp_path: Path, query: str
) -> None:
    design.save(tmp_path / "design.json")
    rows = simulation.table.query(query)
    pooled = bc.Study.from_design(simulation.table, design)
    site = bc.Study.from_design(rows, bc.DesignSpec.load(tmp_path / "design.json"))
    assert 0 < len(rows) < len(simulation.table) and site.covariates == pooled.covariates
    np.testing.assert_array_equal(site.x, pooled.x[simulation.table.index.get_indexer(rows.index)])


def test_a_level_that_the_design_does_not_know_is_refused(
    simulation: bc.datasets.Simulation, design: bc.DesignSpec
) -> None:
    with pytest.raises(bc.UnseenLevelError, match="'X'"):
        bc.Study.from_design(simulation.table.head(3).assign(sex="X"), design)


def test_an_age_outside_the_designs_range_warns(simulation: bc.datasets.Simulation, design: bc.DesignSpec) -> None:
    with pytest.warns(bc.ExtrapolationWarning, match="1 row has 'age' outside the range 5 to 95"):
        bc.Study.from_design(simulation.table.head(2).assign(age=[40.0, 96.0]), design)


# ---------------------------------------------------------------- what leaves the site


def test_few_scans_do_not_leave_the_site(
    simulation: bc.datasets.Simulation, design: bc.DesignSpec, tmp_path: Path
) -> None:
    table = simulation.table.drop(simulation.table.index[simulation.table["site"] == "site_02"][4:])
    with pytest.raises(bc.DataError, match="at least 5 observed scans .* fewer in 'site_02'.*min_scans=4"):
        moments_of(table, design).save(tmp_path / "moments.nc")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("observed", [1, 4])
def test_a_feature_of_few_scans_does_not_leave_the_site(
    simulation: bc.datasets.Simulation, design: bc.DesignSpec, tmp_path: Path, observed: int
) -> None:
    table = simulation.table.copy()
    table.loc[table.index[table["site"] == "site_02"][observed:], "feature_1"] = np.nan
    with pytest.raises(bc.DataError, match=f"fewer in 'site_02'.*min_scans={observed}"):
        moments_of(table, design).save(tmp_path / "moments.nc")


def test_a_feature_that_was_never_observed_may_leave_the_site(
    simulation: bc.datasets.Simulation, design: bc.DesignSpec, tmp_path: Path
) -> None:
    table = simulation.table.copy()
    table.loc[table["site"] == "site_02", "feature_1"] = np.nan
    moments_of(table, design).save(tmp_path / "moments.nc")
    loaded = bc.Moments.load(tmp_path / "moments.nc")
    assert (loaded.n[:, 1] == [30, 0, 12, 8, 10]).all()


def test_combinations_of_levels_count_by_themselves(
    simulation: bc.datasets.Simulation, features: list[str], tmp_path: Path
) -> None:
    table = simulation.table.assign(software="5")
    table.loc[table.index[table["site"] == "site_02"][:3], "software"] = "6"
    table.loc[table["site"] == "site_01", "software"] = "6"
    several = bc.DesignSpec.learn(table, batch=["site", "software"], formula="age", features=features)
    with pytest.raises(bc.DataError, match="fewer in 'site_02 / 6'"):
        moments_of(table, several).save(tmp_path / "moments.nc")


def test_one_scan_may_leave_the_site_if_told_so(
    simulation: bc.datasets.Simulation, design: bc.DesignSpec, tmp_path: Path
) -> None:
    moments_of(simulation.table.head(1), design).save(tmp_path / "moments.nc", min_scans=1)
    assert bc.Moments.load(tmp_path / "moments.nc").scans.tolist() == [1]


@pytest.fixture
def outgoing(holed: pd.DataFrame, design: bc.DesignSpec, tmp_path: Path) -> tuple[bc.Fit, bc.Fit]:
    """A fit, and what comes of it when it was saved without rows and moments."""
    fit = bc.fit(bc.Study.from_design(holed, design), method="eb")
    fit.save(tmp_path / "fit.nc", data=False, moments=False)
    return fit, bc.load(tmp_path / "fit.nc")


def test_a_fit_can_leave_without_rows_and_moments(outgoing: tuple[bc.Fit, bc.Fit]) -> None:
    assert set(outgoing[1].tree.children) == {"empirical_bayes", "layout"}
    with pytest.raises(bc.DataError, match="a fit that holds its rows, found one made of moments or saved without"):
        _ = outgoing[1].study


def test_a_fit_without_rows_and_moments_harmonizes_the_same(
    outgoing: tuple[bc.Fit, bc.Fit], holed: pd.DataFrame
) -> None:
    fit, loaded = outgoing
    assert loaded.harmonize(holed).identical(fit.harmonize(holed))


@pytest.mark.parametrize("action", ["update", "adopt"])
def test_a_fit_without_moments_cannot_learn(outgoing: tuple[bc.Fit, bc.Fit], holed: pd.DataFrame, action: str) -> None:
    new = holed[holed["site"] == NEW_SITE].assign(site="site_06")
    with pytest.raises(bc.DataError, match="holds its moments, found one saved without.*use the file"):
        getattr(outgoing[1], action)(new)


# ---------------------------------------------------------------- what moments reveal, worked out as the how-to says


def test_moments_of_two_scans_are_the_scans(
    simulation: bc.datasets.Simulation, features: list[str], tmp_path: Path
) -> None:
    rows = simulation.table.iloc[[3, 17]].assign(site="site_01", sex=["F", "M"])
    moments_of(rows, plain(features)).save(tmp_path / "moments.nc", min_scans=1)
    known = bc.Moments.load(tmp_path / "moments.nc")
    half = np.concatenate([np.sqrt(np.diag(known.sxx[0, 0]) / 2), np.sqrt(known.syy[0] / 2)])
    # Everything is up or down together with age, the first column.
    sign = np.sign(np.concatenate([known.sxx[0, 0, 0], known.sxy[0, :, 0]]))
    middle = np.concatenate([known.mean_x[0, 0], known.mean_y[0]])
    found = np.array([middle - sign * half, middle + sign * half])
    expected = np.column_stack([rows["age"], rows["sex"] == "M", rows[features]]).astype(float)
    np.testing.assert_allclose(found, expected[np.argsort(expected[:, 0])], rtol=0, atol=1e-9)


def test_moments_of_seven_scans_and_six_design_columns_are_the_values(
    simulation: bc.datasets.Simulation, features: list[str], design: bc.DesignSpec, tmp_path: Path
) -> None:
    rows = simulation.table.head(7).assign(age=[8.0, 22, 35, 48, 61, 74, 90], sex=list("FMMFFMF"))
    moments_of(rows, design).save(tmp_path / "moments.nc")
    known = bc.Moments.load(tmp_path / "moments.nc")
    x = design.matrix(rows)
    equations = np.vstack([np.full(7, 1 / 7), (x - x.mean(axis=0)).T])
    found = np.linalg.solve(equations, np.vstack([known.mean_y[0], known.sxy[0].T]))
    np.testing.assert_allclose(found, rows[features], rtol=0, atol=1e-8)


def test_moments_give_the_only_man_away(
    simulation: bc.datasets.Simulation, features: list[str], tmp_path: Path
) -> None:
    rows = simulation.table.head(30).assign(sex="F")
    rows.loc[11, "sex"] = "M"
    moments_of(rows, plain(features)).save(tmp_path / "moments.nc")
    known = bc.Moments.load(tmp_path / "moments.nc")
    women = 1 - known.mean_x[0, 0, 1]
    values = known.mean_y[0] + women * known.sxy[0, :, 1] / known.sxx[0, 0, 1, 1]
    age = known.mean_x[0, 0, 0] + women * known.sxx[0, 0, 0, 1] / known.sxx[0, 0, 1, 1]
    np.testing.assert_allclose([*values, age], rows.loc[11, [*features, "age"]].astype(float), rtol=1e-9)


def test_moments_give_the_covariates_of_a_missing_cell_away(
    simulation: bc.datasets.Simulation, features: list[str], tmp_path: Path
) -> None:
    rows = simulation.table.head(30).copy()
    rows.loc[11, "feature_2"] = np.nan
    moments_of(rows, plain(features)).save(tmp_path / "moments.nc")
    known = bc.Moments.load(tmp_path / "moments.nc")
    totals = known.n[0, :, None] * known.mean_x[0]
    found = totals[0] - totals[2]
    np.testing.assert_allclose(found, [rows.loc[11, "age"], rows.loc[11, "sex"] == "M"], rtol=0, atol=1e-9)


def test_two_files_give_the_added_scan_away(
    simulation: bc.datasets.Simulation, features: list[str], tmp_path: Path
) -> None:
    known = []
    for count in (29, 30):
        moments_of(simulation.table.head(count), plain(features)).save(tmp_path / f"{count}.nc")
        known.append(bc.Moments.load(tmp_path / f"{count}.nc"))
    found = known[1].n[0] * known[1].mean_y[0] - known[0].n[0] * known[0].mean_y[0]
    np.testing.assert_allclose(found, simulation.table.loc[29, features].astype(float), rtol=1e-9)


def test_estimates_without_moments_give_the_means_of_batches_away(
    simulation: bc.datasets.Simulation, features: list[str], tmp_path: Path
) -> None:
    # The last site keeps one scan.
    table = simulation.table.drop(simulation.table.index[simulation.table["site"] == NEW_SITE][1:])
    study = bc.Study.from_design(table, plain(features))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BatchSizeWarning)
        bc.fit(study, method="eb").save(tmp_path / "fit.nc", data=False, moments=False)
    fit = bc.load(tmp_path / "fit.nc")
    p, n = fit.parameters, fit.layout.scans[:, None]
    prior, variance = p["gamma_mean"].values[:, None], p["gamma_sd"].values[:, None] ** 2
    gamma, delta2 = (p["gamma"] / p["sigma"]).values, p["delta"].values ** 2
    unshrunken = ((variance * n + delta2) * gamma - delta2 * prior) / (variance * n)
    found = p["alpha"].values + p["sigma"].values * unshrunken
    indicators = pd.get_dummies(table["site"], dtype=float).to_numpy()
    columns = np.column_stack([indicators, study.x - study.x.mean(axis=0)])
    slopes = np.linalg.lstsq(columns, study.y, rcond=None)[0]
    np.testing.assert_allclose(found, slopes[:5], rtol=0, atol=1e-9)
    scan = found[4] + p["beta"].values @ (study.x[-1] - fit.layout.center[0])
    np.testing.assert_allclose(scan, study.y[-1], rtol=0, atol=1e-9)


# ---------------------------------------------------------------- slips


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda moments: moments, "Expected a list of Moments to merge, found Moments"),
        (lambda moments: "site_01.nc", "Expected a list of Moments to merge, found str"),
        (lambda moments: [moments, "site_01.nc"], "found str. .* read by bayescombat.Moments.load"),
    ],
)
def test_merge_says_what_it_takes(
    simulation: bc.datasets.Simulation, design: bc.DesignSpec, given: Callable[[bc.Moments], object], message: str
) -> None:
    moments = bc.Moments.from_study(bc.Study.from_design(simulation.table, design))
    with pytest.raises(DataError, match=message):
        bc.merge(given(moments))


def test_a_path_is_no_design(simulation: bc.datasets.Simulation) -> None:
    with pytest.raises(DataError, match="Expected a DesignSpec, found str. .*DesignSpec.load"):
        bc.Study.from_design(simulation.table, "design.json")


@pytest.mark.parametrize(
    "change",
    [
        {"state": "x"},
        {"state": {}},
        {"columns": []},
        {"formula": 3},
        {"features": ["feature_0", "feature_0"]},
        {"features": []},
        {"batch": []},
    ],
    ids=str,
)
def test_a_broken_design_file_is_refused_where_it_is_read(
    design: bc.DesignSpec, tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "design.json"
    path.write_text(json.dumps(json.loads(design.to_json()) | change))
    with pytest.raises(bc.FileFormatError, match="cannot be read as one"):
        bc.DesignSpec.load(path)


def test_files_of_the_other_kind_say_how_they_are_read(
    simulation: bc.datasets.Simulation, design: bc.DesignSpec, tmp_path: Path
) -> None:
    moments = bc.Moments.from_study(bc.Study.from_design(simulation.table, design))
    moments.save(tmp_path / "moments.nc")
    bc.fit(moments, method="eb").save(tmp_path / "fit.nc")
    with pytest.raises(
        bc.FileFormatError, match="hold a fit of bayescombat, found moments. Read it with .*Moments.load"
    ):
        bc.load(tmp_path / "moments.nc")
    with pytest.raises(
        bc.FileFormatError, match="hold moments of bayescombat, found a fit. Read it with .*combat.load"
    ):
        bc.Moments.load(tmp_path / "fit.nc")


@pytest.mark.parametrize(("name", "value"), [("mean_y", np.nan), ("syy", -1.0), ("n", -1.0)])
def test_moments_that_cannot_be_are_refused(
    simulation: bc.datasets.Simulation, design: bc.DesignSpec, tmp_path: Path, name: str, value: float
) -> None:
    moments = bc.Moments.from_study(bc.Study.from_design(simulation.table, design))
    broken = getattr(moments, name).copy()
    broken.flat[0] = value
    replace(moments, **{name: broken}).save(tmp_path / "moments.nc", min_scans=-1)
    with pytest.raises(bc.FileFormatError, match=f"found others in '{name}"):
        bc.Moments.load(tmp_path / "moments.nc")
