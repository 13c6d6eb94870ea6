"""A report says what a fit holds and did, escapes what users named, and is a page that browsers and readers can use."""

import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayescombat as bc
from bayescombat.report import attention, effects, glance
from bayescombat.report.held import Held
from bayescombat.report.hierarchy import chosen
from bayescombat.report.methods import methods_of
from bayescombat.report.pieces import Fact, Table
from bayescombat.report.references import REFERENCES, Citing
from bayescombat.report.reproduction import equivalent_call
from tests import browser
from tests.conftest import ROOT
from tests.studies import compiled_quickly, small_study, without_cells

# Small studies have batches of one scan, and features that some never measured.
pytestmark = pytest.mark.filterwarnings("ignore::bayescombat.BayesCombatWarning")

VOID = {"meta", "link", "br", "img", "hr", "input"}
MOST_BYTES = 3_000_000
NASTY = "<script>alert('site')</script>"


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parent: "Element | None"
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())

    def inside(self, tag: str) -> bool:
        return self.parent is not None and (self.parent.tag == tag or self.parent.inside(tag))


class Page(HTMLParser):
    """The elements of a page, whose tags have to be closed in the order that they were opened in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.elements, self._open = html, [], []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, self._open[-1] if self._open else None)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        assert self._open.pop().inside("svg")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.pieces.append(data)

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    def by_id(self, name: str) -> Element:
        (found,) = [element for element in self.elements if element.attributes.get("id") == name]
        return found

    def table(self, name: str) -> pd.DataFrame:
        (table,) = [e for e in self.all("table") if e.attributes["aria-labelledby"] == f"{name}-table-caption"]
        rows: list[list[str]] = []
        for element in self.elements:
            if _owner(element) is table:
                if element.tag == "tr":
                    rows.append([])
                elif element.tag in ("th", "td"):
                    rows[-1].append(element.text)
        return pd.DataFrame(rows[1:], columns=rows[0]).set_index(rows[0][0])

    def facts(self, section: str) -> dict[str, str]:
        named = [e.text for e in self.all("dt") if _section(e) == section]
        return dict(zip(named, [e.text for e in self.all("dd") if _section(e) == section], strict=True))


def _owner(element: Element) -> Element | None:
    while element.parent is not None and element.parent.tag != "table":
        element = element.parent
    return element.parent


def _section(element: Element) -> str | None:
    while element.parent is not None and element.tag != "section":
        element = element.parent
    return element.attributes.get("id")


def number(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


def eb(study: bc.Study | bc.Moments, **arguments: object) -> bc.Fit:
    return bc.fit(study, method="eb", **arguments)


def frame(table: Table) -> pd.DataFrame:
    return pd.DataFrame(table.rows, columns=table.columns).set_index(table.columns[0])


def values_of(facts: list[Fact]) -> dict[str, str]:
    return {fact.name: fact.value for fact in facts}


def to_look_at(held: Held) -> str:
    return "\n".join(item.found for item in attention.items(held))


def told(fit: bc.Fit, evaluation: bc.Evaluation | None = None) -> str:
    return "\n".join(methods_of(Held.by(fit), evaluation).paragraphs)


def stripped(fit: bc.Fit, *groups: str) -> bc.Fit:
    """The fit as it is read from a file that was saved without some of it."""
    tree = fit.tree.copy()
    for group in groups:
        del tree[group]
    return bc.Fit(tree)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Page]:
    """Return a function that writes a report and reads it."""
    path = tmp_path_factory.mktemp("report") / "report.html"

    def page(fit: bc.Fit, **arguments: object) -> Page:
        bc.report(fit, path, **arguments)
        return Page(path.read_text(encoding="utf-8"))

    return page


@pytest.fixture(scope="module")
def judged(study: bc.Study, eb_fit: bc.Fit) -> bc.Evaluation:
    return bc.evaluate(study, eb_fit, folds=2, permutations=20, seed=1, progress_bar=False)


@pytest.fixture(scope="module")
def nasty_fit() -> bc.Fit:
    """Of names that are tags, formulas and end of lines of scripts."""
    study = small_study()
    names = (NASTY, "$\\frac$ & co", '"><img src=https://example.com/x.png onerror=alert(1)>', "</style></script>")
    labels = np.array(["<b>a</b>", "</title>", "{{ 7 * 7 }}", NASTY])[study.codes]
    return eb(bc.Study.from_arrays(study.y, batch=labels, covariates={"<i>age</i>": study.x[:, 0]}, features=names))


@pytest.fixture(scope="module")
def pages(
    written: Callable[..., Page], nuts_fit: bc.Fit, eb_fit: bc.Fit, nasty_fit: bc.Fit, judged: bc.Evaluation
) -> dict[str, Page]:
    """Reports of all that a page can have, and of the least."""
    return {
        "nuts": written(nuts_fit, evaluation=judged, call="bayescombat fit table.csv --batch site"),
        "least": written(stripped(eb_fit, "observed_data", "constant_data", "moments")),
        "nasty": written(nasty_fit, call=NASTY),
    }


KINDS = ("nuts", "least", "nasty")


# The page


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_one_that_readers_of_all_kinds_can_use(kind: str, pages: dict[str, Page]) -> None:
    page = pages[kind]
    assert page.html.startswith("<!doctype html>") and page.all("html")[0].attributes == {"lang": "en"}
    assert len(page.all("h1")) == len(page.all("main")) == 1
    levels = [int(element.tag[1]) for element in page.elements if re.fullmatch("h[1-6]", element.tag)]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert {element.attributes.get("scope") for element in page.all("th")} == {"col", "row"}
    names = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(names) == len(set(names))
    labels = [element.attributes.get("aria-labelledby", "").split() for element in page.elements]
    assert {name for part in labels for name in part} <= set(names)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_asked_of_the_network(kind: str, pages: dict[str, Page]) -> None:
    page = pages[kind]
    names = {element.attributes.get("id") for element in page.elements}
    for element in page.elements:
        assert "src" not in element.attributes and "srcset" not in element.attributes
        link = element.attributes.get("href", "#glance")
        plain = element.tag == "a" and link.startswith("https://doi.org/10.")
        assert plain or link.startswith("data:") or link[1:] in names, link
    assert "@import" not in page.html and "url(" not in page.html.replace("url(#", "")


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_has_a_text_in_its_place(kind: str, pages: dict[str, Page]) -> None:
    page = pages[kind]
    assert page.all("svg") and len(page.all("svg")) == len(page.all("figure"))
    for svg in page.all("svg"):
        assert svg.attributes["role"] == "img"
        title, description = (page.by_id(name) for name in svg.attributes["aria-labelledby"].split())
        assert title.text and len(description.text) > 50


def test_names_of_users_are_text_and_nothing_else(pages: dict[str, Page], nasty_fit: bc.Fit) -> None:
    page = pages["nasty"]
    assert len(page.all("script")) == len(page.all("style")) == 1 and not page.all("img") and not page.all("b")
    assert "{{ 7 * 7 }}" in page.table("shifts").index and NASTY in page.table("shifts").index
    assert set(page.table("changes").index) == set(nasty_fit.layout.features)
    assert NASTY in [element.text for element in page.all("pre")]
    assert not any(name.startswith("on") for element in page.elements for name in element.attributes)


def test_colours_are_the_page_s_own(pages: dict[str, Page]) -> None:
    figures = [element for element in pages["nuts"].elements if element.inside("svg")]
    styles = " ".join(element.attributes.get("style", "") for element in figures)
    assert "var(--blue)" in styles and re.findall("#[0-9a-f]{6}", styles) == []


@pytest.fixture(scope="module")
def eb_page(eb_fit: bc.Fit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a report, written over an older one."""
    path = tmp_path_factory.mktemp("eb") / "report.html"
    path.write_text("old")
    bc.report(eb_fit, path)
    return path


