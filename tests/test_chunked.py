"""A study in chunks gives what the same study gives in memory, and its files are whole or not there."""

import sys
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayescombat as bc
from bayescombat.errors import BayesCombatError, DataError, FeatureWarning

FEATURES = 300
WIDTH = 70  # chunks of 70, and one of 20


def scans(seed: int = 0, holes: float = 0.0) -> xr.DataArray:
    """Values of 40 scans at three sites and two softwares; with age, sex and motion."""
    rng = np.random.default_rng(seed)
    site = np.repeat(["a", "b", "c"], [18, 12, 10])
    age = rng.normal(50, 10, 40)
    y = rng.normal(5, 1, (40, FEATURES)) + 0.02 * age[:, None]
    y += rng.normal(0, 0.5, (3, FEATURES))[np.unique(site, return_inverse=True)[1]]
    y[rng.random(y.shape) < holes] = np.nan
    coords = {
        "obs": [f"scan-{i}" for i in range(40)],
        "feature": [f"voxel-{v}" for v in range(FEATURES)],
        "site": ("obs", site),
        "software": ("obs", np.where(rng.random(40) < 0.5, "5", "6")),
        "age": ("obs", age),
        "sex": ("obs", np.where(rng.random(40) < 0.5, "F", "M")),
        "motion": ("obs", rng.random(40)),
    }
    return xr.DataArray(y, coords, ("obs", "feature"))


def chunked(values: xr.DataArray, width: int = WIDTH, **roles: Any) -> bc.ChunkedStudy:
    roles = {"batch": "site", "covariates": "age + sex"} | roles
    return bc.ChunkedStudy.from_xarray(values.chunk({"obs": -1, "feature": width}), **roles)


def in_memory(values: xr.DataArray, **roles: Any) -> bc.Study:
    columns = {str(name): part.values for name, part in values.coords.items() if part.dims == ("obs",)}
    table = pd.DataFrame(columns).drop(columns="obs")
    table = pd.concat([table, pd.DataFrame(values.values.astype(float), columns=values["feature"].values)], axis=1)
    roles = {"batch": "site", "covariates": "age + sex", "features": list(values["feature"].values)} | roles
    return bc.Study.from_dataframe(table.set_axis(values["obs"].values), **roles)


def both(values: xr.DataArray, options: dict[str, Any] | None = None, **roles: Any) -> tuple[xr.Dataset, xr.Dataset]:
    """Harmonized values in memory and in chunks."""
    options = options or {}
    study = chunked(values, **roles)
    fit = bc.fit(study, method="eb", progress_bar=False, **options)
    return bc.fit(in_memory(values, **roles), method="eb", **options).harmonized, fit.harmonize(study)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "no covariates": ({"covariates": None}, {}),
    "reference": ({"reference": "b"}, {}),
    "logarithms": ({"transform": "log"}, {}),
    "logarithms to a reference": ({"transform": "log", "reference": "a"}, {}),
    "removed": ({"remove": "motion"}, {}),
    "two batch variables": ({"batch": ["site", "software"]}, {}),
    "mean only": ({}, {"mean_only": True}),
    "nonparametric": ({}, {"shrinkage": "nonparametric"}),
}


@pytest.mark.parametrize("holes", [0.0, 0.05])
@pytest.mark.parametrize("case", CASES)
def test_chunks_give_what_memory_gives(case: str, holes: float) -> None:
    roles, options = CASES[case]
    expected, found = both(scans(holes=holes), options, **roles)
    np.testing.assert_allclose(found["mean"].values, expected["mean"].values, rtol=1e-12, atol=1e-12)
    xr.testing.assert_identical(found.coords.to_dataset(), expected.coords.to_dataset())
    assert found.attrs == expected.attrs


def test_sva_is_reproduced_in_chunks() -> None:
    expected, found = both(scans(), {"compat": "sva"})
    np.testing.assert_allclose(found["mean"].values, expected["mean"].values, rtol=1e-12)


def test_sva_is_refused_where_cells_are_missing() -> None:
    with pytest.raises(DataError, match="no missing cell"):
        bc.fit(chunked(scans(holes=0.05)), method="eb", compat="sva", progress_bar=False)


