"""How to sample, checked before anything is compiled."""

import os
from dataclasses import dataclass, replace
from numbers import Integral
from secrets import randbits

from bayescombat.errors import BayesCombatError

__all__ = ["FEWEST_DRAWS", "Settings"]

FEWEST_DRAWS = 4
# Below this many features the priors of the batches are hardly informed: short steps are needed, and cheap.
FEW_FEATURES = 20
# Below this many batches what features share is explored slowly, and draws take little room.
FEW_BATCHES = 10


@dataclass(frozen=True)
class Settings:
    """How to sample: sizes, seed, and the acceptance that the step size is tuned to."""

    draws: int | None = None
    tune: int = 1000
    chains: int = 4
    cores: int | None = None
    seed: int | None = None
    target_accept: float | None = None
    progress_bar: bool = True

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
