"""Make the pictures of docs/pictures.md, from packaged and from simulated data, into docs/pictures/.

It takes some minutes. Run it after a change to `bayescombat.plots`: ``python scripts/pictures.py``.
"""

import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image

import bayescombat as bc

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
SMALL_SITE, SMALL_SIZE = "ds003653", 5
SITES = (40, 20, 10, 5, 3)
SIMULATIONS, DRAWS = 200, 199
# Pictures of few colours, as these are, lose nothing by a palette and take a third of the room.
DPI, PALETTE = 90, 64


def main() -> None:
    """Fit, draw and save."""
    warnings.simplefilter("ignore", bc.BayesCombatWarning)
    FOLDER.mkdir(exist_ok=True)
    study = study_with_a_small_site()
    fits = {"EB": bc.fit(study, method="eb"), "NUTS": bc.fit(study, seed=1, progress_bar=False)}
    full = fits["NUTS"]
    save(bc.plots.sites(full), "sites")
    save(bc.plots.harmonized(full), "harmonized")
    save(bc.plots.effects(fits), "effects")
    save(bc.plots.shrinkage(fits), "shrinkage")
    save(bc.plots.site_distribution(full), "site_distribution")
    harmonizers = {"EB": fits["EB"], "means of sites": without_means}
    save(bc.plots.evaluation(bc.evaluate(study, harmonizers, seed=1, progress_bar=False)), "evaluation")
    ranks = {features: ranks_of_the_truth(features) for features in (5, 50)}
    save(bc.plots.calibration(ranks[5]), "calibration")
    save(bc.plots.coverage(shares_held(ranks), SIMULATIONS), "coverage")


def study_with_a_small_site() -> bc.Study:
    """Return the packaged study, of one of whose sites five scans are kept."""
    table = bc.datasets.load_openneuro()
    left_out = table.index[table["site"] == SMALL_SITE][SMALL_SIZE:]
    return bc.Study.from_dataframe(
        table.drop(index=left_out), batch="site", covariates="age + sex", features="_G_.*_thickness$"
    )


def without_means(train: bc.Study):
    """Return a harmonizer that takes the means of the training scans' sites off, and age with them."""
    means = {site: train.y[train.codes == code].mean(axis=0) for code, site in enumerate(train.batches)}
    return lambda rows: rows.y - [means[rows.batches[code]] for code in rows.codes]


def ranks_of_the_truth(features: int) -> xr.Dataset:
    """Return where true harmonized values lie among draws given empirical Bayes' hyper-parameters.

    Of the first scan of every site, in simulated studies: a variable for each size of site, (simulation, feature).
    """
    rng, found = np.random.default_rng(0), np.empty((SIMULATIONS, len(SITES), features))
    for seed in range(SIMULATIONS):
        simulation = bc.datasets.simulate(SITES, features=features, seed=seed)
        study = bc.Study.from_dataframe(
            simulation.table, batch="site", covariates="age + sex", features=simulation.features
        )
        first = np.searchsorted(study.codes, range(len(SITES)))
        drawn = bc.fit(study, method="eb", uncertainty=True, seed=seed).draws(DRAWS).values[:, first]
        below = (drawn < simulation.truth["harmonized"].values[first]).sum(axis=0)
        found[seed] = (below + rng.random(below.shape)) / (DRAWS + 1)
    names = [f"site of {scans}" for scans in SITES]
    return xr.Dataset({name: (("simulation", "feature"), found[:, k]) for k, name in enumerate(names)})


def shares_held(ranks: dict[int, xr.Dataset]) -> pd.DataFrame:
    """Return how often intervals of 90 % held the truth, by size of site and number of features."""
    shares = {
        f"{features} features": [float((abs(part - 0.5) < 0.45).mean()) for part in found.data_vars.values()]
        for features, found in ranks.items()
    }
    return pd.DataFrame(shares, index=pd.Index(SITES, name="scans of the site")).iloc[::-1]


def save(picture: "Figure", name: str) -> None:
    """Write a picture as a small PNG, and print its description."""
    buffer = BytesIO()
    picture.savefig(buffer, format="png", dpi=DPI)
    path = FOLDER / f"{name}.png"
    Image.open(buffer).convert("RGB").quantize(PALETTE).save(path, optimize=True)
    print(f"{path.name} ({path.stat().st_size / 1024:.0f} KiB): {picture.description}")


if __name__ == "__main__":
    main()
