"""Work in blocks gives the same bits as work at once, and errors come through."""

import numpy as np
import pytest

import bayescombat as bc
from bayescombat import blocks, shrinkage
from bayescombat.moments.sums import ARRAYS, cell_sums


def sums_of(y: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    return cell_sums(y, x, [np.arange(0, 7), np.arange(7, len(x))])


@pytest.mark.parametrize("holes", [0.0, 0.1])
def test_a_column_has_the_same_bits_whatever_stands_beside_it(holes: float) -> None:
    rng = np.random.default_rng(0)
    y, x = rng.normal(1e3, 1, (30, 5_000)), rng.normal(50, 10, (30, 2))
    y[rng.random(y.shape) < holes] = np.nan
    together = sums_of(y, x)
    for part in (slice(0, 1), slice(4_999, 5_000), slice(17, 19), slice(1_000, 3_001)):
        alone = sums_of(np.ascontiguousarray(y[:, part]), x)
        for name in ARRAYS:
            whole = together[name] if together[name].shape[1] == 1 else together[name][:, part]
            np.testing.assert_array_equal(*np.broadcast_arrays(alone[name], whole), err_msg=name)


def test_one_thread_gives_the_same_bits() -> None:
    rng = np.random.default_rng(1)
    study = bc.Study.from_arrays(rng.normal(5, 1, (40, 9_000)), batch=["a", "b"] * 20, covariates={"age": range(40)})
    expected = bc.fit(study, method="eb").harmonized["mean"].values
    with blocks.in_one_thread():
        np.testing.assert_array_equal(bc.fit(study, method="eb").harmonized["mean"].values, expected)


@pytest.mark.parametrize("compat", [None, "sva"])
def test_the_fixed_point_in_blocks_gives_the_same_bits(compat: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    study = bc.Study.from_arrays(rng.normal(5, 1, (40, 50)), batch=["a", "b"] * 20)
    expected = bc.fit(study, method="eb", compat=compat)
    monkeypatch.setattr(shrinkage, "FEATURES_AT_ONCE", 7)
    found = bc.fit(study, method="eb", compat=compat)
    assert found.verdict == expected.verdict
    for name in ("gamma", "delta"):
        np.testing.assert_array_equal(found.parameters[name], expected.parameters[name])


def test_every_column_is_in_one_block() -> None:
    for columns, rows in ((1, 5), (64, 10**6), (5_000, 8), (4_097, 8)):
        found = np.concatenate([np.arange(columns)[block] for block in blocks.column_blocks(columns, rows)])
        np.testing.assert_array_equal(found, np.arange(columns))


def test_an_error_in_a_block_is_raised() -> None:
    def work(block: slice) -> None:
        if block.start == 100:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        blocks.side_by_side(work, [slice(start, start + 100) for start in range(0, 1_000, 100)])


def test_an_array_is_shared_only_if_asked_for() -> None:
    y, batch = np.random.default_rng(2).normal(size=(6, 3)), list("aabbbb")
    before = y.copy()
    assert not np.shares_memory(bc.Study.from_arrays(y, batch=batch).y, y)
    shared = bc.Study.from_arrays(y, batch=batch, copy=False)
    assert np.shares_memory(shared.y, y)
    bc.fit(shared, method="eb").harmonized  # noqa: B018
    np.testing.assert_array_equal(y, before)
