"""The command line: what it writes is what the library finds, and how it ends says how it went."""

import os
import subprocess
import sys
import warnings
from _thread import interrupt_main
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayescombat as bc
from bayescombat.cli.options import Columns
from bayescombat.cli.studies import wanted
from bayescombat.cli.voice import speaking
from tests.commands import Ended, run

ROOT = Path(__file__).parents[1]
FEATURES = ["feature_0", "feature_1", "feature_2", "feature_3"]
COLUMNS = ["--batch", "site", "--covariates", "age + sex", "--features", "^feature_"]
COMMANDS = ("harmonize", "apply", "update", "diagnose", "evaluate", "report", "demo", "moments", "merge")
EB = ["--method", "eb"]
SECONDS_FOR_HELP = 6.0


def well(*arguments: object) -> Ended:
    """Run a command that ends well."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Scans of four sites, with columns that nobody is to touch."""
    simulation = bc.datasets.simulate((25, 20, 15, 10), features=4, seed=2)
    table = simulation.table.assign(day="2020-01-02", code=[f"{row:03d}" for row in range(70)], weight=1.50)
    table.insert(0, "id", [f"sub-{row:02d}" for row in range(70)])
    return table


@pytest.fixture(scope="module")
def study(table: pd.DataFrame) -> bc.Study:
    return bc.Study.from_dataframe(table.set_index("id"), batch="site", covariates="age + sex", features=FEATURES)


