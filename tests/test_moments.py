"""Moments: what they hold, that they merge exactly, and that nothing is lost in a file."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayescombat as bc
from bayescombat.empirical import empirical_bayes
from bayescombat.moments.sums import ARRAYS


def table(seed: int = 0, scans: int = 60, offset: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "site": rng.permutation(np.resize(["a", "b", "c"], scans)),
            "year": 2000 + rng.normal(0, 3, scans),
            "age": rng.uniform(20, 80, scans),
            **{f"v{k}": offset + rng.normal(size=scans) for k in range(4)},
        }
    )


def with_holes(data: pd.DataFrame) -> pd.DataFrame:
    """Return the table with cells missing, among them a feature in all of a site and in all but one of its scans."""
    own = data.index[data["site"] == "b"]
    holed = data.copy()
    holed.loc[data.index[::7], "v0"] = np.nan
    holed.loc[own, "v1"] = np.nan
    holed.loc[own[1:], "v2"] = np.nan
    return holed


def study_of(data: pd.DataFrame, **options: object) -> bc.Study:
    features = [name for name in data if name.startswith("v")]
    return bc.Study.from_dataframe(data, batch="site", covariates="age + year", features=features, **options)


def parts_of(study: bc.Study, data: pd.DataFrame, part: np.ndarray) -> list[bc.Moments]:
    """Moments of the rows of every part, each knowing only the sites that it has."""
    pieces = []
    for label in np.unique(part):
        rows = data[part == label]
        pieces.append(bc.Moments.from_study(bc.Study.from_design(rows, study.spec)))
    return pieces


def assert_same_moments(found: bc.Moments, expected: bc.Moments, tolerance: float) -> None:
    """Compare relative to the spread that each moment is made of."""
    order = [found.batches.index(label) for label in expected.batches]
    sd_x = np.sqrt(np.einsum("bfpp->bfp", expected.sxx))
    sd_y = np.sqrt(expected.syy)
    scale = {
        "n": 1.0,
        "mean_x": np.abs(expected.mean_x),
        "sxx": sd_x[..., :, None] * sd_x[..., None, :],
        "mean_y": np.abs(expected.mean_y),
        "mean_y_low": np.abs(expected.mean_y),
        "sxy": sd_y[..., None] * sd_x,
        "syy": expected.syy,
    }
    for name in ARRAYS:
        error = np.abs(getattr(found, name)[order] - getattr(expected, name))
        # What has no spread, or no scans, has to be the same to the last bit.
        assert (error <= tolerance * scale[name]).all(), name


def test_moments_with_holes_equal_those_of_the_observed_scans_by_hand() -> None:
    data = with_holes(table(offset=1e6))
    moments = bc.Moments.from_study(study_of(data))
    assert moments.n.shape == (3, 4) and moments.scans.tolist() == [20, 20, 20]
    for i, site in enumerate(moments.batches):
        for v, name in enumerate(["v0", "v1", "v2", "v3"]):
            rows = data[(data["site"] == site) & data[name].notna()]
            x, y = rows[["age", "year"]].to_numpy(), rows[name].to_numpy()
            assert moments.n[i, v] == len(rows)
            if not len(rows):
                assert moments.mean_y[i, v] == 0 and not moments.mean_x[i, v].any()
            if len(rows) < 2:
                assert moments.syy[i, v] == 0 and not moments.sxy[i, v].any() and not moments.sxx[i, v].any()
            if len(rows):
                np.testing.assert_allclose(moments.mean_x[i, v], x.mean(axis=0), rtol=1e-12)
                np.testing.assert_allclose(moments.mean_y[i, v], y.mean(), rtol=1e-12)
            if len(rows) > 1:
                both = np.cov(np.column_stack([x, y - 1e6]).T, ddof=0) * len(rows)
                np.testing.assert_allclose(moments.sxx[i, v], both[:2, :2], rtol=1e-9)
                np.testing.assert_allclose(moments.sxy[i, v], both[2, :2], rtol=1e-8)
                np.testing.assert_allclose(moments.syy[i, v], both[2, 2], rtol=1e-8)


def test_moments_equal_those_computed_by_hand() -> None:
    data = table()
    moments = bc.Moments.from_study(study_of(data))
    for i, site in enumerate(moments.batches):
        rows = data[data["site"] == site]
        x, y = rows[["age", "year"]].to_numpy(), rows[["v0", "v1", "v2", "v3"]].to_numpy()
        both = np.cov(np.concatenate([x, y], axis=1).T, ddof=0) * len(rows)
        assert moments.n[i, 0] == len(rows)
        np.testing.assert_allclose(moments.mean_x[i, 0], x.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments.mean_y[i], y.mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(moments.sxx[i, 0], both[:2, :2], rtol=1e-9)
        np.testing.assert_allclose(moments.sxy[i], both[2:, :2], rtol=1e-8)
        np.testing.assert_allclose(moments.syy[i], np.diag(both)[2:], rtol=1e-10)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_merging_sites_equals_pooling(offset: float) -> None:
    data = table(offset=offset)
    study = study_of(data)
    sites = parts_of(study, data, data["site"].to_numpy())
    assert_same_moments(bc.merge(sites), bc.Moments.from_study(study), 1e-10)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@settings(deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 6))
def test_merging_any_split_of_the_scans_equals_pooling(offset: float, seed: int, count: int) -> None:
    data = table(seed=1, offset=offset)
    study = study_of(data)
    part = np.random.default_rng(seed).integers(0, count, len(data))
    assert_same_moments(bc.merge(parts_of(study, data, part)), bc.Moments.from_study(study), 1e-10)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 6))
def test_merging_any_split_of_a_table_with_holes_equals_pooling(offset: float, seed: int, count: int) -> None:
    data = with_holes(table(seed=1, offset=offset))
    study = study_of(data)
    part = np.random.default_rng(seed).integers(0, count, len(data))
    pooled = bc.Moments.from_study(study)
    assert_same_moments(bc.merge(parts_of(study, data, part)), pooled, 1e-10)


@pytest.mark.filterwarnings("ignore::bayescombat.errors.FeatureWarning")
@pytest.mark.parametrize("holes", [False, True])
def test_merged_moments_give_the_pooled_fit(holes: bool) -> None:
    data = with_holes(table()) if holes else table()
    study = study_of(data)
    merged = bc.merge(parts_of(study, data, np.resize([0, 1, 2], len(data))))
    pooled, distributed = bc.fit(study, method="eb"), bc.fit(merged, method="eb")
    expected, found = pooled.harmonize(data)["mean"], distributed.harmonize(data)["mean"]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_merging_different_designs_is_refused() -> None:
    data = table()
    other = data.rename(columns={"v0": "v9"})
    with pytest.raises(bc.DataError, match="features"):
        bc.merge([bc.Moments.from_study(study_of(data)), bc.Moments.from_study(study_of(other))])


def test_merging_different_references_is_refused() -> None:
    data = table()
    both = [bc.Moments.from_study(study_of(data, reference=site)) for site in ("a", "b")]
    with pytest.raises(bc.DataError, match="reference"):
        bc.merge(both)


def test_merging_nothing_is_refused() -> None:
    with pytest.raises(bc.DataError, match="at least one"):
        bc.merge([])


def test_constant_features_are_found_exactly() -> None:
    data = table()
    data["v1"] = 0.1
    data.loc[data["site"] == "b", "v2"] = 7.3
    assert bc.Moments.from_study(study_of(data)).constant.tolist() == [False, True, True, False]


def test_a_feature_that_is_constant_in_every_chunk_but_not_overall_varies() -> None:
    data = table()
    halves = np.resize([0, 1], len(data))
    data["v1"] = halves.astype(float)
    study = study_of(data)
    merged = bc.merge(parts_of(study, data, halves))
    assert merged.constant.tolist() == [False] * 4


def test_adding_a_constant_column_changes_no_bit_of_the_others() -> None:
    data = table()
    before = bc.Moments.from_study(study_of(data))
    after = bc.Moments.from_study(study_of(data.assign(v9=0.0)))
    kept = after.select(~after.constant)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(kept, name), getattr(before, name), err_msg=name)


def test_moments_with_a_feature_axis_merge_and_fit_as_the_compact_ones() -> None:
    data = table()
    study = study_of(data)
    pieces = parts_of(study, data, np.resize([0, 1, 2], len(data)))

    def spread(moments: bc.Moments) -> bc.Moments:
        full = {name: np.repeat(getattr(moments, name), 4, axis=1) for name in ("n", "mean_x", "sxx")}
        return replace(moments, **full)

    compact, full = bc.merge(pieces), bc.merge([spread(piece) for piece in pieces])
    assert full.n.shape == (3, 4)
    for name in ARRAYS:
        found, expected = getattr(full, name), getattr(compact, name)
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(empirical_bayes(full).gamma, empirical_bayes(compact).gamma, rtol=1e-10)
    again = bc.Moments.from_dataset(full.to_dataset())
    np.testing.assert_array_equal(again.sxx, full.sxx)


def test_a_file_holds_every_bit(tmp_path: object) -> None:
    moments = bc.Moments.from_study(study_of(table(), reference="b"))
    path = f"{tmp_path}/moments.nc"
    moments.save(path)
    again = bc.Moments.load(path)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(moments, name), err_msg=name)
    assert (again.batches, again.spec, again.reference) == (moments.batches, moments.spec, "b")


def test_arrays_are_read_only_and_the_givers_are_not() -> None:
    moments = bc.Moments.from_study(study_of(table()))
    own = moments.syy.copy()
    replaced = replace(moments, syy=own)
    with pytest.raises(ValueError, match="read-only"):
        replaced.syy[0, 0] = 1.0
    own[0, 0] = 1.0


def test_scans_of_one_batch_cannot_be_fitted() -> None:
    data = table()
    study = study_of(data)
    only = parts_of(study, data, data["site"].to_numpy())[0]
    with pytest.raises(bc.DataError, match="at least two batches"):
        bc.fit(only, method="eb")


def test_moments_of_another_site_take_on_the_reference(tmp_path: object) -> None:
    data = table()
    study = study_of(data, reference="b")
    parts = parts_of(study, data, data["site"].to_numpy())
    merged = bc.merge([bc.Moments.from_study(study), *parts])
    assert merged.reference == "b"


def test_moments_with_a_feature_axis_harmonize_as_the_compact_ones() -> None:
    data = table()
    moments = bc.Moments.from_study(study_of(data))
    full = replace(moments, **{name: np.repeat(getattr(moments, name), 4, axis=1) for name in ("n", "mean_x", "sxx")})
    expected, found = (bc.fit(item, method="eb").harmonize(data)["mean"] for item in (moments, full))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
