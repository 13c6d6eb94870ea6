"""Every call on docs/migration.md runs, and returns what the page says.

The page has a section of level two for every package, and in it one of level three for every call: the package's own in
the first block of code, ours in the second. Blocks of a package share their names, as in a script. Where outputs of a
package are published, the sections that name a difference are run on those data again.
"""

import re
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import bayescombat as bc
from benchmarks import parity, tables

PAGE = Path(__file__).parents[1] / "docs" / "migration.md"

type Names = dict[str, Any]


class Section(NamedTuple):
    package: str
    title: str
    text: str
    theirs: str
    ours: str

    @property
    def difference(self) -> float:
        """The largest difference that the page states."""
        found = re.search(r"Largest difference from [^:]*: ([\d.e-]+\d)", self.text)
        assert found is not None
        return float(found[1])


@cache
def sections() -> list[Section]:
    found = []
    for chapter in re.split(r"^## ", PAGE.read_text(), flags=re.M)[1:]:
        package, *parts = re.split(r"^### ", chapter, flags=re.M)
        for part in parts:
            title, _, text = part.partition("\n")
            blocks = re.findall(r"^```\w+\n(.*?)^```$", text, re.S | re.M)
            assert len(blocks) == 2, f"{title}: their call, then ours"
            found.append(Section(package.partition("\n")[0], title, text, *blocks))
    return found


def chapter(package: str) -> dict[str, Section]:
    return {section.title: section for section in sections() if section.package == package}


def run(section: Section, names: Names) -> Names:
    exec(compile(section.ours, f"migration.md, {section.title}", "exec"), names)  # noqa: S102
    return names


def simulated(seed: int = 0) -> tuple[pd.DataFrame, list[str]]:
    simulation = bc.datasets.simulate((16, 14, 12), features=6, seed=seed)
    return simulation.table, list(simulation.features)


def of_neurocombat() -> Names:
    table, features = simulated()
    new = table.groupby("site").head(3).drop(index=0).iloc[::-1]
    table = table.drop(new.index)
    return {
        "dat": table[features].T,
        "covars": table[["site", "sex", "age"]],
        "new_dat": new[features].T,
        "new_covars": new[["site", "sex", "age"]],
    }


def of_neuroharmonize() -> Names:
    table, features = simulated()
    covars = pd.DataFrame({"SITE": table["site"], "AGE": table["age"], "SEX": (table["sex"] == "M").astype(int)})
    new = np.array([0, 20, 21])
    return {
        "pd": pd,
        "data": table[features].to_numpy(),
        "covars": covars,
        "new_data": table[features].to_numpy()[new],
        "new_covars": covars.iloc[new],
    }


def of_longcombat() -> Names:
    rng = np.random.default_rng(0)
    people, features = np.repeat(np.arange(20), 3), ["left", "right", "lower"]
    time, scanner = np.tile(np.arange(3), 20), rng.integers(3, size=60)
    values = 9 + rng.normal(size=(20, 3))[people] + scanner[:, None] * [1.0, -1.0, 0.5] + rng.normal(0, 0.5, (60, 3))
    table = pd.DataFrame(values, columns=features).assign(
        subid=[f"sub-{i:02}" for i in people], time=time.astype(float), scanner=np.array(["a", "b", "c"])[scanner]
    )
    new_table = table.iloc[[0, 1]].assign(subid=["sub-00", "sub-99"], time=3.0).set_axis([100, 101])
    return {"table": table, "features": features, "new_table": new_table}


def of_sva() -> Names:
    table, genes = simulated(seed=1)
    samples = [f"sample-{j}" for j in range(len(table))]
    cancer = np.array(["Normal", "Cancer", "Biopsy"])[np.arange(len(table)) % 3]
    pheno = pd.DataFrame({"batch": table["site"].str[-1].astype(int).to_numpy(), "cancer": cancer}, index=samples)
    return {"dat": table[genes].T.set_axis(samples, axis=1), "pheno": pheno}


