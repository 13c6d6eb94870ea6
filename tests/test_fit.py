"""fit, load and Fit: the public face, the file, and what happens on Ctrl-C."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import nutpie
import pandas as pd
import pytest
import xarray as xr

import bayescombat as bc
from bayescombat.errors import (
    BatchSizeWarning,
    BayesCombatError,
    ConvergenceWarning,
    DataError,
    FileFormatError,
    UnseenBatchError,
)
from bayescombat.settings import Settings

ROOT = Path(__file__).parents[1]
ROWS = {"observed_data", "constant_data"}
METHODS = ["nuts", "eb"]


@pytest.fixture(params=METHODS)
def fit(request: pytest.FixtureRequest) -> bc.Fit:
    """Each of the two shared fits."""
    return request.getfixturevalue(f"{request.param}_fit")


@pytest.fixture(scope="module")
def new_table() -> pd.DataFrame:
    """Other scans of three of the four sites."""
    table = bc.datasets.simulate((4, 3, 2, 1), features=8, seed=4).table
    return table[table["site"] != "site_02"].set_axis([f"new-{j}" for j in range(7)])


def groups(tree: xr.DataTree) -> set[str]:
    """Return the groups that hold something."""
    return {node.path.lstrip("/") for node in tree.subtree if node.data_vars}


def rows_of(dataset: xr.Dataset) -> int:
    return dataset.sizes.get("obs", 0)


# ---------------------------------------------------------------- what a fit is


def test_harmonized_of_nuts(nuts_fit: bc.Fit, study: bc.Study) -> None:
    found = nuts_fit.harmonized
    assert set(found.data_vars) == {"mean", "sd", "lower", "upper"}
    assert all(found[name].dims == ("obs", "feature") for name in found.data_vars)
    assert tuple(found["feature"].values) == study.features
    assert list(found["obs"].values) == list(study.obs)
    assert (found["lower"] < found["mean"]).all() and (found["mean"] < found["upper"]).all()
    assert (found["sd"] > 0).all() and not found["set_aside"].any()
    assert found.attrs == {"target": "pooled", "probability": 0.9}


def test_harmonized_of_empirical_bayes(eb_fit: bc.Fit, study: bc.Study) -> None:
    found = eb_fit.harmonized
    assert set(found.data_vars) == {"mean"} and found["mean"].dims == ("obs", "feature")
    assert found["mean"].shape == study.y.shape
    assert found.attrs == {"target": "pooled"}


def test_harmonized_is_in_feature_units(fit: bc.Fit) -> None:
    assert all(fit.harmonized[name].attrs["units"] == "feature units" for name in fit.harmonized.data_vars)


def test_harmonized_are_the_fitted_rows(fit: bc.Fit, study: bc.Study) -> None:
    xr.testing.assert_identical(fit.harmonize(study), fit.harmonized)


def test_a_table_and_its_study_are_the_same(fit: bc.Fit, simulation: bc.datasets.Simulation) -> None:
    xr.testing.assert_identical(fit.harmonize(simulation.table), fit.harmonized)


def test_harmonize_keeps_the_labels_of_new_rows(fit: bc.Fit, new_table: pd.DataFrame) -> None:
    assert list(fit.harmonize(new_table)["obs"].values) == list(new_table.index)


def test_wider_intervals_hold_narrower_ones(nuts_fit: bc.Fit, new_table: pd.DataFrame) -> None:
    narrow, wide = (nuts_fit.harmonize(new_table, probability=p) for p in (0.5, 0.9))
    assert (wide["lower"] < narrow["lower"]).all() and (narrow["upper"] < wide["upper"]).all()


def test_harmonizing_brings_both_estimators_nearer_to_the_truth(
    fit: bc.Fit, study: bc.Study, simulation: bc.datasets.Simulation
) -> None:
    truth = simulation.truth["harmonized"].values
    error = np.sqrt(((fit.harmonized["mean"].values - truth) ** 2).mean())
    assert error < 0.7 * np.sqrt(((study.y - truth) ** 2).mean())


def test_draws_have_a_hundred_by_default(nuts_fit: bc.Fit, study: bc.Study) -> None:
    found = nuts_fit.draws()
    assert dict(found.sizes) == {"draw": 100, "obs": len(study.obs), "feature": len(study.features)}
    assert found.attrs["units"] == "feature units" and found.attrs["long_name"]


def test_draws_of_new_rows(nuts_fit: bc.Fit, new_table: pd.DataFrame) -> None:
    found = nuts_fit.draws(2000, data=new_table)
    assert list(found["obs"].values) == list(new_table.index)
    np.testing.assert_allclose(found.mean("draw"), nuts_fit.harmonize(new_table)["mean"], rtol=1e-10)


def test_study_of_a_fit_is_the_one_that_was_fitted(fit: bc.Fit, study: bc.Study) -> None:
    found = fit.study
    for name in ("y", "x", "codes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(study, name))
    assert (found.batches, found.spec, found.reference) == (study.batches, study.spec, study.reference)
    assert list(found.obs) == list(study.obs)


def test_method_verdict_and_converged(nuts_fit: bc.Fit, eb_fit: bc.Fit) -> None:
    assert (nuts_fit.method, eb_fit.method) == ("nuts", "eb")
    assert nuts_fit.converged and nuts_fit.verdict.startswith("Converged: ")
    assert eb_fit.converged and eb_fit.verdict.startswith("Estimated")


def test_repr_says_what_there_is(nuts_fit: bc.Fit, eb_fit: bc.Fit) -> None:
    assert repr(nuts_fit).split("\n") == [
        "Fit by NUTS: 8 features, 4 batches, 63 scans",
        f"  {nuts_fit.verdict}",
    ]
    assert repr(eb_fit).startswith("Fit by empirical Bayes: 8 features, 4 batches, 63 scans\n  Estimated")


def test_settings_of_the_tree_repeat_the_fit_to_the_bit(
    tiny_fit: bc.Fit, tiny_study: bc.Study, recwarn: pytest.WarningsRecorder
) -> None:
    settings = json.loads(tiny_fit.tree.attrs["settings"])
    assert (settings["seed"], settings["draws"], settings["tune"], settings["chains"]) == (3, 100, 100, 2)
    again = bc.fit(tiny_study, **settings)
    xr.testing.assert_identical(again.parameters, tiny_fit.parameters)
    xr.testing.assert_identical(again.harmonized, tiny_fit.harmonized)
    assert {warning.category for warning in recwarn} == {BatchSizeWarning, ConvergenceWarning}


def test_nuts_to_a_reference(tiny_simulation: bc.datasets.Simulation, fit_tiny: Callable[[bc.Study], bc.Fit]) -> None:
    study = bc.Study.from_dataframe(
        tiny_simulation.table,
        batch="site",
        covariates="age",
        features=tiny_simulation.features,
        reference="site_02",
    )
    fit, own = fit_tiny(study), study.codes == 1
    assert (fit.parameters["gamma"].sel(batch="site_02") == 0).all()
    assert (fit.parameters["delta"].sel(batch="site_02") == 1).all()
    np.testing.assert_array_equal(fit.harmonized["mean"].values[own], study.y[own])
    assert fit.harmonized.attrs["target"] == "site_02" and "nan" not in fit.verdict


def test_a_fit_without_seed_keeps_the_one_it_drew() -> None:
    first, second = (Settings().resolved(n_feature=8, n_batch=4).seed for _ in range(2))
    assert isinstance(first, int) and first != second


# ---------------------------------------------------------------- groups


def test_groups_of_nuts(nuts_fit: bc.Fit) -> None:
    assert groups(nuts_fit.tree) == {
        "posterior",
        "sample_stats",
        "diagnostics/rhat",
        "diagnostics/ess_bulk",
        "diagnostics/ess_tail",
        "moments",
        "layout",
        "observed_data",
        "constant_data",
    }
    assert dict(nuts_fit.tree["posterior"].sizes) == {
        "chain": 2,
        "draw": 1000,
        "feature": 8,
        "covariate": 2,
        "batch": 4,
        "batch_variable": 1,
    }


def test_groups_of_empirical_bayes(eb_fit: bc.Fit) -> None:
    assert groups(eb_fit.tree) == {"empirical_bayes", "moments", "layout", "observed_data", "constant_data"}
    assert not {"chain", "draw"} & set(eb_fit.tree["empirical_bayes"].sizes)


def test_arviz_reads_the_tree(nuts_fit: bc.Fit) -> None:
    import arviz as az

    failed, report = az.diagnose(nuts_fit.tree, show_diagnostics=False, return_diagnostics=True)
    assert not failed
    assert set(report) >= {"divergent", "treedepth", "bfmi"}


def test_diagnostics_cover_every_parameter(nuts_fit: bc.Fit) -> None:
    for group in ("rhat", "ess_bulk", "ess_tail"):
        figures = nuts_fit.tree[f"diagnostics/{group}"]
        assert set(figures.data_vars) == set(nuts_fit.parameters.data_vars)
        assert all(np.isfinite(figures[name]).all() for name in figures.data_vars)


# ---------------------------------------------------------------- summary


def test_summary_of_empirical_bayes(eb_fit: bc.Fit, study: bc.Study) -> None:
    found = eb_fit.summary()
    assert list(found) == ["scans", "shift", "shift_rms", "scale"]
    assert found.index.name == "batch" and tuple(found.index) == study.batches
    assert list(found["scans"]) == [30, 20, 10, 3]
    shift = eb_fit.parameters["gamma"].values / eb_fit.parameters["sigma"].values
    np.testing.assert_allclose(found["shift"], shift.mean(axis=1))
    np.testing.assert_allclose(found["shift_rms"], np.sqrt((shift**2).mean(axis=1)))
    np.testing.assert_allclose(found["scale"], eb_fit.parameters["delta"].values.prod(axis=1) ** (1 / 8))


def test_summary_of_nuts(nuts_fit: bc.Fit) -> None:
    found = nuts_fit.summary()
    names = ["shift", "shift_rms", "scale"]
    assert list(found) == ["scans", *(column for name in names for column in (name, f"{name}_sd"))]
    gamma, sigma = nuts_fit.parameters["gamma"], nuts_fit.parameters["sigma"]
    shift = (gamma / sigma).mean("feature")
    np.testing.assert_allclose(found["shift"], shift.mean(["chain", "draw"]))
    np.testing.assert_allclose(found["shift_sd"], shift.std(["chain", "draw"], ddof=1))


# ---------------------------------------------------------------- moments instead of rows


@pytest.fixture(scope="module")
def fit_of_moments(study: bc.Study) -> bc.Fit:
    return bc.fit(bc.Moments.from_study(study), method="eb")


def test_moments_give_the_same_fit(fit_of_moments: bc.Fit, eb_fit: bc.Fit, new_table: pd.DataFrame) -> None:
    xr.testing.assert_identical(fit_of_moments.parameters, eb_fit.parameters)
    xr.testing.assert_identical(fit_of_moments.harmonize(new_table), eb_fit.harmonize(new_table))


def test_a_fit_of_moments_holds_no_rows(fit_of_moments: bc.Fit) -> None:
    assert groups(fit_of_moments.tree) == {"empirical_bayes", "moments", "layout"}
    with pytest.raises(DataError, match="made of moments or saved without data"):
        _ = fit_of_moments.harmonized


# ---------------------------------------------------------------- nothing is mutated


def test_fit_and_harmonize_leave_table_and_study(simulation: bc.datasets.Simulation) -> None:
    table = simulation.table.copy()
    study = bc.Study.from_dataframe(table, batch="site", covariates="age + sex", features=simulation.features)
    arrays = {name: getattr(study, name).copy() for name in ("y", "x", "codes")}
    fit = bc.fit(study, method="eb")
    fit.harmonize(table, target="site_01")
    pd.testing.assert_frame_equal(table, simulation.table)
    for name, before in arrays.items():
        np.testing.assert_array_equal(getattr(study, name), before)


def test_using_a_fit_leaves_its_tree(fit: bc.Fit, new_table: pd.DataFrame, tmp_path: Path) -> None:
    before = fit.tree.copy(deep=True)
    fit.harmonize(new_table)
    fit.summary()
    fit.save(tmp_path / "fit.nc", data=False)
    if fit.method == "nuts":
        fit.draws(3)
    xr.testing.assert_identical(fit.tree, before)


# ---------------------------------------------------------------- the file


def test_round_trip_is_identical(fit: bc.Fit, new_table: pd.DataFrame, tmp_path: Path) -> None:
    fit.save(tmp_path / "fit.nc")
    loaded = bc.load(tmp_path / "fit.nc")
    xr.testing.assert_identical(loaded.harmonized, fit.harmonized)
    xr.testing.assert_identical(loaded.harmonize(new_table), fit.harmonize(new_table))
    xr.testing.assert_identical(
        loaded.harmonize(new_table, target="site_03"), fit.harmonize(new_table, target="site_03")
    )
    xr.testing.assert_identical(loaded.parameters, fit.parameters)
    assert groups(loaded.tree) == groups(fit.tree)


def test_round_trip_keeps_what_was_said(fit: bc.Fit, tmp_path: Path) -> None:
    fit.save(tmp_path / "fit.nc")
    loaded = bc.load(str(tmp_path / "fit.nc"))
    assert repr(loaded) == repr(fit)
    assert (loaded.method, loaded.verdict, loaded.converged) == (fit.method, fit.verdict, fit.converged)
    pd.testing.assert_frame_equal(loaded.summary(), fit.summary())


def test_round_trip_keeps_draws(nuts_fit: bc.Fit, tmp_path: Path) -> None:
    nuts_fit.save(tmp_path / "fit.nc")
    xr.testing.assert_identical(bc.load(tmp_path / "fit.nc").draws(9), nuts_fit.draws(9))


def test_round_trip_keeps_names_of_scans_and_the_reference(simulation: bc.datasets.Simulation, tmp_path: Path) -> None:
    table = simulation.table.set_axis([f"sub-{j:03d}" for j in range(63)])
    study = bc.Study.from_dataframe(
        table, batch="site", covariates="bs(age, df=4)", features=simulation.features, reference="site_02"
    )
    fit = bc.fit(study, method="eb")
    fit.save(tmp_path / "fit.nc")
    loaded = bc.load(tmp_path / "fit.nc")
    xr.testing.assert_identical(loaded.harmonized, fit.harmonized)
    assert loaded.moments.reference == "site_02"


def test_a_loaded_fit_does_not_hold_its_file(eb_fit: bc.Fit, tmp_path: Path) -> None:
    eb_fit.save(tmp_path / "fit.nc")
    loaded = bc.load(tmp_path / "fit.nc")
    loaded.save(tmp_path / "fit.nc")
    (tmp_path / "fit.nc").unlink()
    xr.testing.assert_identical(loaded.harmonized, eb_fit.harmonized)


def test_file_without_data_holds_no_rows(fit: bc.Fit, study: bc.Study, tmp_path: Path) -> None:
    fit.save(tmp_path / "fit.nc", data=False)
    tree = xr.load_datatree(tmp_path / "fit.nc", engine="h5netcdf")
    assert groups(tree) == groups(fit.tree) - ROWS
    assert all(rows_of(node.to_dataset()) == 0 for node in tree.subtree)
    sizes = {size for node in tree.subtree for size in node.sizes.values()}
    assert len(study.obs) not in sizes


def test_fit_without_data_says_so_and_harmonizes_rows(fit: bc.Fit, new_table: pd.DataFrame, tmp_path: Path) -> None:
    fit.save(tmp_path / "fit.nc", data=False)
    loaded = bc.load(tmp_path / "fit.nc")
    with pytest.raises(DataError, match=r"saved without data. Give the rows: fit.harmonize\(table\)"):
        _ = loaded.harmonized
    xr.testing.assert_identical(loaded.harmonize(new_table), fit.harmonize(new_table))
    assert (loaded.verdict, loaded.tree.attrs["formula"]) == (fit.verdict, "age + sex")


def test_file_says_how_it_was_made(nuts_fit: bc.Fit, tmp_path: Path) -> None:
    nuts_fit.save(tmp_path / "fit.nc")
    attrs = xr.load_datatree(tmp_path / "fit.nc", engine="h5netcdf").attrs
    assert {"pymc-combat", "pymc", "nutpie", "numpy", "xarray"} <= set(json.loads(attrs["versions"]))
    assert json.loads(attrs["versions"])["numpy"] == np.__version__
    assert json.loads(attrs["settings"])["seed"] == 1
    assert json.loads(attrs["priors"])["gamma_sd_median"] == 0.5
    assert (attrs["method"], attrs["formula"]) == ("nuts", "age + sex")
    assert (attrs["verdict"], attrs["converged"]) == (nuts_fit.verdict, 1)
    assert (attrs["format"], attrs["kind"]) == ("bayescombat", "fit")


def test_file_of_empirical_bayes_says_how_it_was_made(study: bc.Study, tmp_path: Path) -> None:
    bc.fit(study, method="eb", shrinkage="nonparametric", mean_only=True).save(tmp_path / "fit.nc")
    attrs = xr.load_datatree(tmp_path / "fit.nc", engine="h5netcdf").attrs
    expected = {"shrinkage": "nonparametric", "mean_only": True, "compat": None, "shared_factors": 0}
    assert json.loads(attrs["settings"]) == expected


def test_file_holds_numbers_and_text_only(fit: bc.Fit, tmp_path: Path) -> None:
    fit.save(tmp_path / "fit.nc")
    other = []

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            text = h5py.check_string_dtype(item.dtype) is not None
            if not text and item.dtype.kind not in "iufb":
                other.append(name)

    with h5py.File(tmp_path / "fit.nc") as file:
        file.visititems(visit)
        other += [
            name
            for name, value in file.attrs.items()
            if not isinstance(value, str | bytes) and np.asarray(value).dtype.kind not in "iuf"
        ]
    assert other == []


def test_crash_while_writing_leaves_the_old_file(fit: bc.Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fit.nc"
    fit.save(path)
    before = path.read_bytes()
    whole = xr.DataTree.to_netcdf

    def half(self: xr.DataTree, filepath: Path, **options: Any) -> None:
        whole(self, filepath, **options)
        Path(filepath).write_bytes(Path(filepath).read_bytes()[:1000])
        raise OSError("No space left on device")

    monkeypatch.setattr(xr.DataTree, "to_netcdf", half)
    with pytest.raises(OSError, match="No space left"):
        fit.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_crash_while_writing_leaves_no_file(eb_fit: bc.Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(self: xr.DataTree, filepath: Path, **options: Any) -> None:
        Path(filepath).write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(xr.DataTree, "to_netcdf", half)
    with pytest.raises(OSError, match="No space left"):
        eb_fit.save(tmp_path / "fit.nc")
    assert list(tmp_path.iterdir()) == []


def test_saving_leaves_one_file(eb_fit: bc.Fit, tmp_path: Path) -> None:
    eb_fit.save(tmp_path / "fit.nc")
    eb_fit.save(tmp_path / "fit.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["fit.nc"]


@pytest.mark.parametrize("content", [b"", b"no netCDF at all", b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_a_file_that_is_no_netcdf_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fit.nc").write_bytes(content)
    with pytest.raises(FileFormatError, match="found something else"):
        bc.load(tmp_path / "fit.nc")


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_half_a_file_is_refused(eb_fit: bc.Fit, tmp_path: Path, share: float) -> None:
    eb_fit.save(tmp_path / "fit.nc")
    content = (tmp_path / "fit.nc").read_bytes()
    (tmp_path / "fit.nc").write_bytes(content[: int(share * len(content))])
    with pytest.raises(FileFormatError, match="found something else"):
        bc.load(tmp_path / "fit.nc")


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(FileFormatError, match="found a file of another program"):
        bc.load(tmp_path / "other.nc")


def test_a_file_of_a_later_version_is_refused(eb_fit: bc.Fit, tmp_path: Path) -> None:
    eb_fit.save(tmp_path / "fit.nc")
    with h5py.File(tmp_path / "fit.nc", "a") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(FileFormatError, match="format version 99.*Update bayescombat"):
        bc.load(tmp_path / "fit.nc")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.nc"):
        bc.load(tmp_path / "nothing.nc")


def test_empirical_bayes_and_files_need_no_sampler(nuts_fit: bc.Fit, tmp_path: Path) -> None:
    nuts_fit.save(tmp_path / "fit.nc")
    code = """if True:
        import sys, bayescombat as bc
        fit = bc.load(sys.argv[1])
        fit.harmonized
        bc.fit(fit.study, method="eb").harmonized
        print(*{"pymc", "pytensor", "nutpie"} & set(sys.modules))
    """
    command = [sys.executable, "-c", code, str(tmp_path / "fit.nc")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    assert done.stdout.split() == []


# ---------------------------------------------------------------- arguments that cannot be


@pytest.mark.parametrize("method", ["ml", "NUTS", None])
def test_unknown_methods_are_refused(study: bc.Study, method: Any) -> None:
    with pytest.raises(BayesCombatError, match="Expected method to be 'nuts' or 'eb'"):
        bc.fit(study, method=method)


def test_a_method_in_capitals_gets_a_suggestion(study: bc.Study) -> None:
    with pytest.raises(BayesCombatError, match=r"found 'EB'\. Did you mean 'eb'\?"):
        bc.fit(study, method="EB")


@pytest.mark.parametrize("option", [{"shrinkage": "none"}, {"compat": "sva"}])
def test_arguments_of_empirical_bayes_are_refused_with_nuts(study: bc.Study, option: dict[str, Any]) -> None:
    with pytest.raises(BayesCombatError, match="belong to method='eb'"):
        bc.fit(study, **option)


@pytest.mark.parametrize(
    "option",
    [
        {"priors": bc.Priors()},
        {"draws": 10},
        {"tune": 10},
        {"chains": 2},
        {"cores": 1},
        {"seed": 1},
        {"target_accept": 0.8},
        {"progress_bar": False},
    ],
    ids=lambda option: next(iter(option)),
)
def test_arguments_of_nuts_are_refused_with_empirical_bayes(study: bc.Study, option: dict[str, Any]) -> None:
    with pytest.raises(BayesCombatError, match=f"belong to method='nuts': '{next(iter(option))}'"):
        bc.fit(study, method="eb", **option)


@pytest.mark.parametrize(
    ("option", "value"),
    [("shrinkage", "some"), ("shrinkage", None), ("compat", "neuroCombat")],
)
def test_unknown_choices_of_empirical_bayes_are_refused(study: bc.Study, option: str, value: Any) -> None:
    with pytest.raises(BayesCombatError, match=f"Expected {option} to be .*found {value!r}"):
        bc.fit(study, method="eb", **{option: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("draws", 3),
        ("draws", 100.0),
        ("tune", 0),
        ("chains", 0),
        ("cores", 0),
        ("target_accept", 0.0),
        ("target_accept", 1.0),
        ("seed", -1),
        ("seed", 1.5),
        ("seed", "one"),
        ("backend", "torch"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_compiled(name: str, value: Any) -> None:
    with pytest.raises(BayesCombatError, match=f"Expected {name} .*found {value!r}"):
        Settings(**{name: value})


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_study_is_refused(simulation: bc.datasets.Simulation, method: Any) -> None:
    with pytest.raises(DataError, match=r"Expected a Study or Moments, found DataFrame.*Study.from_dataframe"):
        bc.fit(simulation.table, method=method)  # type: ignore[arg-type]


def test_unknown_target_names_the_known(fit: bc.Fit, study: bc.Study) -> None:
    with pytest.raises(UnseenBatchError, match="'site_01', 'site_02'.*found 'site_1'. Did you mean 'site_01'"):
        fit.harmonize(study, target="site_1")


def test_unknown_target_of_draws_names_the_known(nuts_fit: bc.Fit) -> None:
    with pytest.raises(UnseenBatchError, match="found 'elsewhere'"):
        nuts_fit.draws(2, target="elsewhere")


@pytest.mark.parametrize("probability", [0, 1, -0.1, 90, float("nan")])
def test_impossible_probabilities_are_refused(fit: bc.Fit, study: bc.Study, probability: float) -> None:
    with pytest.raises(BayesCombatError, match="Expected a probability between 0 and 1"):
        fit.harmonize(study, probability=probability)


def test_empirical_bayes_has_no_draws(eb_fit: bc.Fit) -> None:
    with pytest.raises(BayesCombatError, match="Expected a fit by NUTS, found empirical-Bayes estimates"):
        eb_fit.draws()


@pytest.mark.parametrize("n", [0, -1, 2001])
def test_impossible_numbers_of_draws_are_refused(nuts_fit: bc.Fit, n: int) -> None:
    with pytest.raises(BayesCombatError, match=f"Expected n between 1 and the fit's 2000 draws, found {n}"):
        nuts_fit.draws(n)


# ---------------------------------------------------------------- Ctrl-C while sampling


type Sampler = Any


@pytest.fixture
def background_sampler() -> type[Sampler]:
    """The class of nutpie whose `wait` the package waits for."""
    return importlib.import_module("nutpie.sample")._BackgroundSampler


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    """Hold the compiled model of the tiny study, which the tests of Ctrl-C share."""
    return {}


@pytest.fixture
def compile_once(monkeypatch: pytest.MonkeyPatch, compiled: dict[str, Any]) -> None:
    """Compile the tiny study once for all tests of Ctrl-C, which are about what comes afterwards."""
    compile_model = nutpie.compile_pymc_model

    def compile_or_recall(model: Any, **options: Any) -> Any:
        if "model" not in compiled:
            compiled["model"] = compile_model(model, **options)
        return compiled["model"]

    monkeypatch.setattr(nutpie, "compile_pymc_model", compile_or_recall)


@pytest.fixture
def interrupted_after(
    background_sampler: type[Sampler], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[np.ndarray], bool]], None]:
    """Return a function that arranges for a real Ctrl-C once the draws so far of the chains satisfy a condition."""
    wait = background_sampler.wait

    def arrange(enough: Callable[[np.ndarray], bool]) -> None:
        def wait_and_be_interrupted(self: Sampler, **options: Any) -> xr.DataTree:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                if enough(draws_so_far(self)):
                    break
                time.sleep(0.05)
            threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            return wait(self, **options)

        monkeypatch.setattr(background_sampler, "wait", wait_and_be_interrupted)

    return arrange


def draws_so_far(sampler: Sampler) -> np.ndarray:
    """Return how many draws each chain has, (chain,)."""
    with warnings.catch_warnings():
        # ArviZ wonders at chains that have hardly begun.
        warnings.simplefilter("ignore")
        tree = sampler.inspect()
    if "energy" not in tree["sample_stats"]:
        return np.zeros(1)
    return np.isfinite(tree["sample_stats"]["energy"].values).sum(axis=1)


def fit_endlessly(study: bc.Study, **options: Any) -> bc.Fit:
    """Fit with so many draws that sampling does not end by itself. A Ctrl-C that comes out fails the test."""
    try:
        return bc.fit(study, chains=2, seed=3, progress_bar=False, **({"tune": 50, "draws": 200_000} | options))
    except KeyboardInterrupt:
        pytest.fail("the draws so far are lost")


@pytest.mark.usefixtures("compile_once")
@pytest.mark.filterwarnings("ignore::bayescombat.errors.BatchSizeWarning")
def test_row_20_interrupt_returns_the_draws_so_far(
    tiny_study: bc.Study, interrupted_after: Callable[..., None]
) -> None:
    # Of chains far apart the longer alone may hold more draws, and would be kept alone.
    interrupted_after(lambda draws: bool(draws.min() >= 20 and draws.min() > 0.75 * draws.max()))
    with pytest.warns(ConvergenceWarning, match=r"sampling was interrupted after \d+ of 400000 draws"):
        fit = fit_endlessly(tiny_study, cores=2, tune=200)
    sizes = fit.parameters.sizes
    assert sizes["chain"] == 2 and 20 <= sizes["draw"] < 200_000
    assert not fit.converged and f"interrupted after {sizes['chain'] * sizes['draw']} of" in fit.verdict
    assert np.isfinite(fit.harmonized["mean"]).all()


@pytest.mark.usefixtures("compile_once")
@pytest.mark.filterwarnings("ignore::bayescombat.errors.BayesCombatWarning")
def test_row_20_interrupt_keeps_the_chains_that_had_started(
    tiny_study: bc.Study, interrupted_after: Callable[..., None]
) -> None:
    # With fewer cores than chains, the last chains have not begun when the first ones have draws.
    interrupted_after(lambda draws: bool((draws >= 20).any()))
    fit = fit_endlessly(tiny_study, cores=1)
    assert fit.parameters.sizes["draw"] >= 20 and not fit.converged


@pytest.mark.usefixtures("compile_once")
@pytest.mark.filterwarnings("ignore::bayescombat.errors.BatchSizeWarning")
def test_row_20_interrupt_before_any_draw_is_raised(
    tiny_study: bc.Study, background_sampler: type[Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Sampler, **options: Any) -> xr.DataTree:
        raise KeyboardInterrupt

    monkeypatch.setattr(background_sampler, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt, match="before there were draws to keep"):
        bc.fit(tiny_study, chains=2, tune=200_000, draws=10, seed=3, progress_bar=False)
