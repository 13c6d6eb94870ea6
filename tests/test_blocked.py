"""Blocks are what separate fits are, whatever happened on the way; a store is whole or not in its place."""

import os
import signal
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import bayescombat as bc
from bayescombat.errors import BatchSizeWarning, BayesCombatError, ConvergenceWarning, DataError, FeatureWarning
from bayescombat.fit import blocked
from bayescombat.fit.blockstore import BlockStore

# Real but too few: these tests are of plumbing.
SETTINGS: dict[str, Any] = {"chains": 2, "tune": 50, "draws": 40, "seed": 5, "progress_bar": False}
SIZE = 2
CONSTANT = "feature_2"

pytest.importorskip("zarr", reason="zarr is not installed")


def study_of(features: list[str] | None = None) -> bc.Study:
    """Three sites, one of a single scan, with age, four features that vary and one between them that does not."""
    simulation = bc.datasets.simulate((12, 9, 1), features=5, seed=2)
    table = simulation.table.assign(**{CONSTANT: 1.5})
    features = features or list(simulation.features)
    return bc.Study.from_dataframe(table, batch="site", covariates="age", features=features)


def in_blocks(path: Path, study: bc.Study | bc.ChunkedStudy | None = None, **options: Any) -> xr.DataTree:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        study = study_of() if study is None else study
        return bc.fit_blocks(study, path, **({"block_size": SIZE, "probability": 0.9} | SETTINGS | options))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of two blocks of `study_of()`, fitted one after the other."""
    path = tmp_path_factory.mktemp("blocks") / "whole.zarr"
    in_blocks(path, cores=1)
    return path


@pytest.fixture
def tree(path: Path) -> xr.DataTree:
    return xr.open_datatree(path, engine="zarr", consolidated=False).load()


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the blocks that are fitted from here on."""
    numbers, fit = [], blocked.fitted_block

    def counted(part: bc.Study, kept: np.ndarray, block: Any, *others: Any, **options: Any) -> Any:
        numbers.append(block.number)
        return fit(part, kept, block, *others, **options)

    monkeypatch.setattr(blocked, "fitted_block", counted)
    return numbers


@pytest.fixture
def at_write(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[..., None]], None]:
    """Return a function that arranges for something else to happen in place of the nth write of a block."""
    write = BlockStore.write

    def arrange(nth: int, happen: Callable[..., None]) -> None:
        count = iter(range(1, nth + 1))

        def write_or(self: BlockStore, block: Any, found: Any) -> None:
            (happen if next(count, None) == nth else write)(self, block, found)

        monkeypatch.setattr(BlockStore, "write", write_or)

    return arrange


@pytest.mark.parametrize(
    ("number", "features"), [(0, ["feature_0", "feature_1", CONSTANT]), (1, ["feature_3", "feature_4"])]
)
def test_a_block_is_a_fit_of_its_features_bit_for_bit(tree: xr.DataTree, number: int, features: list[str]) -> None:
    seed = int(tree["blocks"]["seed"][number])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        fit = bc.fit(study_of(features), **(SETTINGS | {"seed": seed}))
    found = tree["harmonized"].to_dataset().sel(feature=features)
    for name in ("mean", "sd", "lower", "upper"):
        np.testing.assert_array_equal(found[name], fit.harmonized[name])
    draws, diagnostics = fit.parameters, fit.tree["diagnostics"]
    expected = {"mean": draws.mean(("chain", "draw")), "sd": draws.std(("chain", "draw"), ddof=1)}
    expected |= {name: diagnostics[name].to_dataset() for name in ("rhat", "ess_bulk", "ess_tail")}
    modelled = [feature for feature in features if feature != CONSTANT]
    for summary, arrays in expected.items():
        stored = tree["parameters"].to_dataset().sel(summary=summary, feature=modelled, block=number)
        for name, array in arrays.data_vars.items():
            np.testing.assert_array_equal(stored[name].transpose(*array.dims), array)
    assert str(tree["blocks"]["verdict"][number].item()) == fit.verdict