def of_scanpy() -> Names:
    rng = np.random.default_rng(0)
    batch = np.arange(60) % 3
    values = np.log1p(rng.poisson(3 + batch[:, None], (60, 8)).astype(float))
    obs = pd.DataFrame(
        {"batch": np.array(["x", "y", "z"])[batch], "condition": np.array(["a", "b"])[np.arange(60) // 3 % 2]},
        index=[f"cell-{j}" for j in range(60)],
    )
    var = pd.DataFrame({"highly_variable": np.arange(8) < 4}, index=[f"gene-{v}" for v in range(8)])
    return {"adata": anndata.AnnData(values, obs, var, layers={"log1p": sparse.csr_matrix(values)})}


MADE: dict[str, Callable[[], Names]] = {
    "neuroCombat": of_neurocombat,
    "neuroHarmonize": of_neuroharmonize,
    "longCombat": of_longcombat,
    "sva": of_sva,
    "scanpy": of_scanpy,
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Names]]:
    """The names after every call of ours, by package and title."""
    after: dict[str, dict[str, Names]] = {}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.NegativeValueWarning)
        patch.chdir(tmp_path_factory.mktemp("migration"))
        for package, made in MADE.items():
            names, after[package] = {"bc": bc, **made()}, {}
            for title, section in chapter(package).items():
                if title == "A site that the model does not know":
                    table = bc.datasets.simulate((16, 14, 12, 9), features=6, seed=0).table
                    new = table[table["site"] == "site_04"]
                    known = {"SITE": new["site"], "AGE": new["age"], "SEX": (new["sex"] == "M").astype(int)}
                    features = new.filter(like="feature").set_axis([f"v{v}" for v in range(6)], axis=1)
                    names["newcomers"] = pd.DataFrame(known).join(features)
                after[package][title] = dict(run(section, names))
    return after


def published(
    y: np.ndarray,
    batch: Any,
    x: np.ndarray | None = None,
    shrinkage: str = "parametric",
    mean_only: bool = False,
    reference: int | None = None,
    tolerance: float = 1e-4,
) -> np.ndarray:
    """Harmonize (obs, feature) by the published algorithm; x are columns of the design, `reference` is a position."""
    levels, codes = np.unique(np.asarray(batch), return_inverse=True)
    indicators = (codes[:, None] == np.arange(len(levels))).astype(float)
    design = indicators if x is None else np.column_stack([indicators, x])
    coefficients = np.linalg.lstsq(design, y)[0]
    told = slice(None) if reference is None else codes == reference
    sigma = np.sqrt(((y - design @ coefficients)[told] ** 2).mean(axis=0))
    weights = indicators.mean(axis=0) if reference is None else np.arange(len(levels)) == reference
    mean = weights @ coefficients[: len(levels)] + design[:, len(levels) :] @ coefficients[len(levels) :]
    standard = (y - mean) / sigma
    for i in range(len(levels)):
        if i != reference:
            gamma, delta = stars(standard[codes == i], shrinkage, mean_only, tolerance)
            standard[codes == i] = (standard[codes == i] - gamma) / np.sqrt(delta)
    return np.where((codes == reference)[:, None], y, standard * sigma + mean)


