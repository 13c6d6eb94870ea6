"""The pages are true to the code: what they call is there, what they link to is there, and cheap examples run.

The README, the how-to pages on moving over, scikit-learn, federated studies and the command line, and the table of what
goes with what have tests of their own, which run all that stands there.
"""

import ast
import inspect
import re
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

import bayescombat as bc
from bayescombat import errors
from bayescombat.cli import app
from bayescombat.sklearn import ComBat
from benchmarks.__main__ import NAMES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted((ROOT / "notebooks").glob("*.ipynb"))]
RUN = ("install.md", "warnings.md", "intervals.md", "uncertainty.md", "downstream.md", "moments.md")
FILE = re.compile(r"[\w/-]+\.(csv|md|nc|html|py|ipynb|cff|toml)")
# What a name stands for on the pages.
KINDS = {
    "bc": bc,
    "bayescombat": bc,
    "fit": bc.Fit,
    "study": bc.Study,
    "moments": bc.Moments,
    "ComBat": ComBat,
    **{name: getattr(bc, name) for name in bc.__all__ if name != "fit"},
}


def text_of(path: Path) -> str:
    """The words of a page; of a notebook those of its cells of Markdown."""
    if path.suffix == ".md":
        return path.read_text()
    return "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)


def prose_of(path: Path) -> str:
    return re.sub(r"^```.*?^```", "", text_of(path), flags=re.S | re.M)


