"""neurocombat: neuroCombat's arguments, and everything that it returns."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import bayescombat as bc
from benchmarks.parity import TESTDATA

OPTIONS: list[dict[str, Any]] = [
    {},
    {"eb": False},
    {"parametric": False},
    {"mean_only": True},
    {"ref_batch": "b"},
    {"ref_batch": "b", "mean_only": True, "parametric": False},
]
EVERY_OPTION = pytest.mark.parametrize("options", OPTIONS, ids=str)
COLUMNS: dict[str, Any] = {"batch_col": "site", "categorical_cols": ["sex", "group"], "continuous_cols": "age"}
# MATLAB's fixed point stops earlier.
CLOSE = {"r": 1e-11, "matlab": 2e-4}
CONFIGURATIONS = TESTDATA + [
    f"{prior}_{design}_matlab" for prior in ("parametric", "nonparametric") for design in ("adjusted", "unadjusted")
]


def scans(n: int = 30, features: int = 8, seed: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    """Measurements (feature, scan) of three sites in turn, and their covariates."""
    rng = np.random.default_rng(seed)
    site = np.arange(n) % 3
    covars = pd.DataFrame(
        {
            "site": np.array(["c", "a", "b"])[site],
            "sex": rng.choice(["M", "F"], n),
            "group": rng.choice([1, 2, 10], n),
            "age": rng.normal(50, 10, n),
        }
    )
    shifts, scales = rng.normal(size=(features, 3)), rng.uniform(0.5, 2, (features, 3))
    dat = 5 + shifts[:, site] + scales[:, site] * rng.normal(size=(features, n)) + 0.02 * covars["age"].to_numpy()
    return dat, covars


def harmonized(dat: Any, covars: Any, **options: Any) -> dict[str, Any]:
    return bc.neurocombat(dat, covars, **COLUMNS | options)


@EVERY_OPTION
def test_values_are_those_of_a_fit(options: dict[str, Any]) -> None:
    dat, covars = scans()
    found = harmonized(dat, covars, **options)
    table = covars.join(pd.DataFrame(dat.T).add_prefix("v"))
    study = bc.Study.from_dataframe(
        table, batch="site", covariates="age + sex + C(group)", features="^v", reference=options.get("ref_batch")
    )
    shrinkage = "none" if not options.get("eb", True) else "parametric" if options.get("parametric", True) else None
    fit = bc.fit(
        study,
        method="eb",
        compat="sva",
        shrinkage=shrinkage or "nonparametric",
        mean_only=options.get("mean_only", False),
    )
    np.testing.assert_allclose(found["data"].T, fit.harmonized["mean"], rtol=1e-12)


@EVERY_OPTION
def test_estimates_are_what_neurocombat_calls_by_their_names(options: dict[str, Any]) -> None:
    dat, covars = scans()
    found = harmonized(dat, covars, **options)
    info, estimates = found["info"], found["estimates"]
    reference, mean_only = info["ref_level"], options.get("mean_only", False)
    batches = [np.flatnonzero(covars["site"] == site) for site in "abc"]
    design = info["design"]
    coefficients = np.linalg.lstsq(design, dat.T)[0]
    residuals = dat - (design @ coefficients).T
    told = slice(None) if reference is None else batches[reference]
    variance = (residuals[:, told] ** 2).mean(axis=1)
    share = np.array([len(rows) / dat.shape[1] for rows in batches])
    grand = coefficients[reference] if reference is not None else share @ coefficients[:3]
    added = (design[:, 3:] @ coefficients[3:]).T
    standard = (dat - grand[:, None] - added) / np.sqrt(variance)[:, None]
    shifts = np.linalg.lstsq(design[:, :3], standard.T)[0]
    scales = np.array([standard[:, rows].var(axis=1, ddof=1) for rows in batches])
    expected = {
        "var.pooled": variance[:, None],
        "stand.mean": np.repeat(grand[:, None], dat.shape[1], axis=1),
        "mod.mean": added,
        "gamma_hat": shifts,
        "delta_hat": np.ones_like(scales) if mean_only else scales,
        "gamma_bar": shifts.mean(axis=1),
        "t2": shifts.var(axis=1, ddof=1),
    }
    for name, values in expected.items():
        assert np.shape(estimates[name]) == values.shape, name
        np.testing.assert_allclose(estimates[name], values, rtol=1e-9, atol=1e-9, err_msg=name)
    assert (estimates["a_prior"] is None, estimates["b_prior"] is None) == (mean_only, mean_only)
    if not mean_only:
        mean, spread = scales.mean(axis=1), scales.var(axis=1, ddof=1)
        # All scales of a reference batch are one number, and what varies of them is rounding.
        others = [i for i in range(3) if i != reference]
        a, b = (np.array(estimates[name])[others] for name in ("a_prior", "b_prior"))
        np.testing.assert_allclose(a, ((2 * spread + mean**2) / spread)[others])
        np.testing.assert_allclose(b, ((mean * spread + mean**3) / spread)[others])
    moved = standard - (design[:, :3] @ estimates["gamma.star"]).T
    moved /= np.sqrt(estimates["delta.star"])[(covars["site"].map({"a": 0, "b": 1, "c": 2})).to_numpy()].T
    np.testing.assert_allclose(moved * np.sqrt(variance)[:, None] + grand[:, None] + added, found["data"], rtol=1e-9)


def test_what_is_returned_has_the_keys_of_neurocombat() -> None:
    found = harmonized(*scans())
    assert set(found) == {"data", "estimates", "info"}
    of_effects = {"gamma_hat", "delta_hat", "gamma_bar", "t2", "a_prior", "b_prior", "gamma.star", "delta.star"}
    assert set(found["estimates"]) == of_effects | {"batches", "var.pooled", "stand.mean", "mod.mean"}
    sizes = {"n_batch", "n_sample", "sample_per_batch"}
    assert set(found["info"]) == sizes | {"batch_levels", "ref_level", "batch_info", "design"}
    assert isinstance(found["estimates"]["delta_hat"], list) and isinstance(found["estimates"]["a_prior"], list)


def test_the_design_and_the_batches_are_told() -> None:
    dat, covars = scans()
    info = harmonized(dat, covars, ref_batch="b")["info"]
    sites = pd.get_dummies(covars["site"], dtype=float).assign(b=1.0)
    groups = [covars["sex"] == "M", covars["group"] == 2, covars["group"] == 10, covars["age"]]
    np.testing.assert_array_equal(info["design"], np.column_stack([sites, *groups]))
    assert (list(info["batch_levels"]), info["ref_level"], info["n_batch"], info["n_sample"]) == (list("abc"), 1, 3, 30)
    assert info["sample_per_batch"].tolist() == [10, 10, 10]
    assert info["batch_info"] == [np.flatnonzero(covars["site"] == site).tolist() for site in "abc"]


def test_batches_are_ordered_as_neurocombat_orders_them() -> None:
    dat, covars = scans()
    texts = harmonized(dat, covars.assign(site=covars["site"].map({"a": "9", "b": "10", "c": "8"})))
    numbers = harmonized(dat, covars.assign(site=covars["site"].map({"a": 9, "b": 10, "c": 8})))
    letters = harmonized(dat, covars)
    assert list(texts["info"]["batch_levels"]) == ["10", "8", "9"]
    assert list(numbers["info"]["batch_levels"]) == [8, 9, 10]
    for name in ("gamma.star", "delta.star", "gamma_hat"):
        of_letters = letters["estimates"][name]
        np.testing.assert_allclose(texts["estimates"][name], of_letters[[1, 2, 0]], rtol=1e-9)
        np.testing.assert_allclose(numbers["estimates"][name], of_letters[[2, 0, 1]], rtol=1e-9)


def test_labels_of_several_kinds_have_an_order() -> None:
    dat, covars = scans()
    mixed = covars["site"].map({"a": 1, "b": "x", "c": 2.5}).astype(object)
    assert list(harmonized(dat, covars.assign(site=mixed))["info"]["batch_levels"]) == [1, 2.5, "x"]


@pytest.mark.parametrize("kind", ["pandas", "polars", "mapping"])
def test_tables_of_any_kind_will_do_and_stay_as_they_are(kind: str) -> None:
    dat, covars = scans()
    expected = harmonized(dat, covars)["data"]
    frames = {
        "pandas": (pd.DataFrame(dat, columns=[f"scan-{j}" for j in range(30)]), covars.set_index(covars.index + 100)),
        "polars": (pl.DataFrame(dat), pl.from_pandas(covars)),
        "mapping": (dat.tolist(), covars.to_dict("list")),
    }
    given = frames[kind]
    before = [part.copy() if kind == "pandas" else part for part in given]
    np.testing.assert_array_equal(harmonized(*given)["data"], expected)
    if kind == "pandas":
        for one, other in zip(given, before, strict=True):
            pd.testing.assert_frame_equal(one, other)


def test_a_missing_cell_stays_missing_and_spoils_no_other() -> None:
    dat, covars = scans()
    dat[2, 5] = np.nan
    found = harmonized(dat, covars)
    np.testing.assert_array_equal(np.isnan(found["data"]), np.isnan(dat))
    for name in ("gamma.star", "delta.star", "var.pooled", "stand.mean", "mod.mean", "gamma_hat", "delta_hat"):
        assert np.isfinite(found["estimates"][name]).all(), name
    # The grand mean and what covariates add are those of the scans that were observed.
    seen = ~np.isnan(dat[2])
    design = found["info"]["design"]
    expected = np.linalg.lstsq(design[seen], dat[2, seen])[0]
    np.testing.assert_allclose(found["estimates"]["stand.mean"][2], design[seen, :3].mean(axis=0) @ expected[:3])
    np.testing.assert_allclose(found["estimates"]["mod.mean"][2], design[:, 3:] @ expected[3:])
    # sva would divide every variance by one scan less: 1.7 %.
    whole = harmonized(scans()[0], covars)
    for name, axis in (("var.pooled", 0), ("delta_hat", 1)):
        others = (np.delete(part["estimates"][name], 2, axis) for part in (found, whole))
        np.testing.assert_allclose(*others, rtol=1e-10)


def test_a_batch_of_one_scan_leaves_the_scales_of_the_others() -> None:
    dat, covars = scans()
    covars.loc[29, "site"] = "z"
    with pytest.warns(bc.BatchSizeWarning, match="'z'. That scan tells nothing of the scale"):
        found = harmonized(dat, covars)
    assert np.isfinite(found["data"]).all()
    assert (found["estimates"]["delta.star"][3] == 1).all() and (found["estimates"]["delta_hat"][3] == 1).all()
    assert found["estimates"]["delta.star"][:3].std() > 0.1
    assert found["estimates"]["a_prior"][3] == np.inf


def test_constant_features_come_back_and_influence_no_other() -> None:
    dat, covars = scans()
    expected = harmonized(dat, covars)
    with_constant = np.insert(dat, 3, 0.1, axis=0)
    with pytest.warns(bc.FeatureWarning, match="feature_3"):
        found = harmonized(with_constant, covars)
    assert (found["data"][3] == 0.1).all()
    np.testing.assert_array_equal(np.delete(found["data"], 3, axis=0), expected["data"])
    for name in ("gamma.star", "delta.star", "gamma_hat", "delta_hat"):
        np.testing.assert_array_equal(np.delete(found["estimates"][name], 3, axis=1), expected["estimates"][name])
    assert (found["estimates"]["gamma.star"][:, 3] == 0).all() and (found["estimates"]["delta.star"][:, 3] == 1).all()
    assert found["estimates"]["var.pooled"][3] == 1
    np.testing.assert_allclose(found["estimates"]["stand.mean"][3], 0.1, rtol=1e-14)
    again = bc.neurocombat_from_training(with_constant, covars["site"], found["estimates"])["data"]
    np.testing.assert_allclose(again[3], 0.1, rtol=1e-14)


def test_one_feature_is_not_shrunken() -> None:
    dat, covars = scans(features=1)
    with pytest.warns(bc.PoolingWarning):
        found = harmonized(dat, covars)
    np.testing.assert_array_equal(found["estimates"]["gamma.star"], found["estimates"]["gamma_hat"])
    assert np.isnan(found["estimates"]["t2"]).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_col": "sight"}, "the batch column 'sight'.*Did you mean 'site'"),
        ({"continuous_cols": ["agee"]}, "the covariate 'agee'"),
        ({"continuous_cols": ["sex"]}, "numbers in the continuous covariate 'sex'.*categorical_cols"),
        ({"ref_batch": "B"}, "ref_batch among the batches 'a', 'b', 'c', found 'B'"),
    ],
)
def test_arguments_that_cannot_be_used(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(bc.DataError, match=words):
        harmonized(*scans(), **changes)


def test_a_transposed_table_and_missing_labels_are_refused() -> None:
    dat, covars = scans()
    with pytest.raises(
        bc.DataError, match=r"features × scans with a column for each of the 30 scans, found the.*dat\.T"
    ):
        harmonized(dat.T, covars)
    with pytest.raises(bc.DataError, match="a label in every row of the covariate 'sex', found 1 missing"):
        harmonized(dat, covars.assign(sex=covars["sex"].where(covars.index != 3)))


@pytest.mark.filterwarnings("ignore::bayescombat.errors.OverlapWarning")
def test_covariates_that_are_the_batches_are_refused() -> None:
    dat, covars = scans()
    with pytest.raises(bc.ConfoundedDesignError, match="sex"):
        harmonized(dat, covars.assign(sex=covars["site"]), categorical_cols=["sex"])


def test_training_estimates_harmonize_other_scans() -> None:
    dat, covars = scans()
    estimates = harmonized(dat, covars)["estimates"]
    new, sites = scans(seed=1)[0][:, :4], ["b", "a", "b", "c"]
    found = bc.neurocombat_from_training(new, sites, estimates)
    assert found["estimates"] is estimates
    for j, i in enumerate([1, 0, 1, 2]):
        mean = estimates["stand.mean"][:, 0] + estimates["mod.mean"].mean(axis=1)
        sigma = np.sqrt(estimates["var.pooled"][:, 0])
        score = ((new[:, j] - mean) / sigma - estimates["gamma.star"][i]) / np.sqrt(estimates["delta.star"][i])
        np.testing.assert_allclose(found["data"][:, j], score * sigma + mean, rtol=1e-12)
    frame = bc.neurocombat_from_training(pl.DataFrame(new), pl.Series(sites), estimates)
    np.testing.assert_array_equal(frame["data"], found["data"])


def test_training_estimates_know_their_batches_and_features() -> None:
    dat, covars = scans()
    estimates = harmonized(dat, covars)["estimates"]
    with pytest.raises(bc.UnseenBatchError, match="Expected batches of the training, 'a', 'b', 'c', found 'z'"):
        bc.neurocombat_from_training(dat[:, :2], ["a", "z"], estimates)
    with pytest.raises(bc.DataError, match="the 8 features of the training as rows, found 7"):
        bc.neurocombat_from_training(dat[1:, :2], ["a", "b"], estimates)
    with pytest.raises(bc.DataError, match="each of the 3 scans"):
        bc.neurocombat_from_training(dat[:, :2], ["a", "b", "c"], estimates)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_r_and_matlab_say_the_same(configuration: str, reference_data: Path) -> None:
    folder = reference_data / "neurocombat_testdata"
    outputs = pd.read_csv(folder / "reference_outputs_r_matlab.csv.gz", index_col="config").loc[configuration]
    covars = {"batch": [1] * 5 + [2] * 5, "pheno": [1, 0] * 5}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.NegativeValueWarning)
        found = bc.neurocombat(
            pd.read_csv(folder / "testdata.csv"),
            covars,
            "batch",
            categorical_cols="pheno" if "_adjusted" in configuration else None,
            eb="noeb" not in configuration,
            parametric=not configuration.startswith("non"),
            mean_only="meanonly" in configuration,
            ref_batch=1 if "batchref" in configuration else None,
        )
    expected = outputs.sort_values("feature").filter(like="Scan").to_numpy()
    np.testing.assert_allclose(found["data"], expected, rtol=0, atol=CLOSE[configuration.rpartition("_")[2]])
