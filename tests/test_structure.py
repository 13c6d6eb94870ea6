"""The code is built as ARCHITECTURE.md says, and the repository holds nothing that it should not."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "bayescombat"
MOST_LINES_OF_A_MODULE = 350
MOST_LINES_OF_A_FUNCTION = 60
SLOW_IMPORTS = {
    "anndata",
    "arviz",
    "arviz_plots",
    "arviz_stats",
    "jinja2",
    "matplotlib",
    "nutpie",
    "polars",
    "pymc",
    "pytensor",
    "sklearn",
    "statsmodels",
}
SECONDS_TO_IMPORT = 5.0
ARRAYS_ONLY = {
    "additive": {"pandas", "pymc", "pytensor", "xarray"},
    "reml": {"pandas", "pymc", "pytensor", "xarray"},
    "regression": {"pandas", "pymc", "pytensor", "xarray"},
    "blocks": {"pandas", "pymc", "pytensor", "xarray"},
    "shrinkage": {"pandas", "pymc", "pytensor", "xarray"},
    "empirical": {"pandas", "pymc", "pytensor", "xarray"},
    "moments": {"pymc", "pytensor"},
    "standard": {"pandas", "pymc", "pytensor", "xarray"},
    "centring": {"pandas", "pymc", "pytensor", "xarray"},
    "residuals": {"pandas", "pymc", "pytensor", "xarray"},
    "hidden": {"pandas", "pymc", "pytensor", "xarray"},
    "covariance": {"pandas", "pymc", "pytensor", "xarray"},
    "joint": {"pandas", "pymc", "pytensor", "xarray"},
    "adjust": {"pymc", "pytensor"},
    "conditional": {"pandas", "pymc", "pytensor", "xarray"},
    "uncertainty": {"pandas", "pymc", "pytensor", "xarray"},
    "fused": {"pandas", "pymc", "pytensor", "xarray"},
    "convergence": {"pandas", "pymc", "pytensor", "xarray"},
    "adoption": {"pandas", "pymc", "pytensor", "xarray"},
}

# The rest of that room makes studies and Datasets.
ARRAYS_ONLY_OF_EVALUATE = (
    "chance",
    "classification",
    "distances",
    "folds",
    "preservation",
    "removal",
    "travelling",
    "within",
)

type Function = ast.FunctionDef | ast.AsyncFunctionDef

MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """Name of the module, or of the folder that stands for one."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def documented_rooms() -> list[str]:
    """Read the rooms, top to bottom, from the fenced list in ARCHITECTURE.md."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", (ROOT / "ARCHITECTURE.md").read_text(), re.S | re.M)
    lists = [block for block in blocks if re.search(r"^\s*errors\.py\s", block, re.M)]
    assert len(lists) == 1, "ARCHITECTURE.md needs one fenced list of the modules"
    return re.findall(r"^\s*(\w+)(?:\.py|/)\s{2,}\S", lists[0], re.M)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[str]:
    """Yield every imported module by its full name, imports inside functions included."""
    package = [PACKAGE.name, *path.relative_to(PACKAGE).parts[:-1]] if path.is_relative_to(PACKAGE) else []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imported_rooms(path: Path) -> set[str]:
    """Rooms of the package that a module imports from; the package itself counts as ``__init__``."""
    rooms = {room_of(module) for module in MODULES}
    inner = [name.split(".") for name in imports(path) if name.split(".")[0] == PACKAGE.name]
    named = {parts[1] if len(parts) > 1 and parts[1] in rooms else "__init__" for parts in inner}
    return named - {room_of(path)}


def functions(path: Path) -> Iterator[Function]:
    yield from (node for node in ast.walk(parsed(path)) if isinstance(node, Function.__value__))


def lines_of_code(function: Function) -> int:
    """Lines of a function without its docstring, which is as long as it has to be."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    assert docstring.end_lineno is not None
    return lines - (docstring.end_lineno - docstring.lineno + 1)


