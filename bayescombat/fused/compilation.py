"""What is packed as something that nutpie samples."""

from typing import Any

import numpy as np
import pandas as pd

from bayescombat.fused.kernels import density, expansion
from bayescombat.fused.packing import Packed

__all__ = ["compiled"]


def compiled(packed: Packed) -> Any:
    """Return the compiled density of a study, as nutpie makes it from a PyMC model."""
    from nutpie.compile_pymc import CompiledPyMCModel

    coords = {dim: pd.Index(labels) for dim, labels in packed.coords.items()}
    names = list(packed.reported)
    shapes = [tuple(len(coords[dim]) for dim in dims) for dims in packed.reported.values()]
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
    places = [slice(end - np.prod(shape, dtype=int), end) for end, shape in zip(ends, shapes, strict=True)]
    return CompiledPyMCModel(
        dims=packed.reported,
        compiled_logp_func=density(),
        compiled_expand_func=expansion(),
        initial_point_func=lambda seed: packed.start,
        shared_data={},
        shared_var_keys={},
        user_data=packed.data,
        n_expanded=int(ends[-1]),
        shape_info=(names, places, shapes),
        logp_func=None,
        expand_func=None,
        _n_dim=len(packed.start),
        _shapes=dict(zip(names, shapes, strict=True)),
        _coords=coords | {"unconstrained_parameter": pd.RangeIndex(len(packed.start))},
    )
