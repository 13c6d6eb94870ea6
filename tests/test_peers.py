"""Packages that are measured beside this one: what cannot be measured says why, and exact ones agree."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.peers import environments, runner
from benchmarks.peers.environments import PEERS, NotMeasuredError, Peer


@pytest.fixture
def table_of_noise(tmp_path: Path) -> Path:
    peers.write(tmp_path, scans=30, features=60, batches=3)
    return tmp_path


def test_a_package_that_cannot_be_installed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    peer = Peer("missing", "1", "MIT", (str(tmp_path / "nowhere.whl"),))
    with pytest.raises(NotMeasuredError, match="missing could not be installed: .*nowhere"):
        environments.python_of(peer)
    assert not (tmp_path / "missing" / "installed.txt").exists()


def test_a_package_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(NotMeasuredError, match="bayescombat failed: FileNotFoundError"):
        peers.measured("bayescombat", tmp_path)


def test_a_package_that_takes_too_long_says_so(table_of_noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MOST_SECONDS", 0.01)
    with pytest.raises(NotMeasuredError, match="more than 0.01 s"):
        peers.measured("bayescombat", table_of_noise)


def test_packages_that_fail_are_not_called_again_and_get_a_row() -> None:
    calls = []

    def failing() -> dict[str, float]:
        calls.append("failing")
        raise NotMeasuredError("scanpy failed: as it must")

    figures = {"cpu": 2.0, "extra": 1.0, "difference": 1e-13, "missing": 0.0}
    found, failures = peers.in_turn({"bayescombat_sva": figures.copy, "scanpy": failing, "pycombat": figures.copy}, 3)
    assert calls == ["failing"]
    assert peers.row("scanpy", found, failures)["result"] == "scanpy failed: as it must"
    assert peers.row("pycombat", found, failures)["result"] == "agrees"
    assert len(found["pycombat"]) == 3


@pytest.mark.parametrize(
    ("name", "difference", "missing", "words"),
    [
        ("pycombat", 1e-3, 0.0, "DISAGREES"),
        ("pycombat", 1e-3, 0.25, "NaN in 25% of the values"),
        ("neuroCombat", 1e-7, 0.0, "agrees; continuous covariates"),
        ("scanpy", 1e-3, 0.0, "another result"),
    ],
)
def test_verdicts(name: str, difference: float, missing: float, words: str) -> None:
    assert words in peers.verdict(PEERS[name], difference, missing)


def test_packages_are_held_against_what_is_expected(table_of_noise: Path) -> None:
    y, batch, x = (np.load(table_of_noise / f"{name}.npy") for name in ("y", "batch", "x"))
    np.save(table_of_noise / "expected.npy", runner.bayescombat_sva(y, batch, x)())
    found = peers.measured("bayescombat", table_of_noise)
    expected = runner.bayescombat(y, batch, x)()
    assert found["difference"] == (abs(expected - np.load(table_of_noise / "expected.npy")) / y.std(axis=0)).max()
    assert found["difference"] > 0
    assert found["cpu"] > 0
    assert found["missing"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [peer.name for peer in PEERS.values() if peer.within is not None])
def test_exact_packages_agree(name: str, table_of_noise: Path) -> None:
    if not (environments.FOLDER / name).exists():
        pytest.skip(f"there is no environment of {name} yet: `python -m benchmarks peers` makes it")
    peers.measured("bayescombat_sva", table_of_noise)
    found = peers.measured(name, table_of_noise)
    assert peers.verdict(PEERS[name], found["difference"], found["missing"]).startswith("agrees")
