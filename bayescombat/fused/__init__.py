"""The model's log-density with its gradient as one compiled function, for studies of the usual kind."""

from bayescombat.fused.compilation import density, expansion, sources
from bayescombat.fused.packing import Packed, applies, packed

__all__ = ["Packed", "applies", "density", "expansion", "packed", "sources"]