def tracked_files() -> list[Path]:
    """Files that git tracks, or would on the next ``git add``."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, so there is no list of tracked files")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def names_of(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_architecture_names_every_room_once() -> None:
    rooms = documented_rooms()
    assert sorted(rooms) == sorted({room_of(path) for path in MODULES})


def test_imports_run_downwards_only() -> None:
    order = {room: position for position, room in enumerate(documented_rooms())}
    upward = [
        f"{path.relative_to(PACKAGE)} imports {room}"
        for path in MODULES
        for room in imported_rooms(path)
        if order[room] > order[room_of(path)]
    ]
    assert upward == []


@pytest.mark.parametrize("room", ARRAYS_ONLY)
def test_numeric_layer_stays_numeric(room: str) -> None:
    paths = [path for path in MODULES if room_of(path) == room]
    assert paths != []
    used = {name.split(".")[0] for path in paths for name in imports(path)}
    assert used & ARRAYS_ONLY[room] == set()


@pytest.mark.parametrize("module", ARRAYS_ONLY_OF_EVALUATE)
def test_metrics_stay_numeric(module: str) -> None:
    used = {name.split(".")[0] for name in imports(PACKAGE / "evaluate" / f"{module}.py")}
    assert used & {"pandas", "pymc", "pytensor", "xarray"} == set()


def test_datasets_need_no_formulas_and_no_sampler() -> None:
    paths = [path for path in MODULES if room_of(path) == "datasets"]
    used = {name.split(".")[0] for path in paths for name in imports(path)}
    assert used - sys.stdlib_module_names - {PACKAGE.name} == {"numpy", "pandas", "xarray"}


def test_import_is_light() -> None:
    names = "{name.partition('.')[0] for name in sys.modules}"
    # Of the processor: a machine may be busy with other things.
    code = f"import sys, time, bayescombat; print(time.process_time(), *{names})"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    seconds, *loaded = found.stdout.split()
    assert float(seconds) < SECONDS_TO_IMPORT
    assert set(loaded) & SLOW_IMPORTS == set()


@pytest.mark.parametrize("path", MODULES, ids=names_of(MODULES))
def test_modules_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES_OF_A_MODULE
    lengths = {function.name: lines_of_code(function) for function in functions(path)}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FUNCTION} == {}


def test_public_names_have_examples() -> None:
    import bayescombat

    assert bayescombat.__all__
    public = {name: getattr(bayescombat, name) for name in bayescombat.__all__}
    documented = {
        name: thing
        for name, thing in public.items()
        if callable(thing) and not (isinstance(thing, type) and issubclass(thing, Exception | Warning))
    }
    lacking = [name for name, thing in documented.items() if "Examples\n" not in (thing.__doc__ or "")]
    assert lacking == []


def test_every_public_name_stands_in_the_reference() -> None:
    import bayescombat

    named = set(re.findall(r"^   (\w+)$", (ROOT / "docs" / "reference.md").read_text(), re.M))
    modules = {"datasets", "plots"}
    assert sorted(set(bayescombat.__all__) - named - modules) == []
    for module in modules:
        assert sorted(set(getattr(bayescombat, module).__all__) - named) == []


def test_every_page_is_linked_from_the_site() -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    linked = set()
    for path in (ROOT / "docs").glob("*.md"):
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", path.read_text(), re.S | re.M):
            linked |= set(re.findall(r"^(?:.*<)?([\w/-]+)>?$", block, re.M))
    assert sorted(pages - linked) == []
    notebooks = {f"tutorials/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert sorted(notebooks - linked) == []


def test_pickle_is_imported_nowhere() -> None:
    scripts = [path for path in tracked_files() if path.suffix == ".py"]
    pickling = [
        path for path in scripts if any({"pickle", "cloudpickle"} & set(name.split(".")) for name in imports(path))
    ]
    assert names_of(pickling) == []


def test_repository_names_no_registry_and_no_machine() -> None:
    # The hosts are put together from parts, so that this file does not find itself.
    hosts = "|".join(rf"{name}\.org" for name in ("pypi", "pythonhosted", "anaconda"))
    folders = r"(?<![\w.~)}\-/])/(?:home|root|Users|tmp|work|mnt|opt)/\w"
    forbidden = re.compile(rf"{hosts}|{folders}|[A-Z]:\\Users")
    naming = [path for path in tracked_files() if forbidden.search(path.read_text(errors="ignore"))]
    assert names_of(naming) == []
