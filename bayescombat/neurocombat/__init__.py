"""neuroCombat's calling convention and return value."""

from bayescombat.neurocombat.harmonizing import neurocombat, neurocombat_from_training

__all__ = ["neurocombat", "neurocombat_from_training"]