def test_holes_logarithms_and_a_reference_are_as_in_a_fit(tmp_path: Path) -> None:
    simulation = bc.datasets.simulate((10, 8, 7), features=4, seed=3)
    names = list(simulation.features)
    table = simulation.table.assign(**{name: np.exp(0.1 * simulation.table[name]) for name in names})
    table.loc[table.index[3], "feature_1"] = np.nan
    roles = {"batch": "site", "covariates": "age", "transform": "log", "reference": "site_02"}
    tree = in_blocks(tmp_path / "out.zarr", bc.Study.from_dataframe(table, features=names, **roles))
    found = tree["harmonized"].to_dataset().isel(feature=slice(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        study = bc.Study.from_dataframe(table, features=names[:2], **roles)
        expected = bc.fit(study, **(SETTINGS | {"seed": int(tree["blocks"]["seed"][0])})).harmonized
    assert found.attrs == expected.attrs
    for name in ("mean", "sd", "lower", "upper"):
        np.testing.assert_array_equal(found[name], expected[name])
    assert np.isnan(found["mean"]).sum() == 1


def test_dimensions_and_labels(tree: xr.DataTree) -> None:
    study = study_of()
    harmonized, parameters = tree["harmonized"], tree["parameters"]
    assert harmonized["mean"].dims == ("obs", "feature")
    assert harmonized["mean"].attrs == {"units": "feature units"}
    assert list(harmonized["feature"].values) == list(study.features)
    np.testing.assert_array_equal(harmonized["obs"], study.obs)
    np.testing.assert_array_equal(harmonized["set_aside"], np.array(study.features) == CONSTANT)
    assert list(parameters["feature"].values) == [name for name in study.features if name != CONSTANT]
    assert list(parameters["summary"].values) == ["mean", "sd", "rhat", "ess_bulk", "ess_tail"]
    assert parameters["beta"].dims == ("summary", "feature", "covariate")
    assert parameters["gamma"].dims == ("summary", "batch", "feature")
    assert list(parameters["batch"].values) == ["site_01", "site_02", "site_03"]
    assert parameters["gamma_sd"].dims == ("block", "summary", "batch")
    assert parameters["gamma_sd"].attrs["units"] == "sigma"
    assert dict(tree["blocks"].sizes) == {"block": 2}
    assert list(tree["blocks"]["first"].values) == ["feature_0", "feature_3"]


def test_constant_features_come_back_as_they_came(tree: xr.DataTree) -> None:
    found = tree["harmonized"].to_dataset().sel(feature=CONSTANT)
    np.testing.assert_array_equal(found["mean"], 1.5)
    np.testing.assert_array_equal(found["sd"], 0.0)


def test_no_number_is_missing(tree: xr.DataTree) -> None:
    for group in ("harmonized", "parameters"):
        for array in tree[group].to_dataset().data_vars.values():
            assert np.isfinite(array.values).all()


def test_after_an_interrupt_only_missing_blocks_are_fitted_and_the_store_is_the_same(
    tree: xr.DataTree,
    tmp_path: Path,
    fitted: list[int],
    at_write: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "out.zarr"
    at_write(2, lambda *arguments: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match=r"1 of 2 blocks are finished and kept in '.*out\.zarr\.unfinished'"):
        in_blocks(path, cores=1)
    assert [item.name for item in tmp_path.iterdir()] == ["out.zarr.unfinished"]
    fitted.clear()
    # The seed is that of the store.
    found = in_blocks(path, seed=None, cores=2)
    assert fitted == [1]
    xr.testing.assert_identical(found.load(), tree)
    assert [item.name for item in tmp_path.iterdir()] == ["out.zarr"]


def test_a_block_that_is_written_in_part_is_not_taken_for_whole(
    tree: xr.DataTree, tmp_path: Path, fitted: list[int], at_write: Callable[..., None]
) -> None:
    def fail_halfway(self: BlockStore, block: Any, found: dict[str, xr.Dataset]) -> None:
        cut = {"parameters": found["parameters"].isel(batch=slice(2))}
        write(self, block, found | cut)

    write, path = BlockStore.write, tmp_path / "out.zarr"
    at_write(2, fail_halfway)
    with pytest.raises(ValueError, match="shape"):
        in_blocks(path, cores=1)
    assert not path.exists()
    fitted.clear()
    found = in_blocks(path)
    assert fitted == [1]
    xr.testing.assert_identical(found.load(), tree)


def test_an_interrupt_is_heard_while_blocks_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = blocked.fitted_block

    def interrupted(*arguments: Any, **options: Any) -> Any:
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        return fit(*arguments, **options)

    monkeypatch.setattr(blocked, "fitted_block", interrupted)
    with pytest.raises(KeyboardInterrupt, match="before the first of 2 blocks"):
        in_blocks(tmp_path / "out.zarr", tune=50_000, cores=1)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_store_is_opened_and_nothing_is_fitted(path: Path, fitted: list[int], tree: xr.DataTree) -> None:
    assert in_blocks(path)["harmonized"]["mean"].identical(tree["harmonized"]["mean"])
    assert fitted == []


def test_another_study_and_other_settings_are_refused(path: Path) -> None:
    study = study_of()
    y = study.y.copy()
    y[0, 0] += 1e-9
    with pytest.raises(DataError, match="Expected blocks of this study at .* found those of another"):
        in_blocks(path, replace(study, y=y))
    with pytest.raises(BayesCombatError, match=r"found draws=40, not 41; block_size=2, not 3\. Ask for the same"):
        in_blocks(path, draws=41, block_size=3)
    with pytest.raises(BayesCombatError, match=r"found priors\.gamma_sd_median=.*, not 0\.1\."):
        in_blocks(path, priors=bc.Priors(gamma_sd_median=0.1))


def test_what_is_no_store_of_blocks_is_left_alone(tmp_path: Path) -> None:
    xr.Dataset({"a": ("x", [1.0])}).to_zarr(tmp_path / "other.zarr", zarr_format=2, consolidated=False)
    (tmp_path / "file").write_text("mine")
    for name in ("other.zarr", "file"):
        with pytest.raises(bc.FileFormatError, match="Expected nothing, or blocks"):
            in_blocks(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="Expected a folder"):
        in_blocks(tmp_path / "nowhere" / "out.zarr")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "other.zarr"]


def test_arguments_are_checked_before_anything_is_fitted(tmp_path: Path) -> None:
    with pytest.raises(BayesCombatError, match="block_size to be a whole number of at least 1, found 0"):
        in_blocks(tmp_path / "out.zarr", block_size=0)
    with pytest.raises(BayesCombatError, match="Expected a Study or a ChunkedStudy, found Moments"):
        in_blocks(tmp_path / "out.zarr", bc.Moments.from_study(study_of()))  # type: ignore[arg-type]
    with pytest.raises(BayesCombatError, match="probability between 0 and 1, found 2"):
        in_blocks(tmp_path / "out.zarr", probability=2)


def test_warnings_are_given_once_and_blocks_that_did_not_converge_are_named(tmp_path: Path) -> None:
    with pytest.warns(bc.BayesCombatWarning) as said:
        bc.fit_blocks(study_of(), tmp_path / "out.zarr", SIZE, cores=1, **SETTINGS)
    assert [item.category for item in said] == [FeatureWarning, BatchSizeWarning, ConvergenceWarning]
    assert "2 of 2 blocks are not to be trusted as they stand" in str(said[-1].message)
    assert "'feature_0', 'feature_3'" in str(said[-1].message)
    assert {item.filename for item in said} == {__file__}


def test_a_progress_bar_is_shown_unless_it_is_not_wanted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_blocks(path)
    assert capsys.readouterr().out == ""
    in_blocks(path, progress_bar=True)
    assert "2/2" in capsys.readouterr().out


def test_a_study_in_chunks_gives_the_same(tree: xr.DataTree, tmp_path: Path) -> None:
    pytest.importorskip("dask")
    study = study_of()
    table = bc.datasets.simulate((12, 9, 1), features=5, seed=2).table
    coords = {"feature": list(study.features), **{name: ("obs", list(table[name])) for name in ("site", "age")}}
    values = xr.DataArray(study.y, coords, ("obs", "feature")).chunk({"feature": 3})
    chunked = bc.ChunkedStudy.from_xarray(values, batch="site", covariates="age")
    found = in_blocks(tmp_path / "out.zarr", chunked)
    np.testing.assert_array_equal(found["harmonized"]["mean"], tree["harmonized"]["mean"])


@pytest.mark.slow
def test_two_distributed_workers_give_the_same(tree: xr.DataTree, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = in_blocks(tmp_path / "out.zarr", client=client)
    xr.testing.assert_identical(found.load(), tree)


def test_bounds_are_left_out_unless_they_are_asked_for(eb_fit: bc.Fit, nuts_fit: bc.Fit) -> None:
    without = nuts_fit.harmonize(nuts_fit.study, probability=None)
    assert set(without.data_vars) == {"mean", "sd"} and "probability" not in without.attrs
    xr.testing.assert_identical(without["sd"], nuts_fit.harmonized["sd"])
    assert set(eb_fit.harmonize(eb_fit.study, probability=None).data_vars) == {"mean"}
