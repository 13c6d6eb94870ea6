"""Frames of other libraries, labelled arrays and AnnData: the same study as from a table, and the way back."""

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import bayescombat as bc
from bayescombat.frames import as_pandas

DOSES = ["low", "none", "high"]
FORMATS = pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array])


def of_polars(table: pd.DataFrame) -> pl.DataFrame:
    frame = pl.from_pandas(table)
    return frame.with_columns(pl.col("dose").cast(pl.Enum(DOSES)))


FRAMES: dict[str, Callable[[pd.DataFrame], Any]] = {"polars": of_polars, "pyarrow": pa.Table.from_pandas}
OTHER_FRAME = pytest.mark.parametrize("library", FRAMES)


def scans(n: int = 24, seed: int = 0) -> pd.DataFrame:
    """Scans of three sites, with columns of every kind and a missing cell."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "site": np.array(["b", "c", "a"])[np.arange(n) % 3],
            "software": np.arange(n) // 3 % 2 + 5,
            "subject": [f"sub-{j % (n // 2)}" for j in range(n)],
            "age": 40 + 10 * rng.normal(size=n),
            "dose": pd.Categorical(np.array(["low", "high"])[np.arange(n) // 6 % 2], DOSES),
            "patient": np.arange(n) // 2 % 2 == 0,
            "left": rng.normal(2.5, 0.2, n),
            "right": rng.normal(2.5, 0.2, n),
            "count": rng.integers(0, 100, n),
        }
    )
    table.loc[4, "right"] = np.nan
    return table


ROLES: dict[str, Any] = {
    "batch": "site",
    "covariates": "age + dose + patient",
    "features": ["left", "right", "count"],
    "reference": "a",
}


def assert_same_study(one: bc.Study, other: bc.Study) -> None:
    for name in ("y", "x", "codes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.batches == other.batches
    assert one.spec == other.spec
    assert one.reference == other.reference
    assert list(one.obs) == list(other.obs)
    assert (one.subjects is None) == (other.subjects is None)
    assert one.subjects is None or list(one.subjects) == list(other.subjects)


@OTHER_FRAME
def test_frames_of_other_libraries_give_the_same_study(library: str) -> None:
    table = scans()
    if library == "pyarrow":
        # Its dictionaries have no order that would be meant.
        table["dose"] = table["dose"].astype(str)
    expected = bc.Study.from_dataframe(table, **ROLES)
    assert_same_study(bc.Study.from_dataframe(FRAMES[library](table), **ROLES), expected)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False, width=32) | st.none(),
            st.integers(-(2**31), 2**31) | st.none(),
            st.booleans() | st.none(),
            st.sampled_from(["a", "1", "", "None", "ä"]) | st.none(),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_columns_of_polars_are_those_of_pandas(rows: list[tuple[Any, ...]]) -> None:
    columns = dict(zip("fibs", map(list, zip(*rows, strict=True)), strict=True))
    kinds = {"f": pl.Float64, "i": pl.Int64, "b": pl.Boolean, "s": pl.String}
    found = as_pandas(pl.DataFrame(columns, schema=kinds))
    for name, values in columns.items():
        missing = [value is None for value in values]
        assert list(found[name].isna()) == missing
        there = found[name][~np.array(missing)].tolist()
        assert there == [value for value in values if value is not None]
        assert all(isinstance(value, str) for value in there) == (name == "s" or not there)


def test_enumerations_keep_their_order_and_categories_are_text() -> None:
    levels = ["low", "high", "low"]
    frame = pl.DataFrame(
        {
            "enum": pl.Series(levels, dtype=pl.Enum(["low", "none", "high"])),
            "category": pl.Series(levels, dtype=pl.Categorical),
        }
    )
    found = as_pandas(frame)
    assert list(found["enum"].cat.categories) == ["low", "none", "high"]
    assert found["category"].tolist() == levels
    assert not isinstance(found["category"].dtype, pd.CategoricalDtype)


def test_decimals_and_dates_are_numbers_and_dates() -> None:
    frame = pl.DataFrame({"price": ["1.5", None], "day": ["2020-01-31", None]}).with_columns(
        pl.col("price").cast(pl.Decimal(10, 2)), pl.col("day").str.to_date()
    )
    found = as_pandas(frame)
    np.testing.assert_array_equal(found["price"], [1.5, np.nan])
    assert found["day"].dtype.kind == "M" and found["day"].isna().tolist() == [False, True]


def test_polars_needs_no_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.from_pandas(scans())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert bc.Study.from_dataframe(frame, **ROLES).y.shape == (24, 3)


def test_pandas_is_not_converted() -> None:
    table = scans()
    assert as_pandas(table) is table


def test_lazy_frames_are_refused() -> None:
    with pytest.raises(bc.DataError, match=r"found one that is still to be computed \(polars.*\.collect\(\)"):
        bc.Study.from_dataframe(pl.from_pandas(scans()).lazy(), **ROLES)


def test_doubled_names_of_columns_are_refused() -> None:
    doubled = pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["left", "left"])
    with pytest.raises(bc.DataError, match=r"(?s)Expected every column name once.*'left' 2 times"):
        bc.Study.from_dataframe(doubled, **ROLES)


@OTHER_FRAME
def test_a_fit_takes_other_frames_as_rows(library: str) -> None:
    frame, table = FRAMES[library], scans(36)
    rows = {"covariates": "age + patient", "features": ["left", "right", "count"]}
    fit = bc.fit(bc.Study.from_dataframe(table[table["site"] != "c"], batch="site", **rows), method="eb")
    known, new = (table[part].reset_index(drop=True) for part in (table["site"] == "a", table["site"] == "c"))
    xr.testing.assert_identical(fit.harmonize(frame(known)), fit.harmonize(known))
    xr.testing.assert_identical(fit.update(frame(new)).parameters, fit.update(new).parameters)
    xr.testing.assert_identical(fit.adopt(frame(new)).parameters, fit.adopt(new).parameters)
    sure = bc.fit(bc.Study.from_dataframe(table, batch="site", **rows), method="eb", uncertainty=True, seed=1)
    xr.testing.assert_identical(sure.draws(3, frame(known)), sure.draws(3, known))
    question = {"feature": "left", "n": 3}
    xr.testing.assert_identical(
        bc.pool(sure, "left ~ age", frame(table), **question), bc.pool(sure, "left ~ age", table, **question)
    )


def test_designs_are_learned_from_other_frames() -> None:
    table = scans()
    roles = {"batch": "site", "formula": "age + dose", "features": ["left"]}
    learned = bc.DesignSpec.learn(of_polars(table), **roles)
    assert learned == bc.DesignSpec.learn(table, **roles)
    np.testing.assert_array_equal(learned.matrix(of_polars(table)), learned.matrix(table))


def test_arrays_may_be_frames_and_columns_of_polars() -> None:
    table = scans()
    parts = {"features": ["left", "right"], "batch": ["site", "software"], "covariates": ["age"]}
    y, batch, covariates = (table[names] for names in parts.values())
    expected = bc.Study.from_arrays(y, batch=batch, covariates=covariates, subject=table["subject"])
    frames = [pl.from_pandas(part) for part in (y, batch, covariates)]
    found = bc.Study.from_arrays(
        frames[0], batch=frames[1], covariates=frames[2], subject=pl.Series("subject", table["subject"].tolist())
    )
    assert_same_study(found, expected)
    mapped = bc.Study.from_arrays(
        y.to_numpy(),
        features=["left", "right"],
        batch={"site": frames[1]["site"], "software": frames[1]["software"]},
        covariates={"age": frames[2]["age"]},
        subject=pl.Series("subject", table["subject"].tolist()),
        obs=pl.Series(range(len(table))),
    )
    assert_same_study(mapped, expected)


def test_frames_without_an_index_contradict_none() -> None:
    table = scans().set_index(pd.Index([f"scan-{j}" for j in range(24)]))
    found = bc.Study.from_arrays(table[["left", "right"]], batch=pl.Series(table["site"].tolist()))
    assert list(found.obs) == list(table.index)


def labelled(table: pd.DataFrame) -> xr.DataArray:
    columns = {name: ("obs", table[name].to_numpy()) for name in ("site", "software", "subject", "age", "patient")}
    columns["dose"] = ("obs", table["dose"].astype(str).to_numpy())
    coords = columns | {"obs": table.index.to_numpy(), "feature": ["left", "right", "count"]}
    values = table[["left", "right", "count"]].to_numpy(dtype=float)
    return xr.DataArray(values, coords, ("obs", "feature"), name="thickness")


OF_LABELLED: list[dict[str, Any]] = [
    {"batch": "site"},
    {"batch": ["site", "software"], "covariates": "age + dose", "reference": ["a", "5"]},
    {"batch": "site", "covariates": "patient", "remove": "age", "transform": "log", "features": ["left"]},
    {"batch": "site", "subject": "subject", "covariates": ["patient"], "features": "t$"},
    {"batch": "site", "smooth": {"age": 6}, "features": ["right", "left"]},
]


@pytest.mark.parametrize("roles", OF_LABELLED, ids=str)
def test_labelled_arrays_give_the_same_study(roles: dict[str, Any]) -> None:
    table = scans().astype({"dose": str})
    values = labelled(table)
    chosen = {"features": ["left", "right", "count"]} | roles
    expected = bc.Study.from_dataframe(table, **chosen)
    assert_same_study(bc.Study.from_xarray(values, **roles), expected)
    assert_same_study(bc.Study.from_xarray(values.T, **roles), expected)
    as_variables = values.reset_coords(["site", "software", "subject", "age", "patient", "dose"])
    assert_same_study(bc.Study.from_xarray(as_variables, **roles), expected)


def test_a_study_in_chunks_reads_the_same_array() -> None:
    values = labelled(scans()).fillna(2.5)
    whole, chunked = (
        kind.from_xarray(data, batch="site", covariates="age")
        for kind, data in ((bc.Study, values), (bc.ChunkedStudy, values.reset_coords(["site", "age"])))
    )
    np.testing.assert_array_equal(whole.y, np.asarray(chunked.y))
    np.testing.assert_array_equal(whole.x, chunked.x)
    assert whole.spec == chunked.spec


def test_unlabelled_arrays_get_names_and_numbers() -> None:
    values = xr.DataArray(np.eye(4), {"site": ("obs", list("aabb"))}, ("obs", "feature"))
    study = bc.Study.from_xarray(values, batch="site")
    assert study.features == ("feature_0", "feature_1", "feature_2", "feature_3")
    assert list(study.obs) == [0, 1, 2, 3]


def test_the_labelled_array_stays_as_it_is() -> None:
    values = labelled(scans())
    before = values.copy(deep=True)
    study = bc.Study.from_xarray(values, batch="site")
    xr.testing.assert_identical(values, before)
    assert not np.shares_memory(study.y, values.values)


VALUES = labelled(scans())


@pytest.mark.parametrize(
    ("data", "roles", "words"),
    [
        (VALUES.rename(obs="scan"), {}, "dims 'obs' and 'feature'.*found dims 'scan', 'feature'"),
        (VALUES.to_pandas(), {}, "found DataFrame"),
        (VALUES.to_dataset(name="one").assign(two=VALUES), {}, "one variable with dims.*found 'one', 'two'"),
        (VALUES.to_dataset("feature"), {}, r"found none \(its dims are 'obs'\)"),
        (VALUES, {"batch": "sight"}, "the batch column 'sight'.*Did you mean 'site'"),
        (VALUES, {"covariates": "aage"}, "the covariate 'aage'.*Did you mean 'age'"),
        (VALUES, {"features": ["lift"]}, "the feature 'lift'"),
        (VALUES, {"features": "middle"}, "match 'middle'"),
        (VALUES.assign_coords(feature=["left", "left", "count"]), {}, "every feature once, found 1 more than once"),
        (VALUES.assign_coords(feature=["left", "site", "count"]), {}, "no other role, found 'site'"),
        (VALUES.astype(str), {}, "Expected features of real numbers"),
    ],
)
def test_labelled_arrays_that_cannot_be_used(data: Any, roles: dict[str, Any], words: str) -> None:
    with pytest.raises(bc.DataError, match=words):
        bc.Study.from_xarray(data, **{"batch": "site"} | roles)


def cells(n: int = 40, genes: int = 6, seed: int = 1) -> anndata.AnnData:
    """Cells of three batches; half of the values are zero."""
    rng = np.random.default_rng(seed)
    values = rng.normal(1, 0.5, (n, genes)) * (rng.random((n, genes)) < 0.5)
    obs = pd.DataFrame(
        {
            "batch": np.array(["x", "y", "z"])[np.arange(n) % 3],
            "condition": np.array(["control", "treated"])[np.arange(n) // 3 % 2],
            "age": rng.normal(50, 10, n),
        },
        index=[f"cell-{j}" for j in range(n)],
    )
    var = pd.DataFrame({"highly_variable": np.arange(genes) % 3 != 0}, index=[f"gene-{v}" for v in range(genes)])
    var["rank"] = range(genes)
    adata = anndata.AnnData(values, obs, var)
    adata.layers["counts"] = np.exp(values)
    adata.obsm["umap"] = values[:, :2].copy()
    adata.uns["colours"] = {"x": "red"}
    return adata


OF_CELLS: list[tuple[dict[str, Any], list[str]]] = [
    ({"covariates": "condition + age"}, [f"gene-{v}" for v in range(6)]),
    ({"features": "highly_variable", "reference": "y"}, ["gene-1", "gene-2", "gene-4", "gene-5"]),
    ({"features": "gene-[05]", "covariates": ["age"], "remove": "condition"}, ["gene-0", "gene-5"]),
    ({"features": ["gene-3", "gene-0"], "smooth": {"age": 6}}, ["gene-3", "gene-0"]),
]


@pytest.mark.parametrize(("roles", "features"), OF_CELLS, ids=str)
def test_annotated_data_give_the_same_study(roles: dict[str, Any], features: list[str]) -> None:
    adata = cells()
    expected = bc.Study.from_dataframe(
        adata.to_df().join(adata.obs), **{"batch": "batch"} | roles | {"features": features}
    )
    assert_same_study(bc.Study.from_anndata(adata, batch="batch", **roles), expected)


def test_a_layer_is_read_instead_of_x() -> None:
    adata = cells()
    study = bc.Study.from_anndata(adata, batch="batch", layer="counts", transform="log")
    np.testing.assert_array_equal(study.y, adata.layers["counts"])


@FORMATS
@pytest.mark.parametrize("features", [None, "highly_variable", ["gene-4", "gene-1"]], ids=str)
def test_sparse_is_dense(form: Any, features: Any) -> None:
    adata = cells()
    expected = bc.Study.from_anndata(adata, batch="batch", features=features)
    adata.X = form(adata.X)
    assert_same_study(bc.Study.from_anndata(adata, batch="batch", features=features), expected)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_a_file_is_read(form: Any, tmp_path: Path) -> None:
    adata = cells()
    expected = bc.Study.from_anndata(adata, batch="batch", features=["gene-2", "gene-0"])
    adata.X = form(adata.X)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    assert_same_study(bc.Study.from_anndata(backed, batch="batch", features=["gene-2", "gene-0"]), expected)
    with pytest.raises(bc.DataError, match=r"backed by a file.*to_memory\(\)"):
        bc.to_anndata(bc.fit(expected, method="eb"), backed)
    backed.file.close()


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_sparse_takes_little_more_than_one_dense_copy(form: str) -> None:
    rng = np.random.default_rng(0)
    values = sparse.random(2500, 2000, 0.05, form, dtype=np.float32, random_state=rng)
    obs = pd.DataFrame({"batch": ["a", "b"] * 1250}, index=[f"cell-{j}" for j in range(2500)])
    adata = anndata.AnnData(values, obs, pd.DataFrame(index=[f"gene-{v}" for v in range(2000)]))
    bc.Study.from_anndata(adata, batch="batch", features=["gene-0", "gene-1"])
    tracemalloc.start()
    try:
        study = bc.Study.from_anndata(adata, batch="batch")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.35 * study.y.nbytes


def doubled(adata: anndata.AnnData, axis: str) -> anndata.AnnData:
    setattr(adata, f"{axis}_names", ["one", *getattr(adata, f"{axis}_names")[:-2], "one"])
    return adata


@pytest.mark.filterwarnings("ignore:(Observation|Variable) names are not unique")
@pytest.mark.parametrize(
    ("made", "roles", "words"),
    [
        (lambda: cells().to_df(), {}, "Expected an AnnData, found DataFrame"),
        (lambda: doubled(cells(), "obs"), {}, r"obs_names once.*'one'.*obs_names_make_unique\(\)"),
        (lambda: doubled(cells(), "var"), {}, r"var_names once.*'one'.*var_names_make_unique\(\)"),
        (cells, {"layer": "count"}, "the layer 'count'.*Did you mean 'counts'"),
        (cells, {"batch": "bach"}, "the batch column 'bach'.*Did you mean 'batch'"),
        (cells, {"covariates": "agee"}, "the covariate 'agee'"),
        (cells, {"features": "rank"}, "true or false in the column 'rank' of var.*found int64"),
        (cells, {"features": ["gene-1", "gene-99"]}, "the feature 'gene-99'"),
        (lambda: anndata.AnnData(obs=cells().obs, var=cells().var), {}, "measurements in X, found none"),
    ],
)
def test_annotated_data_that_cannot_be_used(made: Callable[[], Any], roles: dict[str, Any], words: str) -> None:
    with pytest.raises(bc.DataError, match=words):
        bc.Study.from_anndata(made(), **{"batch": "batch"} | roles)


def test_anndata_that_is_not_installed_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    adata = cells()
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(ImportError, match=r"pip install 'pymc-combat\[anndata\]'"):
        bc.Study.from_anndata(adata, batch="batch")


def test_harmonized_values_are_a_layer_and_nothing_else_changes() -> None:
    adata = cells()
    before = adata.copy()
    study = bc.Study.from_anndata(adata, batch="batch", covariates="condition", features="highly_variable")
    fit = bc.fit(study, method="eb", uncertainty=True, seed=1)
    found = bc.to_anndata(fit, adata, layer="combat", sd_layer="combat_sd")
    chosen = adata.var["highly_variable"].to_numpy()
    np.testing.assert_array_equal(found.layers["combat"][:, chosen], fit.harmonized["mean"])
    np.testing.assert_array_equal(found.layers["combat_sd"][:, chosen], fit.harmonized["sd"])
    np.testing.assert_array_equal(found.layers["combat"][:, ~chosen], adata.X[:, ~chosen])
    assert (found.layers["combat_sd"][:, ~chosen] == 0).all()
    assert found.X is adata.X and found.obsm["umap"] is adata.obsm["umap"] and found.uns == adata.uns
    assert found.layers["counts"] is adata.layers["counts"]
    found.obs["more"], found.uns["more"] = 1, 1
    for name in ("obs", "var"):
        pd.testing.assert_frame_equal(getattr(adata, name), getattr(before, name))
    assert set(adata.layers.keys()) == set(before.layers.keys()) and set(adata.uns) == set(before.uns)


def test_features_that_were_not_chosen_are_those_of_the_source_layer() -> None:
    adata = cells()
    adata.layers["counts"] = sparse.csr_matrix(adata.layers["counts"])
    fit = bc.fit(
        bc.Study.from_anndata(adata, batch="batch", layer="counts", features=["gene-1", "gene-2"]), method="eb"
    )
    found = bc.to_anndata(fit, adata, source="counts").layers["harmonized"]
    np.testing.assert_array_equal(found[:, 3:], adata.layers["counts"].toarray()[:, 3:])


def test_rows_are_found_by_their_names() -> None:
    adata = cells()
    fit = bc.fit(bc.Study.from_anndata(adata, batch="batch"), method="eb")
    whole, turned = bc.to_anndata(fit, adata), bc.to_anndata(fit, adata[::-1, ::-1])
    np.testing.assert_array_equal(turned.layers["harmonized"], whole.layers["harmonized"][::-1, ::-1])


def test_some_rows_are_harmonized_and_put_back() -> None:
    adata = cells()
    fit = bc.fit(bc.Study.from_anndata(adata, batch="batch"), method="eb")
    some = adata[adata.obs["batch"] == "x"]
    found = bc.to_anndata(fit.harmonize(some.to_df().join(some.obs)), some)
    expected = bc.to_anndata(fit, adata)[adata.obs["batch"] == "x"]
    np.testing.assert_array_equal(found.layers["harmonized"], expected.layers["harmonized"])


def test_missing_cells_stay_missing_in_both_layers() -> None:
    adata = cells()
    adata.X[3, 1] = adata.X[5, 0] = np.nan
    fit = bc.fit(
        bc.Study.from_anndata(adata, batch="batch", features=["gene-1", "gene-2"]), method="eb", uncertainty=True
    )
    found = bc.to_anndata(fit, adata, sd_layer="sd")
    for name in ("harmonized", "sd"):
        np.testing.assert_array_equal(np.isnan(found.layers[name]), np.isnan(adata.X))


def test_layers_that_cannot_be_made() -> None:
    adata = cells()
    fit = bc.fit(bc.Study.from_anndata(adata, batch="batch"), method="eb")
    with pytest.raises(bc.DataError, match="found 0 that were not harmonized.*and 2 that the AnnData does not have"):
        bc.to_anndata(fit, adata[2:])
    with pytest.raises(bc.DataError, match="found 1 that were not harmonized \\('cell-39'\\) and 0"):
        bc.to_anndata(fit.harmonized.isel(obs=slice(39)), adata)
    with pytest.raises(bc.DataError, match="found 'gene-0' elsewhere"):
        bc.to_anndata(fit, adata[:, 1:])
    with pytest.raises(bc.BayesCombatError, match="found estimates alone"):
        bc.to_anndata(fit, adata, sd_layer="sd")
    with pytest.raises(bc.DataError, match="Expected a fit, or the Dataset.*found DataArray"):
        bc.to_anndata(fit.harmonized["mean"], adata)
