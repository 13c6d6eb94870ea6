"""The packages from the package index that are measured beside this one, each in an environment of its own."""

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".peers"
MINUTES_TO_INSTALL = 10
SINGLE_PRECISION = "continuous covariates are rounded to single precision"


class NotMeasuredError(Exception):
    """A package could not be measured; the message says why."""


@dataclass(frozen=True)
class Peer:
    """A package, and how near it should come to the R package sva in units of a feature's sd; None: it is not exact."""

    name: str
    version: str
    licence: str
    others: tuple[str, ...] = ()
    within: float | None = 1e-9
    why: str = ""

    @property
    def requirements(self) -> tuple[str, ...]:
        """What is installed."""
        return (f"{self.name}=={self.version}", *self.others)


RECENT = ("numpy==2.5.5", "pandas==3.1.1")
PEERS = {
    peer.name: peer
    for peer in (
        Peer("pycombat", "0.20", "MIT", RECENT),
        Peer("combaters", "0.1.0", "MIT", RECENT),
        Peer("neuroCombat", "0.2.12", "MIT", RECENT, 1e-5, SINGLE_PRECISION),
        Peer("neuroHarmonize", "2.5.2", "MIT", ("numpy==1.26.4", "pandas==2.3.3"), 1e-5, SINGLE_PRECISION),
        Peer("inmoose", "0.9.1", "GPL-3.0-or-later", RECENT, None, "divides variances by n"),
        Peer("scanpy", "1.11.5", "BSD-3-Clause", RECENT, None, "divides variances of the priors by n"),
    )
}


def python_of(peer: Peer) -> Path:
    """Return the interpreter of a peer's environment, which is made if it is not there as it should be."""
    folder = FOLDER / peer.name
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(peer.requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(folder, clear=True, symlinks=True)
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *peer.requirements]
        finished(command, f"{peer.name} could not be installed", 60 * MINUTES_TO_INSTALL)
        stamp.write_text(wanted)
    return python


def finished(command: list[str], problem: str, seconds: float, environment: dict[str, str] | None = None) -> str:
    """Return what a command printed, or raise NotMeasuredError with the problem and the last line of its errors."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment)
    except subprocess.TimeoutExpired:
        raise NotMeasuredError(f"{problem}: it took more than {seconds:g} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise NotMeasuredError(f"{problem}: {said[-1]}")
    return done.stdout