def code_in(text: str) -> Iterator[ast.Module]:
    """Yield the syntax of what stands on a page as Python: in blocks, and between backticks where it can be parsed."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    for source in [*blocks(text), *re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose)]:
        if FILE.fullmatch(source):
            continue
        try:
            yield ast.parse(source)
        except SyntaxError:
            continue


def meant(node: ast.AST) -> Any:
    """What of bayescombat a name or a chain of attributes means; None if it is of something else.

    Raises
    ------
    AttributeError
        If bayescombat has no such thing.
    """
    if isinstance(node, ast.Name):
        return KINDS.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = meant(node.value)
        if inspect.ismodule(owner) or inspect.isclass(owner):
            # What instances are made of, such as the tree of a fit, is not in the class.
            made_of = inspect.signature(owner).parameters if inspect.isclass(owner) else {}
            return None if node.attr in made_of else getattr(owner, node.attr)
    # Of results, which are xarray's, attributes are not ours to check.
    return None


def called(node: ast.expr) -> Any:
    """What is called: ``fit`` is a fit, but ``fit(...)`` the function."""
    return bc.fit if isinstance(node, ast.Name) and node.id == "fit" else meant(node)


def unknown_names(tree: ast.AST) -> Iterator[str]:
    """Yield what code asks of bayescombat that is not there: attributes, and arguments by keyword."""
    for node in ast.walk(tree):
        try:
            if isinstance(node, ast.Attribute):
                meant(node)
            elif isinstance(node, ast.Call) and callable(asked := called(node.func)):
                known = inspect.signature(asked).parameters
                if any(one.kind is one.VAR_KEYWORD for one in known.values()):
                    continue
                yield from (f"{ast.unparse(node.func)}({one.arg}=)" for one in node.keywords if one.arg not in known)
        except AttributeError:
            yield ast.unparse(node)


def arguments() -> set[str]:
    """Every argument of every public function, class and method, and of what the page on scikit-learn calls beside."""
    public = [getattr(bc, name) for name in bc.__all__] + [getattr(bc.plots, name) for name in bc.plots.__all__]
    methods = [method for kind in public if inspect.isclass(kind) for _, method in inspect.getmembers(kind, callable)]
    asked = [one for one in [*public, *methods, bc.datasets.simulate, ComBat, cross_val_score] if callable(one)]
    found = set()
    for one in asked:
        try:
            found |= set(inspect.signature(one).parameters)
        except ValueError:  # of built-in methods
            continue
    return found


@pytest.mark.parametrize("path", PAGES, ids=[path.name for path in PAGES])
def test_what_a_page_calls_is_there(path: Path) -> None:
    assert [name for tree in code_in(text_of(path)) for name in unknown_names(tree)] == []


@pytest.mark.parametrize("path", PAGES, ids=[path.name for path in PAGES])
def test_what_a_page_sets_is_an_argument(path: Path) -> None:
    alone = [tree.body[0] for tree in code_in(prose_of(path)) if tree.body]
    targets = [statement.targets for statement in alone if isinstance(statement, ast.Assign)]
    named = {target.id for some in targets for target in some if isinstance(target, ast.Name)}
    assert named - arguments() == set()


@pytest.mark.parametrize("path", PAGES, ids=[path.name for path in PAGES])
def test_links_lead_somewhere(path: Path) -> None:
    text = prose_of(path)
    linked = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if ":" not in link]
    named = re.findall(r"`(docs/[\w-]+\.\w+|notebooks/\w+\.ipynb|[A-Z]+\.md)`", text)
    there = [path.parent / link for link in linked if link] + [ROOT / name for name in named]
    assert [str(one) for one in there if not one.exists()] == []


def test_commands_of_benchmarks_are_there() -> None:
    said = " ".join(re.findall(r"`python -m benchmarks ([a-z ]+)`", " ".join(map(text_of, PAGES))))
    assert set(said.split()) - set(NAMES) == set()
    assert len(set(said.split())) > 10
    listed = re.findall(r"^\| [^|]* \| (.*) \|$", (DOCS / "figures.md").read_text(), re.M)
    assert set(re.findall(r"`([a-z]+)`", " ".join(listed))) == set(NAMES)


def test_the_page_on_installing_names_every_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"^\| `(\w+)` \|", (DOCS / "install.md").read_text(), re.M)) == set(extras) - {"test"}


def test_the_page_on_warnings_names_every_one() -> None:
    named = set(re.findall(r"^\| `(\w+Warning)` \|", (DOCS / "warnings.md").read_text(), re.M))
    assert named == {name for name in errors.__all__ if name.endswith("Warning")} - {"BayesCombatWarning"}


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the pages speak of: a study of patients and controls, and its fit by empirical Bayes, with uncertainty."""
    simulation = bc.datasets.simulate((24, 20, 16), features=3, seed=2)
    dx = np.where(np.arange(60) % 2, "patient", "control")
    table = simulation.table.assign(dx=dx, case=(dx == "patient").astype(int))
    study = bc.Study.from_dataframe(table, batch="site", covariates="age + dx", features=simulation.features)
    fit = bc.fit(study, method="eb", uncertainty=True, seed=1)
    return {"bc": bc, "table": table, "rows": table.head(3), "study": study, "fit": fit}


@pytest.mark.parametrize("page", RUN)
def test_what_stands_on_a_page_runs(
    page: str, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = bc.datasets.simulate((15, 10), features=3, seed=3).table.assign(
        dx=["patient", "control"] * 12 + ["patient"]
    )
    other["site"] = "b_" + other["site"].astype(str)
    bc.Moments.from_study(bc.Study.from_design(other, names["study"].spec)).save("site_b.nc")
    found = blocks((DOCS / page).read_text())
    assert found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        space = dict(names)
        for block in found:
            exec(compile(block, page, "exec"), space)


def test_commands_of_the_command_line_are_there() -> None:
    commands = {
        command.name or str(command.callback.__name__) for command in app.registered_commands if command.callback
    }
    text = "\n\n".join(map(text_of, PAGES))
    code = re.findall(r"^```.*?^```|^    .*?$|`[^`\n]+`", text, re.S | re.M)
    said = {name for part in code for name in re.findall(r"\bbayescombat ([a-z]+)\b", part)}
    assert said - {"as", "import"} - commands == set()
    assert len(said & commands) > 5
