"""How to sample, checked before anything is compiled."""

import os
from dataclasses import dataclass, replace
from importlib.util import find_spec
from numbers import Integral
from secrets import randbits
from typing import Literal, get_args

from bayescombat.errors import BayesCombatError, check_choice

__all__ = ["FEWEST_DRAWS", "Backend", "Settings"]

Backend = Literal["numba", "jax"]

FEWEST_DRAWS = 4
# Below this many features the priors of the batches are hardly informed: short steps are needed, and cheap.
FEW_FEATURES = 20
# Below this many batches what features share is explored slowly, and draws take little room.
FEW_BATCHES = 20


@dataclass(frozen=True)
class Settings:
    """How to sample: sizes, seed, the acceptance that the step size is tuned to, and what compiles the density."""

    draws: int | None = None
    tune: int = 500
    chains: int = 4
    cores: int | None = None
    seed: int | None = None
    target_accept: float | None = None
    progress_bar: bool = True
    backend: Backend = "numba"

    def __post_init__(self) -> None:
        """Check every number."""
        for name, least in (("draws", FEWEST_DRAWS), ("tune", 1), ("chains", 1), ("cores", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is None and name in ("draws", "cores", "seed"):
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or not least <= int(value) < 2**64:
                raise BayesCombatError(f"Expected {name} to be a whole number of at least {least}, found {value!r}.")
            object.__setattr__(self, name, int(value))
        if self.target_accept is not None and not 0 < self.target_accept < 1:
            raise BayesCombatError(f"Expected target_accept between 0 and 1, found {self.target_accept!r}.")
        check_choice("backend", self.backend, get_args(Backend))
        if self.backend == "jax" and find_spec("jax") is None:
            raise BayesCombatError(
                "Expected JAX to be installed for backend='jax', found none. Run pip install 'pymc-combat[jax]', or "
                "leave backend out."
            )

    @property
    def total(self) -> int:
        """Draws of all chains together, once they are decided."""
        assert self.draws is not None
        return self.draws * self.chains

    def resolved(self, n_feature: int, n_batch: int, sharing: bool = False) -> "Settings":
        """Return the settings with every default decided, so that a file can tell how to repeat them."""
        cores = self.cores or min(self.chains, os.cpu_count() or 1)
        seed = randbits(32) if self.seed is None else self.seed
        target = self.target_accept or (0.99 if n_feature < FEW_FEATURES else 0.9)
        draws = self.draws or (2000 if sharing and n_batch < FEW_BATCHES else 1000)
        return replace(self, draws=draws, cores=cores, seed=seed, target_accept=target)