@pytest.fixture(scope="module")
def folder(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the table, one of its last rows, and a fit by empirical Bayes that says how sure it is."""
    folder = tmp_path_factory.mktemp("cli")
    table.to_csv(folder / "table.csv", index=False)
    table.tail(12).to_csv(folder / "new.csv", index=False)
    outputs = ["--out", folder / "harmonized.csv", "--save", folder / "fit.nc", "--uncertainty", "--seed", 5]
    well("harmonize", folder / "table.csv", *COLUMNS, *EB, *outputs)
    return folder


@pytest.fixture(scope="module")
def fit(study: bc.Study) -> bc.Fit:
    """What the library makes of the same."""
    return bc.fit(study, method="eb", uncertainty=True, seed=5)


# ---------------------------------------------------------------- harmonize


def test_harmonize_writes_what_the_library_finds(folder: Path, table: pd.DataFrame, fit: bc.Fit) -> None:
    found = pd.read_csv(folder / "harmonized.csv")
    assert list(found) == [*table, *(f"{name}_sd" for name in FEATURES)]
    np.testing.assert_array_equal(found[FEATURES], fit.harmonized["mean"])
    np.testing.assert_array_equal(found[[f"{name}_sd" for name in FEATURES]], fit.harmonized["sd"])


def test_harmonize_leaves_other_columns_as_they_were(folder: Path, table: pd.DataFrame) -> None:
    others = [name for name in table if name not in FEATURES]
    before, found = (pd.read_csv(folder / name, dtype=str) for name in ("table.csv", "harmonized.csv"))
    pd.testing.assert_frame_equal(found[others], before[others])


def test_the_saved_fit_is_that_of_the_library(folder: Path, fit: bc.Fit) -> None:
    saved = bc.load(folder / "fit.nc")
    xr.testing.assert_identical(saved.parameters, fit.parameters)
    assert list(saved.study.obs) == list(fit.study.obs)
    assert saved.tree.attrs["call"].startswith("bayescombat harmonize ")


def test_harmonize_says_what_it_did(folder: Path, tmp_path: Path) -> None:
    said = well("harmonize", folder / "table.csv", *COLUMNS, *EB, "--out", tmp_path / "out.csv")
    lines = said.stdout.splitlines()
    assert lines[0] == "Fit by empirical Bayes: 4 features, 4 batches, 70 scans"
    assert lines[-1] == f"Written: {tmp_path / 'out.csv'} (70 rows; 4 columns harmonized; 7 others as they were)"
    quiet = well("harmonize", folder / "table.csv", *COLUMNS, *EB, "--out", tmp_path / "quiet.csv", "--quiet")
    assert quiet.stdout == ""


@pytest.mark.parametrize(
    ("options", "of_study", "of_fit"),
    [
        (["--reference", "site_02"], {"reference": "site_02"}, {}),
        (["--smooth", "age=6", "--covariates", "sex"], {"smooth": {"age": 6}, "covariates": "sex"}, {}),
        (["--transform", "log"], {"transform": "log"}, {}),
        (["--remove", "weight_2"], {"remove": "weight_2"}, {}),
        (["--mean-only"], {}, {"mean_only": True}),
        (["--shrinkage", "none"], {}, {"shrinkage": "none"}),
        (["--compat", "sva"], {}, {"compat": "sva"}),
        (["--covariance", "0.9"], {}, {"covariance": 0.9}),
        (["--factors", "1", "--factors-despite-covariates"], {}, {"factors": 1, "factors_despite_covariates": True}),
        (["--shared-factors", "1"], {}, {"shared_factors": 1}),
        (["--batch", "scanner"], {"batch": ["site", "scanner"]}, {}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_option_reaches_the_library(
    table: pd.DataFrame, tmp_path: Path, options: list[str], of_study: dict[str, Any], of_fit: dict[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    table = table.assign(weight_2=rng.normal(size=70), scanner=rng.choice(["x", "y"], 70))
    table[FEATURES] += 0.3 * np.sin(table[["age"]].to_numpy() / 8)
    table.to_csv(tmp_path / "table.csv", index=False)
    columns = [*COLUMNS[:2], *COLUMNS[4:]] if "--covariates" in options else COLUMNS
    well("harmonize", tmp_path / "table.csv", *columns, *EB, *options, "--out", tmp_path / "out.csv")
    asked = {"batch": "site", "covariates": "age + sex", "features": FEATURES} | of_study
    study = bc.Study.from_dataframe(pd.read_csv(tmp_path / "table.csv"), **asked)
    expected = bc.fit(study, method="eb", **of_fit).harmonized["mean"]
    plain = bc.fit(bc.Study.from_dataframe(table, batch="site", covariates="age + sex", features=FEATURES), method="eb")
    assert not np.allclose(expected, plain.harmonized["mean"], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(pd.read_csv(tmp_path / "out.csv")[FEATURES], expected)


def test_numbers_of_subjects_in_the_first_column_are_no_feature(table: pd.DataFrame, tmp_path: Path) -> None:
    whole = table.drop(columns=["code", "weight"]).assign(id=range(50002, 50002 + len(table)))
    whole.to_csv(tmp_path / "table.csv", index=False)
    named = [part for part in COLUMNS if part not in ("--features", "^feature_")]
    result = well("harmonize", tmp_path / "table.csv", *named, *EB, "--out", tmp_path / "o.csv")
    assert "The first column, 'id', has whole numbers" in result.stderr
    found = pd.read_csv(tmp_path / "o.csv")
    assert found["id"].tolist() == whole["id"].tolist()
    assert (found[FEATURES] != whole[FEATURES]).all(axis=None)
    said = well("harmonize", tmp_path / "table.csv", *COLUMNS, "--features", "id", *EB, "--out", tmp_path / "all.csv")
    assert "5 columns harmonized" in said.stdout


def test_repeated_scans_are_named_by_the_subject(tmp_path: Path) -> None:
    simulation = bc.datasets.simulate((20, 20), features=2, seed=1, repeats=2)
    simulation.table.to_csv(tmp_path / "table.csv", index=False)
    columns = ["--batch", "site", "--covariates", "age", "--features", "^feature_"]
    well("harmonize", tmp_path / "table.csv", *columns, *EB, "--subject", "subject", "--out", tmp_path / "out.csv")
    study = bc.Study.from_dataframe(
        pd.read_csv(tmp_path / "table.csv"), batch="site", covariates="age", features="^feature_", subject="subject"
    )
    found = pd.read_csv(tmp_path / "out.csv")[["feature_0", "feature_1"]]
    np.testing.assert_array_equal(found, bc.fit(study, method="eb").harmonized["mean"])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["feature_2"], ["feature_2"]),
        (["feature_2,feature_0"], ["feature_0", "feature_2"]),
        (["feature_[01]", "feature_3"], ["feature_0", "feature_1", "feature_3"]),
        (["_[0-9]{1,2}$"], FEATURES),
    ],
    ids=str,
)
def test_features_are_names_or_patterns(table: pd.DataFrame, said: list[str], expected: list[str]) -> None:
    assert wanted(table, Columns(batch=["site"], features=said)) == expected


def test_features_may_be_said_several_times(folder: Path, tmp_path: Path) -> None:
    options = ["--batch", "site", *EB, "--features", "feature_[01]", "--features", "feature_3"]
    well("harmonize", folder / "table.csv", *options, "--save", tmp_path / "fit.nc")
    assert bc.load(tmp_path / "fit.nc").layout.spec.features == ("feature_0", "feature_1", "feature_3")


def test_intervals_are_added_on_request(folder: Path, tmp_path: Path, fit: bc.Fit, study: bc.Study) -> None:
    well("apply", folder / "fit.nc", folder / "table.csv", "--probability", 0.5, "--out", tmp_path / "out.csv")
    found, expected = pd.read_csv(tmp_path / "out.csv"), fit.harmonize(study, probability=0.5)
    for name in ("lower", "upper"):
        np.testing.assert_array_equal(found[[f"{feature}_{name}" for feature in FEATURES]], expected[name])


def test_netcdf_holds_all_that_is_known_and_is_a_table_again(folder: Path, tmp_path: Path, fit: bc.Fit) -> None:
    path = tmp_path / "out.nc"
    well("apply", folder / "fit.nc", folder / "table.csv", "--out", path)
    found = xr.load_dataset(path, engine="h5netcdf")
    xr.testing.assert_equal(found.drop_vars(["id", "site", "age", "sex", "day", "code", "weight"]), fit.harmonized)
    well("harmonize", path, *COLUMNS, *EB, "--out", tmp_path / "again.csv")
    assert pd.read_csv(tmp_path / "again.csv")["obs"].tolist() == list(fit.study.obs)


def test_a_fit_that_did_not_converge_ends_with_3_and_writes(folder: Path, tmp_path: Path) -> None:
    few = ["--draws", 20, "--tune", 20, "--chains", 2, "--seed", 1]
    outputs = ["--out", tmp_path / "out.csv", "--save", tmp_path / "fit.nc", "-u"]
    said = run("harmonize", folder / "table.csv", *COLUMNS, *few, *outputs)
    assert said.exit_code == 3
    assert said.output.count("Not to be trusted as it stands") == 1
    assert "what was written is not to be trusted" in said.stderr
    fit = bc.load(tmp_path / "fit.nc")
    assert (fit.method, fit.converged, fit.settings["draws"]) == ("nuts", False, 20)
    found = pd.read_csv(tmp_path / "out.csv")
    np.testing.assert_array_equal(found[FEATURES], fit.harmonized["mean"])
    np.testing.assert_array_equal(found[[f"{name}_sd" for name in FEATURES]], fit.harmonized["sd"])
    again = run("apply", tmp_path / "fit.nc", folder / "new.csv", "--out", tmp_path / "new.csv", "--quiet")
    assert (again.exit_code, again.stdout) == (3, "") and "! The fit did not converge" in again.stderr


@pytest.mark.parametrize("quiet", [False, True])
def test_the_verdict_is_said_once_by_the_fit_or_where_that_is_quiet_as_a_warning(
    quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with speaking(quiet) as voice:
        warnings.warn("Not to be trusted.", bc.ConvergenceWarning, stacklevel=1)
        voice.say("Not to be trusted.")
    said = capsys.readouterr()
    assert said == (("", "! Not to be trusted.\n") if quiet else ("Not to be trusted.\n", ""))


def test_warnings_are_said_once_and_in_words(table: pd.DataFrame, tmp_path: Path) -> None:
    table.assign(feature_3=1.0).to_csv(tmp_path / "table.csv", index=False)
    outputs = ["--out", tmp_path / "out.csv", "--save", tmp_path / "fit.nc"]
    said = well("harmonize", tmp_path / "table.csv", *COLUMNS, *EB, *outputs)
    assert said.stderr.count("! Set aside 1 of 4 features") == 1 and "Warning" not in said.stderr
    assert "3 columns harmonized; 1 set aside and as they were" in said.stdout
    found = pd.read_csv(tmp_path / "out.csv", dtype=str)
    assert found["feature_3"].unique().tolist() == ["1.0"]


def test_missing_cells_stay_missing(table: pd.DataFrame, tmp_path: Path) -> None:
    text = table.astype(str)
    text.loc[3, "feature_0"], text.loc[4, "feature_1"], text.loc[5, "feature_2"] = "NA", "", "n/a"
    text.to_csv(tmp_path / "table.csv", index=False)
    well("harmonize", tmp_path / "table.csv", *COLUMNS, *EB, "--out", tmp_path / "out.csv")
    found = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert [found.loc[3, "feature_0"], found.loc[4, "feature_1"], found.loc[5, "feature_2"]] == ["NA", "", "n/a"]
    assert sum(cell in ("", "NA", "n/a", "nan") for cell in found[FEATURES].to_numpy().ravel()) == 3


# ---------------------------------------------------------------- apply and update


def test_apply_harmonizes_new_rows(folder: Path, tmp_path: Path, table: pd.DataFrame, fit: bc.Fit) -> None:
    well("apply", folder / "fit.nc", folder / "new.csv", "--out", tmp_path / "out.csv", "--target", "site_01")
    expected = fit.harmonize(table.tail(12), target="site_01")["mean"]
    np.testing.assert_array_equal(pd.read_csv(tmp_path / "out.csv")[FEATURES], expected)


def test_rows_of_an_unknown_batch_are_refused_unless_told_otherwise(
    folder: Path, tmp_path: Path, table: pd.DataFrame
) -> None:
    table.tail(3).assign(site="site_09").to_csv(tmp_path / "new.csv", index=False)
    well("harmonize", folder / "table.csv", *COLUMNS, *EB, "--save", tmp_path / "fit.nc")
    command = ["apply", tmp_path / "fit.nc", tmp_path / "new.csv", "--out", tmp_path / "out.csv"]
    refused = run(*command)
    assert refused.exit_code == 1 and "'site_09'" in refused.stderr and not (tmp_path / "out.csv").exists()
    well(*command, "--unseen", "prior")
    expected = bc.load(tmp_path / "fit.nc").harmonize(table.tail(3).assign(site="site_09"), unseen="prior")["mean"]
    np.testing.assert_array_equal(pd.read_csv(tmp_path / "out.csv")[FEATURES], expected)


def test_update_is_the_fit_to_all_scans(table: pd.DataFrame, study: bc.Study, tmp_path: Path) -> None:
    old, new = table[table["site"] != "site_04"], table[table["site"] == "site_04"]
    old.to_csv(tmp_path / "old.csv", index=False)
    new.to_csv(tmp_path / "new.csv", index=False)
    well("harmonize", tmp_path / "old.csv", *COLUMNS, *EB, "--save", tmp_path / "fit.nc", "--no-data")
    command = ["update", tmp_path / "fit.nc", tmp_path / "new.csv"]
    well(*command, "--save", tmp_path / "updated.nc", "--out", tmp_path / "out.csv")
    expected = bc.fit(study, method="eb").harmonize(new)["mean"]
    np.testing.assert_allclose(pd.read_csv(tmp_path / "out.csv")[FEATURES], expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(bc.load(tmp_path / "updated.nc").harmonize(new)["mean"], expected, rtol=0, atol=1e-10)

    well(*command, "--save", tmp_path / "adopted.nc", "--adopt")
    before, after = bc.load(tmp_path / "fit.nc"), bc.load(tmp_path / "adopted.nc")
    np.testing.assert_array_equal(after.harmonize(old)["mean"], before.harmonize(old)["mean"])
    assert "Adopted 'site_04'" in after.verdict


def test_a_fit_without_rows_holds_no_command_either(folder: Path, tmp_path: Path, table: pd.DataFrame) -> None:
    table.tail(3).assign(site="site_09").to_csv(tmp_path / "new.csv", index=False)
    command = ["update", folder / "fit.nc", tmp_path / "new.csv", "--adopt"]
    well(*command, "--save", tmp_path / "whole.nc")
    well(*command, "--save", tmp_path / "left.nc", "--no-data")
    assert bc.load(tmp_path / "whole.nc").tree.attrs["call"].startswith("bayescombat update ")
    assert "call" not in bc.load(tmp_path / "left.nc").tree.attrs


# ---------------------------------------------------------------- diagnose, evaluate, report, demo


def test_diagnose_says_what_the_library_finds(folder: Path, tmp_path: Path, study: bc.Study) -> None:
    said = well("diagnose", folder / "table.csv", *COLUMNS, "--out", tmp_path / "figures.nc")
    assert said.stdout.startswith(repr(bc.diagnose(study)))
    found = xr.load_dataset(tmp_path / "figures.nc", engine="h5netcdf")
    np.testing.assert_array_equal(found["shift_error"], bc.diagnose(study).dataset["shift_error"])


def test_diagnose_ends_with_1_where_a_fit_would_be_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    table.assign(dose=table["site"].map(len) + (table["site"] == "site_01")).to_csv(tmp_path / "t.csv", index=False)
    said = run("diagnose", tmp_path / "t.csv", "--batch", "site", "--covariates", "dose", "--features", "^feature_")
    assert said.exit_code == 1 and "dose" in said.stdout


def test_evaluate_writes_what_the_library_finds(folder: Path, tmp_path: Path, study: bc.Study) -> None:
    few = ["--seed", 1, "--permutations", 10, "--folds", 2]
    said = well("evaluate", folder / "table.csv", *COLUMNS, *EB, *few, "--out", tmp_path / "evaluation.csv")
    quick = bc.fit(study, method="eb")
    expected = bc.evaluate(study, quick, seed=1, permutations=10, folds=2, progress_bar=False)
    assert repr(expected) in said.stdout
    found = pd.read_csv(tmp_path / "evaluation.csv").set_index(["metric", "table"])
    assert list(found) == ["kind", "estimate", "sd", "lower", "upper", "p", "expected", "meaning"]
    for name in expected.table.index:
        for column in ("raw", "harmonized"):
            assert found.loc[(name, column), "estimate"] == pytest.approx(expected.table.loc[name, column], nan_ok=True)


def test_evaluate_takes_a_saved_fit(folder: Path, tmp_path: Path) -> None:
    few = ["--fit", folder / "fit.nc", "--seed", 1, "--permutations", 10, "--folds", 2]
    well("evaluate", folder / "table.csv", *few, "--out", tmp_path / "evaluation.nc")
    assert "estimate" in xr.load_dataset(tmp_path / "evaluation.nc", engine="h5netcdf")
    for option in (["--batch", "site"], ["--covariance", 0.9], ["--method", "eb"]):
        both = run("evaluate", folder / "table.csv", *few, *option)
        assert both.exit_code == 2 and f"beside --fit, which says them, found {option[0]}" in both.stderr


def test_an_interrupt_ends_with_130_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    timer = Timer(1.0, interrupt_main)
    timer.start()
    endless = ["--permutations", 10**7, "--out", tmp_path / "evaluation.csv"]
    said = run("evaluate", folder / "table.csv", *COLUMNS, *EB, *endless)
    timer.cancel()
    assert said.exit_code == 130 and "Interrupted" in said.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_interrupt_of_nuts_keeps_the_draws_so_far(folder: Path, tmp_path: Path) -> None:
    timer = Timer(15.0, interrupt_main)
    timer.start()
    endless = ["--draws", 200_000, "--chains", 2, "--save", tmp_path / "fit.nc"]
    said = run("harmonize", folder / "table.csv", *COLUMNS, *endless)
    timer.cancel()
    assert said.exit_code == 3 and "sampling was interrupted" in said.stdout
    assert bc.load(tmp_path / "fit.nc").parameters.sizes["draw"] > 3


def test_reports_are_written(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    well("report", folder / "fit.nc", "--out", tmp_path / "report.html")
    # The fit keeps the command that made it.
    assert "bayescombat harmonize" in (tmp_path / "report.html").read_text()
    command = ["harmonize", folder / "table.csv", *COLUMNS, *EB]
    said = well(*command, "--report", tmp_path / "other.html")
    assert "--report" in (tmp_path / "other.html").read_text()
    assert f"Written: {tmp_path / 'other.html'}" in said.stdout
    assert "bayescombat report fit.nc --evaluate" in (tmp_path / "other.html").read_text()


@pytest.mark.slow
def test_the_demonstration_shows_its_commands_and_writes(tmp_path: Path) -> None:
    said = well("demo", tmp_path / "demo")
    assert said.stdout.count("$ bayescombat ") == 4
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    expected = {"openneuro.csv", "harmonized_eb.csv", "harmonized.csv", "fit.nc", "report.html", "as_of_ds000115.csv"}
    assert names == expected
    # Of a second time nothing is written over.
    assert run("demo", tmp_path / "demo").exit_code == 1


# ---------------------------------------------------------------- sites that keep their scans


def test_sites_that_keep_their_scans_get_the_pooled_fit(table: pd.DataFrame, study: bc.Study, tmp_path: Path) -> None:
    made_up = pd.DataFrame({"site": "", "age": [5, 95], "sex": ["F", "M"]}).assign(**dict.fromkeys(FEATURES, ""))
    made_up.to_csv(tmp_path / "made_up.csv", index=False)
    well("moments", tmp_path / "made_up.csv", *COLUMNS, "--save-design", tmp_path / "design.json")
    sites = {str(site): rows for site, rows in table.groupby("site")}
    for site, rows in sites.items():
        rows.to_csv(tmp_path / f"{site}.csv", index=False)
        files = [tmp_path / f"{site}.csv", "--design", tmp_path / "design.json", "--out", tmp_path / f"{site}.nc"]
        said = well("moments", *files)
        assert f"(moments of {len(rows)} scans in 1 batch, 4 features)" in said.stdout
    well("merge", *(tmp_path / f"{site}.nc" for site in sites), "--out", tmp_path / "all.nc")
    well("harmonize", tmp_path / "all.nc", *EB, "--save", tmp_path / "fit.nc", "--no-moments")
    expected = bc.fit(study, method="eb").harmonized["mean"].to_pandas()
    for site, rows in sites.items():
        well("apply", tmp_path / "fit.nc", tmp_path / f"{site}.csv", "--out", tmp_path / f"{site}_out.csv")
        found = pd.read_csv(tmp_path / f"{site}_out.csv")[FEATURES]
        np.testing.assert_allclose(found, expected.loc[rows["id"]], rtol=0, atol=1e-10)

    no_rows = run("harmonize", tmp_path / "all.nc", *EB, "--out", tmp_path / "out.csv")
    assert no_rows.exit_code == 2 and "hold no rows" in no_rows.stderr
    without = run("harmonize", tmp_path / "all.nc", *EB, "--shared-factors", 1, "--save", tmp_path / "other.nc")
    assert without.exit_code == 1 and "Make them by bayescombat moments --cross." in without.stderr
    judged = run("report", tmp_path / "fit.nc", "--evaluate", "--out", tmp_path / "report.html")
    assert judged.exit_code == 1 and "evaluate TABLE --fit FIT" in judged.stderr
    twice = run("merge", tmp_path / "site_01.nc", tmp_path / "site_01.nc", "--out", tmp_path / "twice.nc")
    assert twice.exit_code == 1 and "count twice" in twice.stderr


def test_a_design_can_be_learned_from_a_table_with_its_moments(folder: Path, tmp_path: Path, study: bc.Study) -> None:
    outputs = ["--out", tmp_path / "moments.nc", "--save-design", tmp_path / "design.json", "--cross"]
    well("moments", folder / "table.csv", *COLUMNS, *outputs)
    assert bc.DesignSpec.load(tmp_path / "design.json") == study.spec
    found = bc.Moments.load(tmp_path / "moments.nc")
    assert found.cross is not None
    np.testing.assert_array_equal(found.syy, bc.Moments.from_study(study).syy)


def test_a_design_may_name_features_that_its_table_lacks(table: pd.DataFrame, tmp_path: Path) -> None:
    table[["site", "age", "sex"]].to_csv(tmp_path / "made_up.csv", index=False)
    columns = ["--batch", "site", "--covariates", "age", "--save-design", tmp_path / "design.json"]
    well("moments", tmp_path / "made_up.csv", *columns, "--features", "left,right")
    assert bc.DesignSpec.load(tmp_path / "design.json").features == ("left", "right")
    refused = run("moments", tmp_path / "made_up.csv", *columns, "--force", "--features", "_thickness$")
    assert refused.exit_code == 1 and "'_thickness$', found none" in refused.stderr


def test_moments_of_few_scans_do_not_leave_the_site_unless_told_so(table: pd.DataFrame, tmp_path: Path) -> None:
    table.groupby("site").head(4).to_csv(tmp_path / "few.csv", index=False)
    command = ["moments", tmp_path / "few.csv", *COLUMNS, "--out", tmp_path / "few.nc"]
    refused = run(*command)
    assert refused.exit_code == 1 and "at least 5 observed scans" in refused.stderr
    well(*command, "--min-scans", 4)


def test_a_site_alone_is_told_of_the_design(table: pd.DataFrame, tmp_path: Path) -> None:
    table[table["site"] == "site_01"].to_csv(tmp_path / "site.csv", index=False)
    refused = run("moments", tmp_path / "site.csv", *COLUMNS, "--out", tmp_path / "site.nc")
    assert refused.exit_code == 1 and "a site of a federated study uses --design." in refused.stderr


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "sit", "--out", "o.csv"], "Did you mean 'site'?"),
        (["--batch", "site", "--features", "featur_0,feature_1", "--out", "o.csv"], "Did you mean 'feature_0'?"),
        (["--batch", "site", "--features", "^fature_0$", "--out", "o.csv"], "Did you mean 'feature_0'?"),
        (["--batch", "site", "--features", "*_thickness", "--out", "o.csv"], "write '_thickness$'"),
        (
            ["--batch", "site", "--features", "feature_0,^feature", "--out", "o.csv"],
            "A pattern has a --features",
        ),
        (["--batch", "site", "--features", "day", "--out", "o.csv"], "found '2020-01-02' in the row 'sub-00'"),
        (["--batch", "site", "--features", "code", "--out", "o.csv"], "found names such as '000' in 'code'"),
        (["--batch", "site", "--covariates", "aeg", "--out", "o.csv"], "Did you mean 'age'?"),
        ([*COLUMNS, "--reference", "site_1", "--out", "o.csv"], "found 'site_1'. Did you mean 'site_01'?"),
        ([*COLUMNS, "--target", "site_1", "--out", "o.csv"], "found 'site_1'. Did you mean 'site_01'?"),
        ([*COLUMNS, "--out", "nowhere/o.csv"], "Expected a folder 'nowhere'"),
        ([*COLUMNS, "--draws", "100", "--method", "eb", "--out", "o.csv"], "belong to --method nuts"),
        ([*COLUMNS, "--out", "fit.nc"], "--force to write over it"),
        ([*COLUMNS, "--out", "."], "ends in"),
    ],
    ids=lambda value: " ".join(value[-4:]) if isinstance(value, list) else "",
)
def test_bad_input_says_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    result = run("harmonize", "table.csv", *arguments)
    assert result.exit_code == (2 if arguments[-1] == "." else 1)
    assert message in result.stderr.replace("\n", " ")
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["harmonize", "table.csv", "--batch", "site"], "Nothing would be written"),
        (["harmonize", "table.csv", "--out", "o.csv"], "which column holds the batches"),
        (["harmonize", "table.csv", "--batch", "site", "--out", "o.txt"], "found 'o.txt'"),
        (["harmonize", "table.csv", "--batch", "site", "--out", "o.csv", "--save", "fit.csv"], "'.nc', found"),
        (["harmonize", "table.csv", "--batch", "site", "--out", "table.csv", "--force"], "than the input"),
        (["harmonize", "table.csv", "--batch", "site", "--out", "o.nc", "--save", "o.nc"], "another file than --out"),
        (["harmonize", "table.csv", "--batch", "site", "--out", "o.csv", "--smooth", "age"], "NAME=SIZE"),
        (["harmonize", "table.csv", "--batch", "site", "--out", "o.csv", "--factors", "some"], "a number or auto"),
        (["harmonize", "table.csv", "--batch", "site", "--out", "o.csv", "--method", "ols"], "'ols'"),
        (["harmonize", "table.csv", "--batch", "site", "--out", "o.csv", "--probability", "90"], "between 0 and 1"),
        (["harmonize", "table.csv", "--batch", "site", "--out", "o.csv", "--batches", "x"], "--batches"),
        (["moments", "table.csv", "--design", "d.json", "--batch", "site", "--out", "m.nc"], "beside --design"),
        (["moments", "table.csv", *COLUMNS, "--reference", "site_01", "--save-design", "d.json"], "with --out"),
        (["harmonize", "table.csv", *COLUMNS, "--target", "site_01", "--report", "r.html"], "Expected --reference"),
        (["harmonize", "table.csv", *COLUMNS, "--out", "o.csv", "--sep", ";;"], "a single character"),
        (["harmonize", "table.csv", *COLUMNS, "--out", "o.csv", "--decimal", "x"], "a point or a comma"),
        (["harmonise", "table.csv"], "harmonize"),
        (["harmonize", "table.csv", "--batch", "site,sex", "--out", "o.csv"], "--batch site --batch sex"),
        (
            ["harmonize", "table.csv", "--covariates", "age", "--batch", "site", "--covariates", "sex"],
            "found it 2 times",
        ),
        (["harmonize", "table.csv", "--batch", "site", "--covariates", "age", "+", "sex"], "in quotation marks"),
    ],
    ids=lambda value: " ".join(value[-3:]) if isinstance(value, list) else "",
)
def test_usage_ends_with_2(folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(folder)
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["harmonize", "fit.nc", "--batch", "site", "--out", "o.csv"], "found a fit. Rows are harmonized by it with"),
        (["apply", "table.csv", "new.csv", "--out", "o.csv"], "found 'table.csv'. Where a command"),
        (["apply", "fit.nc", "fit.nc", "--out", "o.csv"], "found a fit"),
        (["apply", "fit.nc", "nwe.csv", "--out", "o.csv"], "Did you mean 'new.csv'?"),
        (["apply", "fitt.nc", "new.csv", "--out", "o.csv"], "'fitt.nc', found none"),
        (["apply", "fit.nc", "table.txt", "--out", "o.csv"], "found 'table.txt'"),
        (["merge", "fit.nc", "--out", "o.nc"], "hold moments of bayescombat, found a fit"),
        (["report", "table.csv", "--out", "o.html"], "Expected a fit, as --save writes it"),
        (["evaluate", "table.csv", "--fit", "new.csv"], "Expected a fit, as --save writes it"),
        (["update", "fit.nc", "new.csv", "--save", "nowhere/u.nc"], "Expected a folder 'nowhere'"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_files_of_the_other_kind_say_what_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    result = run(*arguments)
    assert result.exit_code == 1 and result.stderr.startswith("Error: Expected") and message in result.stderr
    assert not [path for path in folder.iterdir() if path.name.startswith("o.")]


def test_a_fit_that_says_nothing_of_uncertainty_says_so(folder: Path, tmp_path: Path) -> None:
    well("harmonize", folder / "table.csv", *COLUMNS, *EB, "--save", tmp_path / "fit.nc")
    result = run("apply", tmp_path / "fit.nc", folder / "new.csv", "--out", tmp_path / "o.csv", "--uncertainty")
    assert result.exit_code == 1 and "Fit again with --uncertainty, or --method nuts" in result.stderr
    assert not (tmp_path / "o.csv").exists()


def test_force_writes_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("old")
    command = ["apply", folder / "fit.nc", folder / "new.csv", "--out", tmp_path / "out.csv"]
    assert run(*command).exit_code == 1 and (tmp_path / "out.csv").read_text() == "old"
    well(*command, "--force")
    assert len(pd.read_csv(tmp_path / "out.csv")) == 12


def test_paths_are_looked_at_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("")
    result = run("harmonize", tmp_path / "table.csv", "--batch", "site", "--out", tmp_path / "nowhere" / "out.csv")
    assert result.exit_code == 1 and "Expected a folder" in result.stderr


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="this user may write everywhere")
def test_a_folder_that_may_not_be_written_into_is_told(folder: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    result = run("harmonize", folder / "table.csv", *COLUMNS, *EB, "--out", tmp_path / "out.csv")
    assert result.exit_code == 1 and "may be written into" in result.stderr


@pytest.mark.parametrize(
    ("library", "option", "name"),
    [
        ("pyarrow", "--out", "out.parquet"),
        ("openpyxl", "--out", "out.xlsx"),
        ("matplotlib", "--report", "out.html"),
    ],
)
def test_a_library_that_is_lacking_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, option: str, name: str
) -> None:
    # As if it were not installed: nobody can import it or find it.
    monkeypatch.setitem(sys.modules, library, None)
    result = run("harmonize", folder / "table.csv", *COLUMNS, *EB, option, tmp_path / name)
    assert result.exit_code == 1 and f"Expected {library}" in result.stderr and "pip install" in result.stderr


# ---------------------------------------------------------------- the program itself


def test_help_of_the_module_is_quick_and_reads_well() -> None:
    code = (
        "import runpy, sys, time\n"
        "sys.argv = ['bayescombat', 'harmonize', '--help']\n"
        "try:\n    runpy.run_module('bayescombat', run_name='__main__')\n"
        "except SystemExit as end:\n    print('ended', end.code, time.process_time())\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    environment = {"COLUMNS": "100", "TERM": "dumb", "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, env=environment)
    *text, ended, modules = found.stdout.splitlines()
    assert {"pymc", "pytensor", "sklearn", "arviz", "matplotlib", "nutpie", "statsmodels"} & set(
        modules.split()
    ) == set()
    _, code_of_exit, seconds = ended.split()
    assert code_of_exit == "0" and float(seconds) < SECONDS_FOR_HELP
    help_text = "\n".join(text)
    for panel in ("What the columns are", "Output", "Model", "Sampling, for --method nuts", "How the file is read"):
        assert panel in help_text


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help(command: str) -> None:
    said = run(*command.split(), "--help")
    assert said.exit_code == 0 and "Usage: " in said.stdout
    assert "Exit codes" in said.stdout or command


def test_the_version_is_told() -> None:
    assert run("--version").stdout.startswith("bayescombat ")