def stars(standard: np.ndarray, shrinkage: str, mean_only: bool, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return shift and squared scale of one batch, shrunken, given its standardised values (obs, feature)."""
    n, hat = len(standard), standard.mean(axis=0)
    delta_hat = np.ones_like(hat) if mean_only else standard.var(axis=0, ddof=1)
    center, spread = hat.mean(), hat.var(ddof=1)
    if shrinkage == "none":
        return hat, delta_hat
    if shrinkage == "nonparametric":
        squares = ((standard[:, :, None] - hat) ** 2).sum(axis=0)
        weight = np.exp(-squares / 2 / delta_hat) / delta_hat ** (n / 2)
        np.fill_diagonal(weight, 0)
        weight /= weight.sum(axis=1, keepdims=True)
        return weight @ hat, weight @ delta_hat
    if mean_only:
        return (spread * hat + center) / (spread + 1), delta_hat
    m, v = delta_hat.mean(), delta_hat.var(ddof=1)
    a, b = (2 * v + m**2) / v, (m * v + m**3) / v
    gamma, delta, change = hat, delta_hat, np.inf
    while change > tolerance:
        new_gamma = (spread * n * hat + delta * center) / (spread * n + delta)
        new_delta = (((standard - new_gamma) ** 2).sum(axis=0) / 2 + b) / (n / 2 + a - 1)
        moves = (np.abs(new_gamma - gamma) / gamma, np.abs(new_delta - delta) / delta)
        gamma, delta, change = new_gamma, new_delta, max(move.max() for move in moves)
    return gamma, delta


def close(found: Any, expected: Any, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=tolerance, atol=tolerance)


def neurocombat_by_hand(names: Names, **options: Any) -> np.ndarray:
    x = np.column_stack([names["covars"]["sex"] == "M", names["covars"]["age"]])
    return published(names["dat"].to_numpy().T, names["covars"]["site"], x, **options).T


def check_labels(names: Names) -> None:
    close(names["harmonized"], neurocombat_by_hand(names))
    assert list(names["harmonized"].index) == list(names["dat"].index)
    assert list(names["harmonized"].columns) == list(names["dat"].columns)


def check_sd(names: Names) -> None:
    assert names["harmonized"].sizes == names["sd"].sizes
    assert (names["sd"] > 0).all()


def check_fit_of_neurocombat(**options: Any) -> Callable[[Names], None]:
    return lambda names: close(names["fit"].harmonized["mean"].T, neurocombat_by_hand(names, **options))


def check_estimates(names: Names) -> None:
    columns = {"categorical_cols": ["sex"], "continuous_cols": ["age"]}
    found = bc.neurocombat(names["dat"], names["covars"], "site", **columns, ref_batch="site_02")["estimates"]
    close(names["gamma_star"], found["gamma.star"])
    close(names["delta_star"], found["delta.star"])
    close(names["var_pooled"], found["var.pooled"][:, 0])


def check_training(names: Names) -> None:
    estimates, new = names["found"]["estimates"], names["new_dat"].to_numpy()
    at = [["site_01", "site_02", "site_03"].index(site) for site in names["new_covars"]["site"]]
    mean = estimates["stand.mean"][:, :1] + estimates["mod.mean"].mean(axis=1, keepdims=True)
    sigma = np.sqrt(estimates["var.pooled"])
    scores = ((new - mean) / sigma - estimates["gamma.star"][at].T) / np.sqrt(estimates["delta.star"][at].T)
    close(names["new_harmonized"], scores * sigma + mean)


def check_new_scans(names: Names) -> None:
    fit, covars = names["fit"], names["new_covars"]
    parameters = {name: fit.parameters[name].sel(batch=list(covars["site"])).values for name in ("gamma", "delta")}
    x = np.column_stack([covars["sex"] == "M", covars["age"]]) - fit.layout.center
    mean = fit.parameters["alpha"].values + x @ fit.parameters["beta"].values.T
    scores = (names["new_dat"].to_numpy().T - mean - parameters["gamma"]) / parameters["delta"]
    close(names["new_harmonized"], (scores + mean).T)


def neuroharmonize_by_hand(names: Names, **options: Any) -> np.ndarray:
    return published(names["data"], names["covars"]["SITE"], names["covars"][["AGE", "SEX"]].to_numpy(float), **options)


def check_curve(names: Names) -> None:
    curved, again = names["curved"], bc.fit(names["study"], method="eb")
    np.testing.assert_array_equal(curved.harmonized["mean"], again.harmonized["mean"])
    # Ages of the simulation act along a straight line.
    apart = (curved.harmonized["mean"].values - names["adjusted"]) / curved.parameters["sigma"].values
    assert 0 < np.sqrt((apart**2).mean()) < 0.2
    assert (names["curve"]["lower"] < names["curve"]["upper"]).all()


def check_loaded(names: Names) -> None:
    close(names["model"].harmonize(names["new_table"])["mean"], names["new_adjusted"], 0)
    with pytest.raises(bc.DataError, match="saved without data"):
        _ = names["model"].study


def check_adopted(names: Names) -> None:
    assert "site_04" in names["model"].layout.levels.labels
    assert np.isfinite(names["newcomers_adjusted"]).all()
    close(names["model"].harmonized["mean"], neuroharmonize_by_hand(names, shrinkage="none", reference=1))


def spread_of_scanners(values: pd.DataFrame, scanner: pd.Series) -> float:
    return float(values.groupby(scanner.to_numpy()).mean().std().mean())


def check_repeated(names: Names) -> None:
    table, harmonized = names["table"], names["harmonized"]
    assert list(harmonized.index) == list(table.index) and list(harmonized.columns) == names["features"]
    before = spread_of_scanners(table[names["features"]], table["scanner"])
    assert spread_of_scanners(harmonized, table["scanner"]) < before / 3


def check_shrunken(names: Names) -> None:
    table, found = names["table"], names["better"].harmonized["mean"].to_pandas()
    before = spread_of_scanners(table[names["features"]], table["scanner"])
    assert spread_of_scanners(found, table["scanner"]) < before / 3
    assert abs(found - names["harmonized"]).to_numpy().max() > 1e-4


def check_known_subjects(names: Names) -> None:
    known, unknown = names["harmonized"].loc[100], names["harmonized"].loc[101]
    alone = names["better"].harmonize(names["new_table"].tail(1))["mean"].to_pandas()
    close(alone.loc[101], unknown)
    stranger = names["new_table"].head(1).assign(subid="sub-98")
    assert abs(names["better"].harmonize(stranger)["mean"].values - known.to_numpy()).max() > 1e-4


def sva_by_hand(names: Names, **options: Any) -> np.ndarray:
    cancer = pd.get_dummies(names["pheno"]["cancer"], drop_first=True, dtype=float)
    return published(names["dat"].to_numpy().T, names["pheno"]["batch"], cancer.to_numpy(), **options).T


def check_fit_of_sva(**options: Any) -> Callable[[Names], None]:
    return lambda names: close(names["fit"].harmonized["mean"].T, sva_by_hand(names, **options))


def check_layer(names: Names) -> None:
    given, found = of_scanpy()["adata"], names["adata"]
    condition = (given.obs["condition"] == "b").to_numpy(float)[:, None]
    close(found.layers["combat"], published(given.X, given.obs["batch"], condition, tolerance=1e-13), 1e-9)
    np.testing.assert_array_equal(found.X, given.X)


def check_values(names: Names) -> None:
    given = of_scanpy()["adata"]
    close(names["values"], published(given.X, given.obs["batch"], tolerance=1e-13), 1e-9)


def check_variable_genes(names: Names) -> None:
    given, layers = of_scanpy()["adata"], names["adata"].layers
    expected = published(given.X[:, :4], given.obs["batch"], tolerance=1e-13)
    close(layers["combat"][:, :4], expected, 1e-9)
    np.testing.assert_array_equal(layers["combat"][:, 4:], given.X[:, 4:])
    assert (layers["combat_sd"][:, :4] > 0).all() and (layers["combat_sd"][:, 4:] == 0).all()


CHECKS: dict[str, dict[str, Callable[[Names], None]]] = {
    "neuroCombat": {
        "The same call": lambda names: close(names["harmonized"], neurocombat_by_hand(names)),
        "With labels": check_labels,
        "With standard deviations": check_sd,
        "Without empirical Bayes": check_fit_of_neurocombat(shrinkage="none"),
        "Nonparametric priors": check_fit_of_neurocombat(shrinkage="nonparametric"),
        "The location alone": check_fit_of_neurocombat(mean_only=True),
        "A reference site": check_fit_of_neurocombat(reference=1),
        "Estimates": check_estimates,
        "New scans, by estimates of a training": check_training,
        "New scans, with their own covariates": check_new_scans,
    },
    "neuroHarmonize": {
        "Learning": lambda names: close(names["adjusted"], neuroharmonize_by_hand(names)),
        "A smooth effect of age": check_curve,
        "Applying a model to new scans": lambda names: close(names["new_adjusted"], names["adjusted"][[0, 20, 21]]),
        "Saving and loading": check_loaded,
        "A reference site, and no empirical Bayes": lambda names: close(
            names["model"].harmonized["mean"], neuroharmonize_by_hand(names, shrinkage="none", reference=1)
        ),
        "A site that the model does not know": check_adopted,
    },
    "longCombat": {
        "Repeated scans": check_repeated,
        "The same, shrunken as far as scans tell": check_shrunken,
        "New scans of known and of unknown subjects": check_known_subjects,
    },
    "sva": {
        "ComBat": lambda names: close(names["harmonized"], sva_by_hand(names)),
        "Nonparametric priors of genes": check_fit_of_sva(shrinkage="nonparametric"),
        "Means alone": check_fit_of_sva(mean_only=True),
        "A reference batch": check_fit_of_sva(reference=0),
        "What the priors look like": lambda names: len(names["picture"].axes) > 0 or pytest.fail("an empty picture"),
    },
    "scanpy": {
        "In place": check_layer,
        "As an array": check_values,
        "Highly variable genes, from a layer": check_variable_genes,
    },
}


def test_every_line_of_the_page_has_a_check() -> None:
    assert {package: list(checks) for package, checks in CHECKS.items()} == {
        package: list(chapter(package)) for package in dict.fromkeys(section.package for section in sections())
    }


@pytest.mark.parametrize(
    ("package", "title"), [(package, title) for package, checks in CHECKS.items() for title in checks]
)
def test_our_call_does_what_theirs_does(package: str, title: str, ran: dict[str, dict[str, Names]]) -> None:
    CHECKS[package][title](ran[package][title])


def outputs(name: str, configuration: str) -> pd.DataFrame:
    """Return what a package made of a table, rows being scans."""
    found = pd.read_parquet(tables.FOLDER / name).set_index("config").loc[configuration]
    return found.set_index("probe").T if "probe" in found else found.set_index("sub_id")


def names_of_fcon1000() -> Names:
    table = tables.read_fcon1000()
    return {"dat": table.filter(like="hickness").T, "covars": table[["site", "sex", "age"]]}


def names_of_fcon1000_without_labels() -> Names:
    table = tables.read_fcon1000()
    covars = table[["site", "age", "sex"]].set_axis(["SITE", "AGE", "SEX"], axis=1)
    return {"pd": pd, "data": table.filter(like="hickness").to_numpy(), "covars": covars}


def names_of_travelling_people() -> Names:
    rows, expected = parity.travelling_people()
    return {"table": rows.rename(columns={"subject": "subid", "year": "time"}), "features": list(expected.columns)}


def names_of_bladderbatch(probes: pd.Index | None = None) -> Names:
    table, every = tables.read_bladderbatch()
    return {"dat": table[every if probes is None else probes].T, "pheno": table[["batch", "cancer"]]}


def run_on_reference(package: str, title: str, names: Names) -> Names:
    """Run our call, and before it the first one that makes a table and a study, on real data."""
    of_package = chapter(package)
    first = {"neuroCombat": "With labels", "sva": "ComBat"}.get(package, title)
    with warnings.catch_warnings():
        # The tables have known oddities.
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        for wanted in dict.fromkeys([first, title]):
            ours = of_package[wanted].ours.replace("site_02", "Cambridge_Buckner")
            run(of_package[wanted]._replace(ours=ours), names)
        if "fit" in names:
            names["table_of_fit"] = names["fit"].harmonized["mean"].to_pandas()
    return names


FCON1000, BLADDERBATCH = "fcon1000/r_reference_outputs.parquet", "bladderbatch/r_sva_combat_reference_every40th.parquet"


@pytest.mark.usefixtures("reference_data")
@pytest.mark.parametrize(
    ("title", "configuration"),
    [
        ("The same call", "neuroCombat_eb"),
        ("With labels", "neuroCombat_eb"),
        ("Without empirical Bayes", "neuroCombat_noeb"),
        ("The location alone", "neuroCombat_meanonly"),
        ("A reference site", "neuroCombat_refCambridge"),
    ],
)
def test_neurocombat_for_r_says_the_same(title: str, configuration: str) -> None:
    names = run_on_reference("neuroCombat", title, {"bc": bc, **names_of_fcon1000()})
    found = names["table_of_fit"]
    if title == "The same call":
        found = pd.DataFrame(names["harmonized"].T, found.index, found.columns)
    expected = outputs(FCON1000, configuration)
    difference = abs(found.loc[expected.index, expected.columns] - expected).to_numpy().max()
    assert difference <= chapter("neuroCombat")[title].difference


@pytest.mark.usefixtures("reference_data")
@pytest.mark.parametrize(
    ("title", "configuration"),
    [
        ("ComBat", "parametric_cancer"),
        ("Nonparametric priors of genes", "nonparametric_cancer"),
        ("Means alone", "parametric_cancer_meanonly"),
        ("A reference batch", "parametric_cancer_ref1"),
    ],
)
def test_sva_says_the_same(title: str, configuration: str) -> None:
    some = configuration.startswith("non")
    name = "bladderbatch/r_sva_combat_reference_1000genes.parquet" if some else BLADDERBATCH
    configuration = f"{configuration}_1000genes" if some else configuration
    expected = outputs(name, configuration)
    names = names_of_bladderbatch(expected.columns if some else None)
    found = run_on_reference("sva", title, {"bc": bc, **names})["table_of_fit"]
    difference = abs(found.loc[expected.index, expected.columns] - expected).to_numpy().max()
    assert difference <= chapter("sva")[title].difference


@pytest.mark.usefixtures("reference_data")
def test_longcombat_says_the_same() -> None:
    names = run_on_reference("longCombat", "Repeated scans", {"bc": bc, **names_of_travelling_people()})
    difference = abs(names["harmonized"].to_numpy() - parity.travelling_people()[1].to_numpy()).max()
    assert difference <= chapter("longCombat")["Repeated scans"].difference


@pytest.mark.usefixtures("reference_data")
def test_neuroharmonize_is_near() -> None:
    names, section = {"bc": bc, **names_of_fcon1000_without_labels()}, chapter("neuroHarmonize")
    features = list(names_of_fcon1000()["dat"].index)
    straight = run_on_reference("neuroHarmonize", "Learning", names)["adjusted"]
    expected = outputs(FCON1000, "comfam_lm")
    columns = [features.index(name) for name in expected.columns]
    rows = names["covars"].index.get_indexer(expected.index)
    difference = abs(straight[np.ix_(rows, columns)] - expected.to_numpy()).max()
    assert difference <= section["Learning"].difference
    run_on_reference("neuroHarmonize", "A smooth effect of age", names)
    curved, smooth = names["curved"], outputs(FCON1000, "comfam_gam_s_age").loc[expected.index].to_numpy()
    sigma = curved.parameters["sigma"].values[columns]
    apart = (curved.harmonized["mean"].values[np.ix_(rows, columns)] - smooth) / sigma
    of_line = names["model"].parameters["sigma"].values[columns]
    without = (straight[np.ix_(rows, columns)] - smooth) / of_line
    text = " ".join(section["A smooth effect of age"].text.split())
    stated = re.findall(r"(?:by|and) (\.\d+)", text)
    measured = [size for values in (apart, without) for size in (np.sqrt((values**2).mean()), abs(values).max())]
    np.testing.assert_allclose(measured, [float(number) for number in stated], atol=0.005)


@pytest.mark.usefixtures("reference_data")
def test_what_compat_moves_is_told() -> None:
    intro = " ".join(PAGE.read_text().partition("## neuroCombat")[0].split())
    found = re.search(r"by ([\de.-]+) sigma at most on fcon1000 and by ([\de.-]+) on bladderbatch", intro)
    means = re.search(r"as much as ([\d.]+) sigma", intro)
    assert found is not None and means is not None
    fcon1000 = tables.study_of(tables.read_fcon1000(), batch="site", covariates="age + sex", features="hickness")
    table, probes = tables.read_bladderbatch()
    bladderbatch = tables.study_of(table, batch="batch", covariates="cancer", features=probes)

    def moved(study: bc.Study, **options: Any) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", bc.BayesCombatWarning)
            sva, ours = (bc.fit(study, method="eb", compat=compat, **options) for compat in ("sva", None))
            apart = (sva.harmonized["mean"] - ours.harmonized["mean"]) / ours.parameters["sigma"]
        return float(abs(apart).max())

    assert float(found[1]) / 2 < moved(fcon1000) <= 1.1 * float(found[1])
    assert float(found[2]) / 2 < moved(bladderbatch) <= 1.1 * float(found[2])
    most = max(moved(fcon1000, mean_only=True), moved(bladderbatch, mean_only=True))
    assert float(means[1]) - 0.1 < most < float(means[1]) + 0.1