def test_the_same_fit_gives_the_same_page_whatever_the_user_s_style(
    written: Callable[..., Page], eb_fit: bc.Fit, eb_page: Path
) -> None:
    from matplotlib import style

    with style.context("dark_background"):
        assert written(eb_fit).html == eb_page.read_text(encoding="utf-8")


def test_files_of_the_page_are_in_the_package() -> None:
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    folder = ROOT / "bayescombat" / "report"
    packed = {path.name for pattern in given["bayescombat.report"] for path in folder.glob(pattern)}
    assert packed == {path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}


# What is refused


def test_it_is_written_whole_or_not_at_all(eb_page: Path) -> None:
    assert eb_page.read_text(encoding="utf-8").rstrip().endswith("</html>") and list(eb_page.parent.iterdir()) == [
        eb_page
    ]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path, eb_fit: bc.Fit) -> None:
    with pytest.raises(FileNotFoundError, match="Expected a folder"):
        bc.report(eb_fit, tmp_path / "none" / "report.html")


def test_what_is_no_fit_no_evaluation_and_no_text_is_refused(
    tmp_path: Path, study: bc.Study, eb_fit: bc.Fit, judged: bc.Evaluation
) -> None:
    path = tmp_path / "report.html"
    with pytest.raises(bc.DataError, match="Expected a Fit, found Study"):
        bc.report(study, path)
    with pytest.raises(bc.DataError, match="Expected an Evaluation, found DataFrame"):
        bc.report(eb_fit, path, evaluation=judged.table)
    with pytest.raises(bc.DataError, match="Expected an evaluation of the fit's features.*'feature_4'"):
        bc.report(eb(small_study()), path, evaluation=judged)
    with pytest.raises(bc.DataError, match="Expected call as text, found list"):
        bc.report(eb_fit, path, call=["fit"])
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_error_names_the_extra(
    tmp_path: Path, eb_fit: bc.Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'pymc-combat\[plot\]'"):
        bc.report(eb_fit, tmp_path / "report.html")


# What it says


def test_the_study_at_a_glance(pages: dict[str, Page], study: bc.Study) -> None:
    page = pages["nuts"]
    facts, table = page.facts("glance"), page.table("batches")
    assert facts["Scans"] == "63" and facts["Features"] == "8 harmonized" and facts["Missing cells"] == "none"
    assert facts["Levels of ‘site’"] == "4 batches of 3 to 30 scans" and facts["Preserved"] == "age + sex"
    assert table["Scans"].tolist() == ["30", "20", "10", "3"]
    ages = study.x[study.codes == 3, 0]
    said = re.findall(r"[\d.]+", table["age"]["site_04"])
    assert [float(text) for text in said] == pytest.approx([ages.mean(), ages.min(), ages.max()], abs=0.05)
    assert table["sex[T.M] (share)"]["site_01"] == f"{100 * study.x[study.codes == 0, 1].mean():.0f} %"


def test_moments_tell_means_of_covariates_and_what_is_missing() -> None:
    fit = eb(without_cells(small_study()))
    whole, left = (Held.by(one) for one in (fit, stripped(fit, "observed_data", "constant_data")))
    missing = [values_of(glance.facts(held))["Missing cells"] for held in (whole, left)]
    assert missing[0] == missing[1] != "none"
    full = eb(small_study())
    held, rows = Held.by(stripped(full, "observed_data", "constant_data")), full.study
    means = [rows.x[rows.codes == code, 0].mean() for code in range(4)]
    assert [number(text) for text in frame(glance.of_batches(held))["age"]] == pytest.approx(means, abs=0.05)
    covariates = glance.of_covariates(held)
    assert covariates is not None
    said = frame(covariates).loc["age", ["Mean or share", "sd"]]
    assert [number(text) for text in said] == pytest.approx([rows.x.mean(), rows.x.std(ddof=1)], abs=0.05)


def test_effects_are_those_of_the_summary(pages: dict[str, Page], nuts_fit: bc.Fit) -> None:
    table, summary = pages["nuts"].table("shifts"), nuts_fit.summary()
    said = np.array([[number(text) for text in row] for row in table.values])
    np.testing.assert_allclose(said, summary.values, atol=0.005)
    assert list(table.index) == list(summary.index)


@pytest.mark.parametrize("transform", [None, "log"])
def test_features_changed_most_are_those_of_the_harmonized_rows(transform: str | None) -> None:
    study = small_study()
    raw = np.exp(study.y / 3) if transform else study.y
    study = bc.Study.from_arrays(raw, batch=study.codes, transform=transform)
    fit = eb(study, uncertainty=True, seed=1)
    scale = np.log if transform else np.asarray
    away = scale(fit.harmonized["mean"].values) - scale(raw)
    size = np.sqrt((away**2).mean(axis=0)) / fit.parameters["sigma"].values
    table = frame(effects.of_features(Held.by(fit)))
    assert list(table.index) == list(np.array(study.features)[np.argsort(-size)])
    assert [number(text) for text in table["RMS change (σ)"]] == pytest.approx(-np.sort(-size), abs=0.005)
    if transform is None:
        sd = np.sqrt((fit.harmonized["sd"].values ** 2).mean(axis=0)) / fit.parameters["sigma"].values
        assert number(table["sd of a value (σ)"].iloc[0]) == pytest.approx(sd[size.argmax()], abs=0.005)


def test_without_rows_the_expected_change_is_near_that_of_the_rows(eb_fit: bc.Fit) -> None:
    fits = (eb_fit, stripped(eb_fit, "observed_data"))
    whole, left = (frame(effects.of_features(Held.by(fit))) for fit in fits)
    one, other = (table["RMS change (σ)"].map(number).sort_index() for table in (whole, left))
    assert np.abs(one - other).max() < 0.1 and list(left.columns) == ["RMS change (σ)", "Largest shift (σ)"]


def test_what_the_file_does_not_hold_is_said(pages: dict[str, Page]) -> None:
    page = pages["least"]
    assert "This fit holds no rows" in page.by_id("look").text
    assert page.facts("glance")["Missing cells"] == "not known: the fit holds neither rows nor moments"
    assert "saved without moments" in page.by_id("effects").text
    assert "the fit holds no rows" in page.by_id("features").text
    assert "bc.evaluate(study, fit, seed=1)" in page.by_id("evaluation").text


def test_the_verdict_comes_first(pages: dict[str, Page], tiny_fit: bc.Fit) -> None:
    def banner(page: Page) -> Element:
        (found,) = [e for e in page.all("div") if e.attributes.get("aria-label") == "Verdict"]
        return found

    good, bad = banner(pages["nuts"]), attention.banner(Held.by(tiny_fit), [])
    assert "The sampler did its work." in good.text and "Converged: R-hat" in good.text
    assert (bad.level, bad.words, bad.detail) == ("bad", "Not to be trusted as it stands.", tiny_fit.verdict)
    assert banner(pages["least"]).attributes["class"] == "banner caution"


def test_figures_of_the_sampler_are_those_of_the_fit(pages: dict[str, Page], nuts_fit: bc.Fit) -> None:
    facts, table = pages["nuts"].facts("estimation"), pages["nuts"].table("parameters")
    rhat, bulk = (nuts_fit.tree[f"diagnostics/{name}"].to_dataset() for name in ("rhat", "ess_bulk"))
    worst = max(float(values.max()) for values in rhat.data_vars.values())
    assert facts["Largest R-hat"].startswith(f"{worst:.3f} ") and facts["Divergences"].startswith("0 of 2,000 draws")
    assert number(table["Largest R‑hat"]["gamma"]) == pytest.approx(float(rhat["gamma"].max()), abs=5e-4)
    assert number(table["Least bulk ESS"]["sigma"]) == pytest.approx(float(bulk["sigma"].min()), abs=0.5)


def test_the_diagnosis_and_the_warnings_are_there() -> None:
    study = small_study()
    y = study.y.copy()
    y[:, 1] = 3.0
    held = Held.by(eb(replace(study, y=y)))
    found, aside = to_look_at(held), values_of(glance.of_what_was_set_aside(held))
    assert "1 feature constant in all scans: 'feature_1'" in found and "One scan in 1 of 4 batches" in found
    assert aside == {"1 feature, constant overall or inside a batch of two or more scans": "feature_1"}
    assert "feature_1" not in frame(effects.of_features(held)).index


def test_values_that_become_negative_are_named() -> None:
    high = np.arange(60) < 10
    values = np.where(high, 0.5 + np.arange(60), np.linspace(0.8, 1.2, 60))
    study = bc.Study.from_arrays(np.column_stack([values, values**2]), batch=high)
    found = to_look_at(Held.by(eb(study, mean_only=True)))
    assert "positive in all scans with harmonized values below zero: 'feature_0'" in found


def test_an_evaluation_is_told_in_tables_and_words(pages: dict[str, Page], judged: bc.Evaluation) -> None:
    page, expected = pages["nuts"], judged.table
    text = page.by_id("evaluation").text
    for metric, row in expected.iterrows():
        assert metric in text and f"{row['raw']:.2f}".replace("-", "−") in text
    share, name = expected.loc["site: share of variance"], "The share of the median feature’s variance that site"
    methods = page.by_id("methods-text").text
    assert name in methods and f"was {share['raw']:.2f} before and {share['harmonized']:.2f} after" in methods
    assert "refitted in every fold by empirical Bayes with the fit's own settings" in methods


# Methods


def with_software(**roles: object) -> bc.Study:
    simulation = bc.datasets.simulate((30, 20, 15), features=12, seed=3)
    table = simulation.table.assign(
        software=np.where(np.arange(65) % 3, "new", "old"), id=[f"s{k // 2}" for k in range(65)]
    )
    return bc.Study.from_dataframe(
        table, **{"batch": "site", "covariates": "age", "features": simulation.features} | roles
    )


METHODS: dict[str, tuple[Callable[[], bc.Fit], list[str], list[str]]] = {
    "plain": (
        lambda: eb(with_software()),
        ["empirical-Bayes ComBat (Johnson et al. 2007)", "Effects of age were estimated", "inverse-gamma"],
        ["sva", "interval", "log-normal", "factor", "missing", "Reynolds", "one scan", "covariate was modelled"],
    ),
    "no covariate": (lambda: eb(with_software(covariates=None)), ["No covariate was modelled"], ["preserved"]),
    "formula": (
        lambda: eb(with_software(covariates="bs(age, df=4)")),
        ["Effects of ‘bs(age, df=4)’ (a formula) were estimated"],
        [],
    ),
    "uncertainty": (
        lambda: eb(with_software(), uncertainty=True, seed=4),
        ["given the hyper-parameters", "have the seed 4", "were taken for independent"],
        ["without a standard error"],
    ),
    "reference": (
        lambda: eb(with_software(reference="site_02")),
        ["to the batch site_02, whose values were left as they were."],
        ["to the average"],
    ),
    "reference and removal": (
        lambda: eb(with_software(covariates="sex", remove="age", reference="site_02")),
        [
            "left as they were but for what was removed",
            "Effects of age were estimated along with all others and removed",
        ],
        [],
    ),
    "two variables": (
        lambda: eb(with_software(batch=["site", "software"])),
        [
            "site (3 batches of 15 to 30 scans) and software (2 batches",
            "one shift for the level of every",
            "product of",
        ],
        ["a scale of the batch"],
    ),
    "curve": (
        lambda: eb(with_software(covariates="sex", smooth={"age": 7})),
        [
            "penalized cubic B-spline of 7 basis functions",
            "restricted maximum likelihood (Patterson and Thompson 1971)",
        ],
        [],
    ),
    "subjects": (
        lambda: eb(with_software(subject="id")),
        ["random intercept of the subject (Beer et al. 2020)", "intercepts were left in"],
        ["longitudinal"],
    ),
    "longcombat": (
        lambda: eb(with_software(subject="id"), compat="longcombat"),
        ["by longitudinal ComBat (Beer et al. 2020), by its published algorithm"],
        ["Johnson"],
    ),
    "sva": (
        lambda: eb(with_software(), compat="sva"),
        ["R package sva (Leek et al. 2012)", "fell below 0.0001, as in sva"],
        ["stood still", "scale was not"],
    ),
    "sva with a batch of one scan": (
        lambda: eb(small_study(), compat="sva"),
        ["no scale was adjusted, since a batch had one scan", "scale was not", "as if each had one scan"],
        ["inverse-gamma"],
    ),
    "a batch of one scan": (
        lambda: eb(small_study()),
        ["Scales of batches of one scan were not adjusted."],
        ["scale was not", "prior alone"],
    ),
    "location alone": (
        lambda: eb(with_software(), mean_only=True),
        ["location was adjusted, scale was not"],
        ["inverse-gamma", "scale of the batch"],
    ),
    "nonparametric": (
        lambda: eb(with_software(), shrinkage="nonparametric"),
        ["without a parametric prior"],
        ["gamma"],
    ),
    "unshrunken": (
        lambda: eb(with_software(), shrinkage="none"),
        ["by ComBat (Johnson et al. 2007) without empirical Bayes.", "which were not shrunken."],
        ["normal dist", "empirical-Bayes"],
    ),
    "one feature": (
        lambda: eb(with_software(features=["feature_0"])),
        ["on 1 feature of", "not shrunken, as there was one feature alone"],
        ["empirical-Bayes"],
    ),
    "shared factors": (
        lambda: eb(with_software(), shared_factors=1),
        ["shared 1 factor (a number chosen beforehand)", "generalized least squares", "(Chen 1979)"],
        ["inverse-gamma", "Horn"],
    ),
    "hidden factors": (
        lambda: eb(with_software(), factors=2, factors_despite_covariates=True),
        ["2 hidden factors of the residuals (a number chosen beforehand)", "whether or not they go along"],
        ["after a test"],
    ),
    "no hidden factor": (lambda: eb(with_software(), factors="auto"), ["parallel analysis found none (Horn 1965)"], []),
    "too few features for hidden factors": (
        lambda: eb(with_software(features=["feature_0", "feature_1", "feature_2"]), factors="auto"),
        ["Hidden factors were to be removed; with fewer than 10 features none were looked for."],
        ["Horn"],
    ),
    "covariance": (
        lambda: eb(with_software(), covariance=0.995),
        ["CovBat (Chen et al. 2022)", "explain 99.5 % of the variance"],
        ["every posterior draw"],
    ),
    "missing cells": (
        lambda: eb(without_cells(small_study())),
        ["of the cells were missing and stayed so", "(Rubin 1976)"],
        [],
    ),
    "logarithms": (
        lambda: eb(bc.Study.from_arrays(np.exp(small_study().y / 3), batch=small_study().codes, transform="log")),
        ["The natural logarithm of a value was modelled", "as exponentials of harmonized logarithms"],
        [],
    ),
    "moments": (lambda: eb(bc.Moments.from_study(with_software())), ["on 12 features of 65 scans"], []),
}


@pytest.mark.parametrize("kind", METHODS)
def test_methods_say_what_was_done_and_nothing_else(kind: str) -> None:
    make, there, absent = METHODS[kind]
    text = told(make())
    assert [words for words in there if words not in text] == []
    assert [words for words in absent if words in text] == []


def test_methods_of_draws_say_how_they_were_drawn(nuts_fit: bc.Fit) -> None:
    text, found = told(nuts_fit), nuts_fit.tree["sample_stats"]
    assert "fully Bayesian form of ComBat (Johnson et al. 2007; Reynolds et al. 2023)" in text
    assert ", the density being compiled by Numba: 2 chains of 1,000 draws each, after 500 steps" in text
    assert "steps of warm-up, with a target acceptance of 0.99" in text
    assert f"the seed {nuts_fit.settings['seed']}." in text and "Chains were judged to have converged" in text
    assert f"{int(found['diverging'].sum())} divergent transitions" in text
    assert "spread across batches of their mean shifts 0.3 (1)" in text and "mean log scales 0.15 (0.7)" in text
    assert "intervals (of 90 % unless stated otherwise)" in text
    assert "taken for independent given all this." in text and "subjects" not in text and "curve" not in text


def test_as_many_factors_as_there_may_be_are_said_to_be_so() -> None:
    assert chosen(np.zeros((12, 3)), True, Citing()) == "as many as parallel analysis found; Horn 1965"
    assert chosen(np.zeros((12, 4)), True, Citing()) == "as many as parallel analysis found, at most 4; Horn 1965"
    assert chosen(np.zeros((12, 4)), False, Citing()) == "a number chosen beforehand"


def test_draws_that_are_not_to_be_trusted_are_called_so(tiny_fit: bc.Fit) -> None:
    text = told(tiny_fit)
    assert "did not meet the criteria of convergence and should not be relied on" in text
    assert "judged to have converged" not in text


def test_priors_are_those_that_were_given(tiny_study: bc.Study) -> None:
    settings = {"chains": 2, "tune": 50, "draws": 50, "seed": 3, "progress_bar": False}
    priors = bc.Priors(gamma_sd_median=0.7, beta_sd=2.0)
    fit = bc.fit(tiny_study, priors=priors, mean_only=True, **settings)
    text = told(fit)
    assert "typical batch’s shifts 0.7 (1)" in text and "slopes normal about zero with standard deviation 2;" in text
    assert "log scales" not in text and "location was adjusted, scale was not" in text
    again = equivalent_call(Held.by(fit))
    assert "mean_only=True" in again and "priors=bc.Priors(beta_sd=2.0, gamma_sd_median=0.7)" in again


@pytest.mark.slow
def test_methods_of_models_that_are_compiled_anew() -> None:
    settings = {"chains": 2, "tune": 50, "draws": 50, "seed": 3, "progress_bar": False}
    with compiled_quickly():
        robust = told(bc.fit(small_study(features=2), robust=True, **settings))
        study = with_software(features=["feature_0", "feature_1"], subject="id", covariates=None, smooth={"age": 6})
        repeated = told(bc.fit(study, **settings))
    assert "Student’s t distribution with degrees of freedom that were estimated" in robust
    assert "Every value stood in the likelihood." in robust and "degrees of freedom of the noise 10 (1)" in robust
    assert "standard deviation of subjects’ intercepts in a typical feature 1 (1)" in repeated
    assert "as a random effect whose standard deviation is log-normal" in repeated and "curve bends" in repeated


def test_batches_that_were_added_later_are_named() -> None:
    simulation = bc.datasets.simulate((20, 10, 5), features=3)
    new = simulation.table["site"] == "site_03"
    fit = eb(bc.Study.from_dataframe(simulation.table[~new], batch="site", features=simulation.features))
    adopted = fit.adopt(simulation.table[new])
    assert "The batch site_03 was added after the fit" in told(adopted) and "added" not in told(fit)
    assert "harmonized to is that of the other batches." in told(adopted)
    held = Held.by(adopted)
    assert values_of(glance.facts(held))["Added after the fit"] == "site_03"
    assert "site_03" in frame(effects.of_batches(held)).index
    assert "fit = fit.adopt(scans)  # the scans of 'site_03'" in equivalent_call(held)


def test_what_the_text_cites_is_what_is_listed(pages: dict[str, Page], judged: bc.Evaluation, nuts_fit: bc.Fit) -> None:
    methods = methods_of(Held.by(nuts_fit), judged)
    text = " ".join(methods.paragraphs)
    assert {key for key, one in REFERENCES.items() if one.short in text} == set(methods.references)
    links = [e.attributes["href"] for e in pages["nuts"].all("a") if "doi.org" in e.attributes["href"]]
    assert links == [f"https://doi.org/{one.doi}" for one in methods.references.values()]
    entries = pages["nuts"].by_id("bibtex").text
    assert all(f"{{{key}," in entries for key in methods.references)


def test_references_are_whole() -> None:
    assert len({reference.doi for reference in REFERENCES.values()}) == len(REFERENCES)
    for key, reference in REFERENCES.items():
        entry = reference.bibtex(key)
        assert entry.count("{") == entry.count("}") and str(reference.year) in reference.short
        assert key.startswith(re.split(r"\W", reference.short.lower())[0])
    assert "author = {Eilers, P. H. C. and Marx, B. D.}," in REFERENCES["eilers1996"].bibtex("eilers1996")
    assert "pages = {3121--3124}," in REFERENCES["brodersen2010"].bibtex("brodersen2010")


@pytest.mark.parametrize(
    ("roles", "arguments"),
    [
        ({}, {}),
        ({"covariates": "sex", "remove": "age", "reference": "site_02"}, {"mean_only": True}),
        ({"batch": ["site", "software"], "reference": ("site_02", "old")}, {"shrinkage": "nonparametric"}),
        ({"covariates": None, "smooth": {"age": 6}, "subject": "id"}, {}),
        ({}, {"compat": "sva", "covariance": 0.9}),
        ({}, {"factors": 1, "factors_despite_covariates": True}),
        ({}, {"shared_factors": 1}),
        ({}, {"uncertainty": True, "seed": 5}),
    ],
    ids=str,
)
def test_the_equivalent_call_gives_the_same_fit(roles: dict, arguments: dict) -> None:
    simulation = bc.datasets.simulate((30, 20, 15), features=12, seed=3)
    software, people = np.where(np.arange(65) % 3, "new", "old"), [f"s{k // 2}" for k in range(65)]
    known: dict = {"table": simulation.table.assign(software=software, id=people)}
    fit = eb(with_software(**roles), **arguments)
    exec(equivalent_call(Held.by(fit)), known)
    again = known["fit"]
    assert again.tree.attrs == fit.tree.attrs
    assert again.harmonized.identical(fit.harmonized)


def test_many_batches_and_features_are_cut_and_counted(written: Callable[..., Page]) -> None:
    rng = np.random.default_rng(0)
    batch = np.repeat(np.arange(120), 3)
    many = written(eb(bc.Study.from_arrays(rng.standard_normal((360, 4)), batch=batch)))
    assert len(many.table("shifts")) == 100 and "and 20 more" in many.by_id("effects").text
    assert "A picture of 120 batches would be too long" in many.by_id("effects").text
    names = [f"{'x' * 200}_{k}" for k in range(3000)]
    wide = written(eb(bc.Study.from_arrays(rng.standard_normal((60, 3000)), batch=batch[:60] // 15, features=names)))
    assert len(wide.html) < MOST_BYTES and "and 2,985 more" in wide.by_id("features").text
    assert max(map(len, wide.table("changes").index)) == 80


# In a browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[browser.Browser]:
    path = browser.found()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(browser.NAMES)} is installed")
    with browser.opened(path) as found:
        yield found


@pytest.fixture
def shown(chromium: browser.Browser, pages: dict[str, Page], tmp_path: Path) -> Callable[..., browser.Browser]:
    """Return a function that shows a report, or some other page made of it."""

    def show(kind: str, width: int = 1000, scheme: str = "light", **changes: str) -> browser.Browser:
        html = pages[kind].html
        for old, new in changes.items():
            html = html.replace(f"</{old}>", f"{new}</{old}>", 1)
        path = tmp_path / "report.html"
        path.write_text(html, encoding="utf-8")
        chromium.show(path, width, scheme)
        return chromium

    return show


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1000, "light")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_browser_shows_it_without_complaint_and_asks_for_nothing_else(
    kind: str, width: int, scheme: str, shown: Callable[..., browser.Browser]
) -> None:
    page = shown(kind, width, scheme)
    assert page.complaints == [] and len(page.requests) == 1
    root = "document.documentElement"
    assert page.said("innerWidth") == width and page.said(f"{root}.scrollWidth <= {root}.clientWidth")
    assert page.said(
        "[...document.querySelectorAll('svg')].every(figure => figure.getBoundingClientRect().height > 50)"
    )


def test_what_is_not_the_page_s_own_is_refused_by_it(shown: Callable[..., browser.Browser]) -> None:
    page = shown("least", main="<script>document.title = 'changed'</script><img src='https://example.com/x.png'>")
    assert page.said("document.title") != "changed"
    assert len([words for words in page.complaints if "Content Security Policy" in words]) == 2


@pytest.mark.parametrize(("scheme", "paper"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 28)")])
def test_text_stands_out_from_the_paper(scheme: str, paper: str, shown: Callable[..., browser.Browser]) -> None:
    page = shown("nuts", scheme=scheme)
    assert page.said("getComputedStyle(document.body).backgroundColor") == paper
    colours = """[...document.querySelectorAll('h1, p, td, th, dd, dt, a, li, svg text, pre')].map(element => {
        const style = getComputedStyle(element);
        return element instanceof SVGElement ? style.fill : style.color; })"""
    for colour in set(page.said(colours)):
        assert contrast(colour, paper) > 4.4, colour


def contrast(*colours: str) -> float:
    """Contrast of two colours by the Web Content Accessibility Guidelines, of which 4.5 is wanted."""
    light = []
    for colour in colours:
        parts = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        light.append(float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(light) / min(light)


def test_a_press_on_the_button_copies_the_methods(shown: Callable[..., browser.Browser]) -> None:
    page = shown("nuts")
    page.ask("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    page.said("document.querySelector('button[data-copies=methods-text]').click()")
    page.said("new Promise(done => setTimeout(done, 100))")
    assert page.said("document.querySelector('button[data-copies=methods-text]').textContent") == "Copied"
    copied = page.said("navigator.clipboard.readText()")
    assert " ".join(copied.split()) == page.said("document.getElementById('methods-text').innerText").replace(
        "\n\n", " "
    )
