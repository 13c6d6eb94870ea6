"""The pages of the command line: their commands run as they stand, and say what the pages say."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayescombat as bc
from bayescombat.cli import app
from tests.commands import run

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.S | re.M)


def commands(block: str) -> list[tuple[str, str]]:
    """Return the commands of a block, each with what it says."""
    joined = block.replace("\\\n", " ")
    parts = [part.partition("\n") for part in re.split(r"^\$ ", joined, flags=re.M)[1:]]
    return [(command, said) for command, _, said in parts]


def by_nuts(command: str) -> bool:
    """Tell whether a command samples."""
    return "--chains" in command


def takes_long(command: str) -> bool:
    """Tell whether a command takes seconds."""
    return by_nuts(command) or command.startswith("bayescombat evaluate")


def said_by(command: str) -> tuple[str, int]:
    """Run a command, of this package in this process, and return what it says and how it ends."""
    name, *arguments = shlex.split(command)
    if name == "python":
        exec(compile(arguments[1], "page", "exec"), {})
        return "", 0
    if name != "bayescombat":
        found = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        return found.stdout + found.stderr, found.returncode
    result = run(*arguments, columns=100)
    return result.output, result.exit_code


def follow(page: str, slow: bool) -> None:
    """Run the commands of a page one after the other, all or the quick ones, and hold what they say to the page."""
    for command, expected in (pair for block in blocks(page, "console") for pair in commands(block)):
        if takes_long(command) and not slow:
            continue
        found, code = said_by(command)
        if by_nuts(command):
            # Bits differ from one machine to the next.
            found, expected = (re.sub(r"\d+(\.\d+)?", "#", text) for text in (found, expected))
        assert found.split() == expected.split(), command
        refused = 2 if expected.startswith("Usage") else 1 if expected.startswith("Error") else 0
        assert code == refused, command


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_tour_says_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    monkeypatch.chdir(tmp_path)
    follow("command-line.md", slow)
    assert (tmp_path / "by_nuts.csv").exists() == (tmp_path / "evaluation.csv").exists() == slow
    assert len(pd.read_csv(tmp_path / "new_site_harmonized.csv")) == 20


def test_the_page_names_every_command_and_exit_code() -> None:
    text = (DOCS / "command-line.md").read_text()
    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert names == set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", text, re.M))))
    assert re.findall(r"^\| (\d+) \|", text, re.M) == ["0", "1", "2", "3", "130"]


def test_options_that_the_page_names_are_there() -> None:
    text = (DOCS / "command-line.md").read_text()
    helps = "".join(
        run(*command, "--help").output
        for command in ([], *([str(c.callback.__name__)] for c in app.registered_commands if c.callback))
    )
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--help"}
    assert {name for name in named if not re.search(rf"{name}(?![\w-])", helps)} == set()


@pytest.mark.slow
def test_the_recipes_run(tmp_path: Path) -> None:
    table = bc.datasets.simulate((20, 15), features=3, seed=1).table
    for name in ("thickness", "volume", "area"):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    (tmp_path / "Makefile").write_text(blocks("command-line.md", "make")[0])
    [loop] = [block for block in blocks("command-line.md", "bash")]
    program = tmp_path / "bin" / "bayescombat"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bayescombat "$@"\n')
    program.chmod(0o755)
    paths = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(DOCS.parent)}
    subprocess.run(["bash", "-ec", f"{loop}\nmake area_harmonized.csv"], cwd=tmp_path, check=True, env=paths)
    names = {path.name for path in tmp_path.glob("*_harmonized.csv")}
    assert names == {f"{name}_harmonized.csv" for name in ("thickness", "volume", "area")}
    assert not (tmp_path / "failed.txt").exists()


def test_sites_that_keep_their_scans_follow_the_how_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = bc.datasets.simulate((30, 20, 15, 12), features=4, seed=6).table
    for site, rows in table.groupby("site"):
        rows.to_csv(f"{site}.csv", index=False)
    shown = commands(blocks("federated.md", "console")[0])[0]
    assert shown[0] == "cat made_up.csv"
    Path("made_up.csv").write_text(shown[1])
    follow("federated.md", slow=False)
    features = [f"feature_{number}" for number in range(4)]
    made_up = pd.DataFrame({"age": [5, 95], "sex": ["F", "M"]})
    design = bc.DesignSpec.learn(made_up, batch="site", formula="age + sex", features=features)
    assert bc.DesignSpec.load("design.json") == design
    old = table[table["site"] != "site_04"]
    fit = bc.fit(bc.Study.from_design(old, design), method="eb")
    for site, known in (("site_01", fit), ("site_04", fit.adopt(table[table["site"] == "site_04"]))):
        expected = known.harmonize(table[table["site"] == site])["mean"]
        found = pd.read_csv(f"{site}_harmonized.csv")[features]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    assert "moments" not in bc.load("fit_for_all.nc").tree