def test_holes_in_one_chunk_alone_leave_the_others_as_they_are() -> None:
    values = scans()
    values[3, 5] = np.nan
    expected, found = both(values)
    np.testing.assert_allclose(found["mean"].values, expected["mean"].values, rtol=1e-12)


def test_chunks_of_one_feature_each_have_their_own_holes() -> None:
    values = scans(holes=0.2).isel(feature=slice(0, 4))
    study = chunked(values, width=1)
    found = bc.fit(study, method="eb", progress_bar=False).harmonize(study)
    expected = bc.fit(in_memory(values), method="eb").harmonized
    np.testing.assert_allclose(found["mean"].values, expected["mean"].values, rtol=1e-12)


def test_parameters_are_those_in_memory() -> None:
    values = scans()
    found = bc.fit(chunked(values), method="eb", progress_bar=False)
    expected = bc.fit(in_memory(values), method="eb")
    xr.testing.assert_allclose(found.parameters, expected.parameters, rtol=1e-12)
    assert (found.verdict, repr(found)) == (expected.verdict, repr(expected))


def test_single_precision_stays_single_and_is_summed_in_double() -> None:
    values = (scans() + 1e3).astype(np.float32)
    expected, found = both(values)
    assert found["mean"].dtype == np.float32
    np.testing.assert_array_equal(found["mean"].values, expected["mean"].values.astype(np.float32))


def test_constant_features_are_set_aside_even_if_they_fill_a_chunk() -> None:
    values = scans()
    values[:, :WIDTH] = 0.0
    values[:18, 200] = 1.0
    study = chunked(values)
    with pytest.warns(FeatureWarning, match=f"Set aside {WIDTH + 1} of {FEATURES} features, constant"):
        fit = bc.fit(study, method="eb", progress_bar=False)
    found = fit.harmonize(study)
    with pytest.warns(FeatureWarning):
        expected = bc.fit(in_memory(values), method="eb").harmonized
    np.testing.assert_allclose(found["mean"].values, expected["mean"].values, rtol=1e-12)
    np.testing.assert_array_equal(found["mean"].values[:, :WIDTH], 0.0)
    assert found["set_aside"].values.sum() == WIDTH + 1


def test_a_target_and_new_rows_are_harmonized_in_chunks() -> None:
    values = scans()
    fit, plain = bc.fit(chunked(values), method="eb", progress_bar=False), bc.fit(in_memory(values), method="eb")
    new = values.isel(obs=slice(12, 30))
    found = fit.harmonize(chunked(new), target="b")["mean"].values
    study = in_memory(new)
    np.testing.assert_allclose(found, plain.harmonize(study, target="b")["mean"].values, rtol=1e-12)
    np.testing.assert_array_equal(found[6:], new.values[6:])


def test_every_chunk_is_read_once_to_fit_and_once_to_write(tmp_path: Path) -> None:
    values, reads = scans(), []

    def read(block: np.ndarray, block_id: tuple[int, int] | None = None) -> np.ndarray:
        reads.append(block_id)
        return block

    y = da.from_array(values.values, chunks=(40, WIDTH)).map_blocks(read, dtype=float, meta=np.empty((0, 0)))
    study = chunked(values.copy(data=y))
    fit = bc.fit(study, method="eb", progress_bar=False)
    assert sorted(reads) == [(0, i) for i in range(5)]
    bc.write_zarr(fit.harmonize(study), tmp_path / "out.zarr", progress_bar=False)
    assert sorted(reads) == sorted([(0, i) for i in range(5)] * 2)


def test_zarr_in_and_out(tmp_path: Path) -> None:
    values = scans().astype(np.float32)
    stored = values.rename("y").to_dataset().chunk({"obs": -1, "feature": WIDTH})
    stored.to_zarr(tmp_path / "in.zarr", zarr_format=2, consolidated=False)
    opened = xr.open_zarr(tmp_path / "in.zarr", consolidated=False)["y"]
    study = bc.ChunkedStudy.from_xarray(opened, batch="site", covariates="age + sex")
    fit = bc.fit(study, method="eb", progress_bar=False)
    fit.save(tmp_path / "fit.nc")
    bc.write_zarr(bc.load(tmp_path / "fit.nc").harmonize(study), tmp_path / "out.zarr", progress_bar=False)
    found = xr.open_zarr(tmp_path / "out.zarr", consolidated=False)
    expected = bc.fit(in_memory(values), method="eb").harmonized
    np.testing.assert_array_equal(found["mean"].values, expected["mean"].values.astype(np.float32))
    assert list(found["feature"].values) == list(values["feature"].values)
    assert {path.name for path in tmp_path.iterdir()} == {"in.zarr", "out.zarr", "fit.nc"}


