"""The study of the published claim: its arithmetic, its table, and that it goes on where it stopped."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import bayescombat as bc
from bayescombat.evaluate import classification
from bayescombat.evaluate.within import within_slopes
from benchmarks.study.__main__ import run
from benchmarks.study.arithmetic import gain, losses, nominal_probability, reach
from benchmarks.study.datasets import Dataset, logarithms, openneuro
from benchmarks.study.judging import judged, over
from benchmarks.study.methods import METHODS, NUTS, PAIRS, Remembered
from benchmarks.study.report import long_table, markdown, tally
from benchmarks.study.slopes import ratio, weighted_slopes
from benchmarks.tables import study_of

PAIR = PAIRS[0]
# Two harmonizations that take no time, in the places of those of the study.
QUICK = {PAIR[0]: {"method": "eb"}, PAIR[1]: {"method": "eb", "mean_only": True}}


@pytest.fixture(autouse=True, scope="module")
def few_trees() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classification, "TREES", 5)
        yield


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    simulation = bc.datasets.simulate(
        (24, 20, 16), features=6, seed=2, gamma_sd=0.8, log_delta_mean_sd=0.6, beta_sd=0.8
    )
    study = bc.Study.from_dataframe(
        simulation.table, batch="site", covariates="age + sex", features=simulation.features
    )
    return Dataset(study, "simulated", plain=True)


@pytest.fixture(scope="module")
def small(dataset: Dataset) -> Dataset:
    """The same with two folds and few features, which takes less time."""
    table = pd.DataFrame(dataset.study.y, columns=list(dataset.study.features)).assign(
        site=np.array(dataset.study.batches)[dataset.study.codes]
    )
    study = bc.Study.from_dataframe(table, batch="site", features=list(dataset.study.features[:3]))
    return Dataset(study, "small", folds=2)


@pytest.fixture(scope="module")
def found(dataset: Dataset) -> pd.DataFrame:
    part = judged("simulated", dataset, QUICK, permutations=10, progress_bar=False)
    return long_table({"simulated": part})


def by_metric(table: pd.DataFrame, method: str) -> pd.DataFrame:
    return table[table["method"] == method].set_index("metric")


# Arithmetic


def test_intervals_are_widened_for_what_other_training_scans_would_have_given() -> None:
    assert reach(5, 20) == pytest.approx(1.5 * stats.t.ppf(0.975, 19))
    assert stats.norm.ppf((1 + nominal_probability(5, 20)) / 2) == pytest.approx(reach(5, 20))


@pytest.mark.parametrize(
    ("metric", "direction", "reference", "expected"),
    [
        ("site: random forest", "removal", 0.2, [0.2, 0.5]),
        ("site: share of variance", "removal", 0.2, [0.1, 0.5]),
        ("age: effect", "preservation", 0.2, [0.1, 0.3]),
        ("age: R² of prediction", "preservation", 0.2, [-0.1, -0.5]),
    ],
)
def test_losses_say_what_is_worse(metric: str, direction: str, reference: float, expected: list[float]) -> None:
    assert losses(np.array([0.1, 0.5]), metric, direction, reference) == pytest.approx(expected)


def test_what_two_methods_share_drops_out_of_their_difference() -> None:
    shared = np.random.default_rng(0).normal(size=20)
    alike = gain(np.array(1.0), np.array(1.5), (shared, shared + 0.5), width=3.0)
    assert alike == pytest.approx((0.5, 0.5, 0.5)) and alike.surely == 1
    apart = gain(np.array(1.0), np.array(1.5), (shared, shared[::-1] + 0.5), width=3.0)
    half = 3.0 * np.sqrt(19 / 20 * ((shared[::-1] - shared) ** 2).sum())
    assert apart.upper - 0.5 == pytest.approx(half) and apart.surely == 0


def test_the_second_may_be_better_and_no_interval_says_nothing() -> None:
    none = np.zeros(20)
    assert gain(np.array(0.3), np.array(0.1), (none, none), width=3.0).surely == -1
    assert gain(np.array(0.1), np.array(0.3), (none * np.nan, none), width=3.0).surely == 0


def test_widened_intervals_of_an_accuracy_hold_its_difference() -> None:
    """Two coins of .6 and .5 for scans that share half of their luck."""
    rng, kept = np.random.default_rng(3), np.arange(400) % 20
    held = 0
    for _ in range(200):
        luck = rng.random(400)
        tosses = [np.where(rng.random(400) < 0.5, luck, rng.random(400)) < share for share in (0.6, 0.5)]
        losing = [-np.array([toss[kept != group].mean() for group in range(20)]) for toss in tosses]
        one = gain(-tosses[0].mean(), -tosses[1].mean(), (losing[0], losing[1]), reach(5, 20) / 1.5)
        held += one.lower <= 0.1 <= one.upper
    assert 0.91 <= held / 200 <= 0.985


def test_slopes_are_weighed_by_the_noise_of_batches(dataset: Dataset) -> None:
    study, scales = dataset.study, np.array([[1.0], [2.0], [4.0]]).repeat(6, axis=1)
    one = weighted_slopes(study.y, study.x, study.codes, scales)
    dummies = np.eye(3)[study.codes]
    expected = sm.WLS(study.y[:, 0], np.hstack([study.x, dummies]), scales[study.codes, 0] ** -2).fit().params
    assert one[:, 0] == pytest.approx(expected[:2])
    alike = weighted_slopes(study.y, study.x, study.codes, np.ones((3, 6)))
    assert alike == pytest.approx(within_slopes(study.y, study.x, study.codes))
    assert ratio(2 * alike[0], alike[0], np.ones(6)) == pytest.approx(2)


# One table


def test_every_method_and_every_pair_has_a_row_of_every_metric(found: pd.DataFrame) -> None:
    rows = found[found["direction"] != "cost"]
    assert set(rows["method"]) == {"raw", *PAIR, over(PAIR)}
    assert (rows.groupby("metric")["method"].nunique() == 4).all()
    known = rows["lower"].notna()
    assert (rows["lower"][known] <= rows["estimate"][known]).all()
    assert set(rows["metric"][~known]) == {"site: means that differ", "site: spreads that differ"}


def test_what_takes_scales_out_too_is_better_at_that(found: pd.DataFrame) -> None:
    estimates = found.pivot(index="metric", columns="method", values="estimate")
    assert estimates.loc["site: spreads that differ", over(PAIR)] > 0.3
    raw, first = (estimates.loc["plain site accuracy: linear SVM", name] for name in ("raw", PAIR[0]))
    assert raw > first + 0.05
    assert by_metric(found, "raw")["reference"]["plain site accuracy: linear SVM"] == pytest.approx(24 / 60)


def test_a_method_is_not_better_than_itself(small: Dataset) -> None:
    part = judged("twice", small, dict.fromkeys(PAIR, QUICK["EB"]), permutations=5, progress_bar=False)
    gains = by_metric(long_table({"twice": part}), over(PAIR))
    assert (gains["estimate"].abs() < 1e-12).all() and (gains["better"] == "").all()


def test_nothing_is_fitted_twice(dataset: Dataset) -> None:
    one = Remembered(QUICK["EB"], seed=1)
    values = [one(dataset.study)(dataset.study) for _ in range(3)]
    assert len(one.seconds) == 1
    assert np.array_equal(values[0], bc.fit(dataset.study, method="eb").harmonized["mean"])


def test_warnings_are_told_once_of_every_kind() -> None:
    one = Remembered(NUTS, seed=1, seconds=[1.0, 2.0, 3.0])
    one.said += [
        ("Set aside 1 feature.", bc.FeatureWarning),
        (
            "Not to be trusted as it stands: R-hat above 1.02. (R-hat at most 1.03, 0 divergences)",
            bc.ConvergenceWarning,
        ),
        ("Set aside 2 features.", bc.FeatureWarning),
    ]
    assert one.notes() == [
        "Set aside 1 feature. (2 such warnings)",
        "1 of 3 fits should not be trusted by their own diagnostics; the first: R-hat at most 1.03, 0 divergences",
    ]


def test_the_tally_counts_what_intervals_say(found: pd.DataFrame) -> None:
    rows = [
        ("d", metric, "removal", over(PAIR), estimate, lower, upper, 0.0, better)
        for metric, estimate, lower, upper, better in [
            ("a", 0.2, 0.1, 0.3, PAIR[0]),
            ("b", 0.1, -0.1, 0.3, ""),
            ("c", -0.2, -0.3, -0.1, PAIR[1]),
            ("d", -0.2, np.nan, np.nan, ""),
        ]
    ]
    table = pd.DataFrame(rows, columns=found.columns)
    assert tally(table).iloc[0].tolist() == [1, 1, 1, 2, 1]


def test_the_readable_table_has_gains_in_bold_where_they_are_sure(found: pd.DataFrame) -> None:
    sure = found.copy()
    place = sure.index[sure["method"] == over(PAIR)][0]
    sure.loc[place, ["estimate", "lower", "upper", "better"]] = [0.25, 0.125, 0.375, PAIR[0]]
    text = markdown(sure, {"simulated": "made up"}, {"simulated": ["a note"]})
    assert f"**+0.250 (+0.125, +0.375) {PAIR[0]}**" in text and "- simulated: a note" in text
    assert len({line.count("|") for line in text.split("\n\n")[0].splitlines()}) == 1


def test_skewed_features_become_logarithms_and_hopeless_ones_go() -> None:
    rng, site = np.random.default_rng(0), pd.Series(list("ab") * 200)
    plain = rng.normal(10, 1, 400)
    values = pd.DataFrame(
        {
            "plain": plain,
            "skewed": np.exp(rng.normal(size=400)),
            "hopeless": np.where(np.arange(400) < 5, 1e3, plain - plain.mean()),
            "constant inside b": np.where(site == "a", plain, 3.0),
        }
    )
    kept, left_out = logarithms(values, site)
    assert left_out == ["hopeless", "constant inside b"]
    assert np.array_equal(kept["plain"], plain)
    assert np.array_equal(kept["skewed"], np.log(values["skewed"]))


# Whole or not at all, and going on


class Interrupted(RuntimeError):
    pass


def test_an_interrupted_run_goes_on_where_it_stopped(
    tmp_path: Path, small: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> Dataset:
        raise Interrupted

    def lacking() -> Dataset:
        raise FileNotFoundError(2, "No such file", "scans.csv")

    given = {"first": lambda: small, "absent": lacking, "second": interrupted}
    with pytest.raises(Interrupted):
        run(tmp_path, list(given), 1, QUICK, given)
    assert [path.name for path in tmp_path.iterdir()] == ["first.json"]

    kept = json.loads((tmp_path / "first.json").read_text())
    kept["notes"] = ["as it was kept"]
    (tmp_path / "first.json").write_text(json.dumps(kept))
    text = run(tmp_path, list(given), 1, QUICK, {**given, "second": lambda: small})
    assert "- first: as it was kept" in text and text == (tmp_path / "study.md").read_text(encoding="utf-8")
    table = pd.read_csv(tmp_path / "study.csv")
    assert table["dataset"].unique().tolist() == ["first", "second"]
    kept, made = (rows.iloc[:-2, 1:].reset_index(drop=True) for _, rows in table.groupby("dataset"))
    pd.testing.assert_frame_equal(kept, made)
    assert "absent: left out, as there is no scans.csv" in capsys.readouterr().out

    with pytest.raises(bc.BayesCombatError, match="Remove it, or name another folder"):
        run(tmp_path, ["first"], 2, QUICK, given)
    assert pd.read_csv(tmp_path / "study.csv").equals(table)


@pytest.mark.slow
def test_the_study_runs_through_on_the_packaged_table() -> None:
    whole = openneuro()
    few = [feature for feature in whole.study.features if feature.startswith("lh_G_front")]
    study = study_of(bc.datasets.load_openneuro(), batch="site", covariates="age + sex", features=few)
    part = judged("openneuro", Dataset(study, whole.about), METHODS, progress_bar=False)
    found = long_table({"openneuro": part})
    estimates = found.pivot(index="metric", columns="method", values="estimate")
    for method in METHODS:
        assert estimates.loc["site: logistic regression", method] < estimates.loc["site: logistic regression", "raw"]
        assert estimates.loc["age: effect", method] == pytest.approx(1, abs=0.15)
        assert estimates.loc["processor seconds of a fit", method] > 0
    assert set(tally(found).index.get_level_values("pair")) == {over(pair) for pair in PAIRS}
