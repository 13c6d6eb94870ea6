"""The README's example runs, and prints what stands there, as far as another machine can."""

import contextlib
import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import bayescombat as bc

README = (Path(__file__).parents[1] / "README.md").read_text()
CODE = re.findall(r"^```python\n(.*?)^```", README, re.S | re.M)
PRINTED = re.findall(r"^```text\n(.*?)^```", README, re.S | re.M)


def figures_of(text: str) -> dict[str, list[float]]:
    """Figures of the lines that begin with a site or a metric, by that name."""
    lines = re.findall(r"^(ds\d+|site: share of variance)((?: +-?\d*\.?\d+)+)", text, re.M)
    return {name: [float(part) for part in rest.split()] for name, rest in lines}


@pytest.mark.notebook
def test_the_example_prints_what_stands_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed, names = [], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        for code in CODE:
            told = io.StringIO()
            with contextlib.redirect_stdout(told):
                exec(code, names)
            printed.append(told.getvalue())
    assert len(PRINTED) == 3  # of the example, of the diagnosis, whose rows are doubled by hand, of the evaluation
    for found, shown in ((printed[0], PRINTED[0]), (printed[1], PRINTED[2])):
        expected = figures_of(shown)
        assert expected
        for name, values in figures_of(found).items():
            np.testing.assert_allclose(values, expected[name], atol=0.03)
    assert re.search(r"Converged: R-hat at most 1\.0\d\d", printed[0])