def test_an_interrupt_leaves_no_file_and_nothing_is_overwritten(tmp_path: Path) -> None:
    def interrupted(block: np.ndarray, block_id: tuple[int, int] | None = None) -> np.ndarray:
        if block_id == (0, 3):
            raise KeyboardInterrupt
        return block

    mean = da.zeros((4, 40), chunks=(4, 10)).map_blocks(interrupted, dtype=float, meta=np.empty((0, 0)))
    data = xr.Dataset({"mean": (("obs", "feature"), mean)})
    with pytest.raises(KeyboardInterrupt), dask.config.set(scheduler="synchronous"):
        bc.write_zarr(data, tmp_path / "out.zarr", progress_bar=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out.zarr").mkdir()
    with pytest.raises(FileExistsError, match="found a folder"):
        bc.write_zarr(data, tmp_path / "out.zarr")


def test_a_progress_bar_is_shown_unless_it_is_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    bc.fit(chunked(scans()), method="eb", progress_bar=False)
    assert capsys.readouterr().out == ""
    bc.fit(chunked(scans()), method="eb")
    assert "100%" in capsys.readouterr().out


def test_what_needs_all_features_at_once_is_refused() -> None:
    study = chunked(scans())
    for options in ({}, {"method": "eb", "factors": 1}, {"method": "eb", "covariance": True}):
        with pytest.raises(BayesCombatError, match="in chunks"):
            bc.fit(study, **options)
    fit = bc.fit(study, method="eb", progress_bar=False)
    with pytest.raises(BayesCombatError, match="in chunks"):
        fit.harmonize(study, unseen="prior")
    with pytest.raises(DataError, match="saved without"):
        fit.update(in_memory(scans()))


def test_without_dask_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(ImportError, match=r"pip install 'pymc-combat\[dask\]'"):
        bc.ChunkedStudy.from_xarray(scans(), batch="site")


def test_values_that_cannot_be_used_are_named() -> None:
    values = scans()
    values[2, 150] = np.inf
    with pytest.raises(DataError, match="1 infinite cell in the features 'voxel-150' and the rows 'scan-2'"):
        bc.fit(chunked(values), method="eb", progress_bar=False)
    values[2, 150] = -1.0
    with pytest.raises(DataError, match="1 zero or negative cell in the features 'voxel-150'"):
        bc.fit(chunked(values, transform="log"), method="eb", progress_bar=False)
    with pytest.raises(DataError, match="dims 'obs' and 'feature'"):
        bc.ChunkedStudy.from_xarray(values.rename(feature="voxel"), batch="site")
    with pytest.raises(DataError, match="'scanner'"):
        bc.ChunkedStudy.from_xarray(values, batch="scanner")


def test_chunks_of_scans_are_joined_and_arrays_in_memory_are_taken() -> None:
    values = scans()
    expected, _ = both(values)
    for given in (values, values.chunk({"obs": 7, "feature": 50})):
        study = bc.ChunkedStudy.from_xarray(given, batch="site", covariates="age + sex")
        found = bc.fit(study, method="eb", progress_bar=False).harmonize(study)
        np.testing.assert_allclose(found["mean"].values, expected["mean"].values, rtol=1e-12)


def test_two_distributed_workers_give_the_same(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    values = scans()
    expected, _ = both(values)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        study = chunked(values)
        fit = bc.fit(study, method="eb", progress_bar=False)
        bc.write_zarr(fit.harmonize(study), tmp_path / "out.zarr", progress_bar=False)
    found = xr.open_zarr(tmp_path / "out.zarr", consolidated=False)["mean"].values
    np.testing.assert_allclose(found, expected["mean"].values, rtol=1e-12)
