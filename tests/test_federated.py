"""Sites that keep their scans: the how-to runs as it stands, and gives what the pooled table gives."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayescombat as bc
from bayescombat.moments.sums import ARRAYS

HOW_TO = Path(__file__).parents[1] / "docs" / "federated.md"


@pytest.fixture(scope="module")
def simulation() -> bc.datasets.Simulation:
    return bc.datasets.simulate((30, 20, 12, 8), features=5, seed=6)


@pytest.fixture(scope="module")
def pooled(simulation: bc.datasets.Simulation) -> bc.Study:
    """The pooled table with a tenth of the cells missing, and a spline of age."""
    table, names = simulation.table.copy(), list(simulation.features)
    table[names] = table[names].mask(np.random.default_rng(0).random((len(table), len(names))) < 0.1)
    return bc.Study.from_dataframe(table, batch="site", covariates="bs(age, df=4) + sex", features=names)


def sites_of(study: bc.Study, table: pd.DataFrame) -> list[bc.Moments]:
    """Return the moments of every site's own table, the last site first."""
    table = table.assign(**pd.DataFrame(study.y, table.index, list(study.features)))
    parts = [rows for _, rows in table.groupby("site")]
    return [bc.Moments.from_study(bc.Study.from_design(rows, study.spec)) for rows in reversed(parts)]


def test_the_how_to_gives_the_pooled_fit(
    simulation: bc.datasets.Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {
        "features": list(simulation.features),
        "tables": {site: rows for site, rows in simulation.table.groupby("site")},
    }
    for block in re.findall(r"^```python\n(.*?)^```", HOW_TO.read_text(), re.S | re.M):
        exec(compile(block, str(HOW_TO), "exec"), names)
    whole = bc.Study.from_design(simulation.table, names["design"])
    expected = bc.fit(whole, method="eb").harmonized["mean"].to_pandas()
    for site, rows in names["tables"].items():
        np.testing.assert_allclose(names["harmonized"][site], expected.loc[rows.index], rtol=0, atol=1e-10)


def test_merged_moments_are_the_pooled_ones_to_the_last_bit(
    pooled: bc.Study, simulation: bc.datasets.Simulation
) -> None:
    merged, expected = bc.merge(sites_of(pooled, simulation.table)), bc.Moments.from_study(pooled)
    assert merged.batches == expected.batches
    for name in ("scans", *ARRAYS):
        np.testing.assert_array_equal(getattr(merged, name), getattr(expected, name), err_msg=name)


def test_nuts_of_merged_moments_gives_the_same_draws(
    tiny_study: bc.Study, tiny_fit: bc.Fit, tiny_simulation: bc.datasets.Simulation, fit_tiny: object
) -> None:
    found = fit_tiny(bc.merge(sites_of(tiny_study, tiny_simulation.table))).parameters
    for name in ("alpha", "beta", "gamma", "delta", "sigma"):
        np.testing.assert_allclose(found[name], tiny_fit.parameters[name], rtol=0, atol=1e-6, err_msg=name)


def test_few_scans_do_not_leave_the_site(simulation: bc.datasets.Simulation, tmp_path: Path) -> None:
    rows = simulation.table.groupby("site").head(4)
    moments = bc.Moments.from_study(bc.Study.from_dataframe(rows, batch="site", features=simulation.features))
    with pytest.raises(bc.DataError, match="at least 5 observed scans .* fewer in 'site_01'.*min_scans=4"):
        moments.save(tmp_path / "moments.nc")
    assert not list(tmp_path.iterdir())
    moments.save(tmp_path / "moments.nc", min_scans=4)


def test_a_feature_of_few_scans_does_not_leave_the_site(simulation: bc.datasets.Simulation, tmp_path: Path) -> None:
    table = simulation.table.copy()
    table.loc[table.index[table["site"] == "site_02"][2:], "feature_1"] = np.nan
    moments = bc.Moments.from_study(bc.Study.from_dataframe(table, batch="site", features=simulation.features))
    with pytest.raises(bc.DataError, match="fewer in 'site_02'.*min_scans=2"):
        moments.save(tmp_path / "moments.nc")


def test_levels_and_knots_come_from_the_design(pooled: bc.Study, simulation: bc.datasets.Simulation) -> None:
    rows = simulation.table[(simulation.table["sex"] == "F") & (simulation.table["age"] > 40)]
    site = bc.Study.from_design(rows, pooled.spec)
    np.testing.assert_array_equal(site.x, pooled.x[simulation.table.index.get_indexer(rows.index)])


def test_a_fit_without_data_and_moments_harmonizes_the_same(
    pooled: bc.Study, simulation: bc.datasets.Simulation, tmp_path: Path
) -> None:
    fit = bc.fit(pooled, method="eb")
    fit.save(tmp_path / "fit.nc", data=False, moments=False)
    loaded = bc.load(tmp_path / "fit.nc")
    assert set(loaded.tree.children) == {"empirical_bayes", "layout"}
    assert loaded.harmonize(simulation.table).identical(fit.harmonize(simulation.table))
    with pytest.raises(bc.DataError, match="holds its moments"):
        loaded.update(simulation.table)
