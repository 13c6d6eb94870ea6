"""Harmonize the cortical thickness of six open studies, and say how sure the result is.

Run by ``make demo``. Writes harmonized.nc, harmonized.csv and sites.png into demo/; with ``--docs`` the picture
goes to docs/ as well.
"""

import argparse
import os
import shutil
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import xarray as xr

import bayescombat as bc

ROOT = Path(__file__).parents[1]
FEATURES = r"_thickness$"
SMALL_SITE, SMALL_SIZE = "ds003653", 5
CHILDREN = "ds003416"
SEED = 1
VERMILION = "#D55E00"


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--docs", action="store_true", help="also put the picture into docs/")
    to_docs = parser.parse_args().docs
    warnings.showwarning = readable_warnings()

    table = table_with_a_small_site(bc.datasets.load_openneuro())
    study = bc.Study.from_dataframe(table, batch="site", covariates="age + sex", features=FEATURES)
    print(study, end="\n\n")

    print("Empirical Bayes ...")
    quick, quick_seconds = timed(lambda: harmonized_fit(study, method="eb"))
    print("Full Bayes: NUTS, 4 chains; the first run of all makes machine code first ...")
    fit, seconds = timed(lambda: harmonized_fit(study, method="nuts", seed=SEED))

    varying = ~fit.harmonized["set_aside"].values
    shares = {
        "raw": site_share(study.y, study),
        "EB": site_share(quick.harmonized["mean"].values, study),
        "NUTS": site_share(fit.harmonized["mean"].values, study),
    }
    print_table(
        {name: share[varying] for name, share in shares.items()},
        {"EB": quick_seconds, "NUTS": seconds},
        {"EB": quick.verdict, "NUTS": fit.verdict},
        chance=(len(study.batches) - 1) / (len(study.obs) - len(study.covariates) - 1),
    )
    print_widths(fit, study)

    shown = study.features[int(np.argmax(np.where(varying, shares["raw"], 0)))]
    write_results(fit, study, table, shown, to_docs)


def readable_warnings() -> Callable[..., None]:
    """Return what prints a warning as a paragraph, once, without the line of code that it came from."""
    paragraph = textwrap.TextWrapper(100, initial_indent="  ! ", subsequent_indent="    ", break_on_hyphens=False)
    printed = set()

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        text = paragraph.fill(f"{category.__name__}: {message}")
        # Both fits set the same features aside.
        if text not in printed:
            printed.add(text)
            print(text, end="\n\n")

    return show


def table_with_a_small_site(table: pd.DataFrame) -> pd.DataFrame:
    """Keep a few random scans of one site, so that there is a small site to look at."""
    rows = table.index[table["site"] == SMALL_SITE]
    kept = np.random.default_rng(SEED).choice(rows, SMALL_SIZE, replace=False)
    print(
        f"{len(table)} people of six open studies. To show what a small site means, {SMALL_SIZE} of the "
        f"{len(rows)} scans of\n{SMALL_SITE}, drawn at random, are kept and the others are left out.\n"
    )
    return table.drop(index=rows.difference(kept))


def harmonized_fit(study: bc.Study, **settings) -> bc.Fit:
    """Fit and harmonize, so that both count as time."""
    fit = bc.fit(study, **settings)
    fit.harmonized  # noqa: B018
    return fit


def timed(work: Callable[[], bc.Fit]) -> tuple[bc.Fit, float]:
    """Return a fit and the seconds that it took."""
    start = time.perf_counter()
    fit = work()
    return fit, time.perf_counter() - start


def site_share(y: np.ndarray, study: bc.Study) -> np.ndarray:
    """Return the share of the variance left by the covariates that site explains (partial R2), (feature,)."""
    covariates = np.column_stack([np.ones(len(study.x)), study.x])
    sites = np.eye(len(study.batches))[study.codes]
    reduced = residual_squares(covariates, y)
    full = residual_squares(np.column_stack([sites, study.x]), y)
    return np.divide(reduced - full, reduced, out=np.zeros_like(reduced), where=reduced > 0)


def residual_squares(design: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the residual sums of squares of least squares, (feature,)."""
    centred = y - y.mean(axis=0)
    basis, _ = np.linalg.qr(design)
    return ((centred - basis @ (basis.T @ centred)) ** 2).sum(axis=0)


def print_table(
    shares: dict[str, np.ndarray], seconds: dict[str, float], verdicts: dict[str, str], chance: float
) -> None:
    """Print what each method left of the sites, what it took, and what it says of itself."""
    print("\nShare of the variance that site explains after age and sex (partial R2)\n")
    print(f"{'method':8}{'median':>8}{'90th pct':>10}{'seconds':>9}   verdict")
    for name, share in shares.items():
        took = f"{seconds[name]:.1f}" if name in seconds else ""
        figures = f"{name:8}{np.median(share):8.3f}{np.quantile(share, 0.9):10.3f}{took:>9}   "
        print(textwrap.fill(figures + verdicts.get(name, ""), 100, subsequent_indent=" " * 38).rstrip())
    print(
        f"\nWithout any site effect chance would give {chance:.3f}. Less than that is no merit: the same scans\n"
        "were fitted and judged. Seconds include compiling and harmonizing, on this machine as it is now.\n"
    )


def print_widths(fit: bc.Fit, study: bc.Study) -> None:
    """Print how sure each site's harmonized values are."""
    sigma = fit.parameters["sigma"].mean(("chain", "draw"))
    sd = (fit.harmonized["sd"].sel(feature=sigma["feature"]) / sigma).values
    print("How sure the harmonized values are: median posterior sd, in units of the feature's sigma\n")
    for code, site in enumerate(study.batches):
        rows = study.codes == code
        note = "   children only: rests on age acting linearly down to them" if site == CHILDREN else ""
        print(f"{site:10}{rows.sum():4d} scans {np.median(sd[rows]):7.2f}{note}")
    print()


def write_results(fit: bc.Fit, study: bc.Study, table: pd.DataFrame, shown: str, to_docs: bool) -> None:
    """Write the harmonized data and the picture."""
    folder = ROOT / "demo"
    folder.mkdir(exist_ok=True)
    with replacing(folder / "harmonized.nc") as path:
        fit.harmonized.to_netcdf(path, engine="h5netcdf")
    with replacing(folder / "harmonized.csv") as path:
        harmonized_table(fit.harmonized, table).to_csv(path)
    with replacing(folder / "sites.png") as path:
        draw_sites(fit, shown, path)
    if to_docs:
        (ROOT / "docs").mkdir(exist_ok=True)
        with replacing(ROOT / "docs" / "sites.png") as path:
            shutil.copyfile(folder / "sites.png", path)
    for path in sorted(folder.iterdir()):
        print(f"written: {path.relative_to(ROOT)} ({path.stat().st_size / 1024:.0f} KiB)")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a path beside the target, which takes its place once it was written whole."""
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        path = Path(folder) / target.name
        yield path
        os.replace(path, target)


def harmonized_table(harmonized: xr.Dataset, table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with harmonized features, and a column with the posterior sd of each."""
    mean = pd.DataFrame(harmonized["mean"].values, table.index, harmonized["feature"].values)
    sd = pd.DataFrame(harmonized["sd"].values, table.index, harmonized["feature"].values).add_suffix("_sd")
    return pd.concat([table.assign(**mean), sd], axis=1)


def draw_sites(fit: bc.Fit, feature: str, path: Path) -> None:
    """Draw every scan of one feature before and after, with the small site marked."""
    picture = bc.plots.sites(fit, feature)
    before, after = picture.axes
    row = next(place for place, label in enumerate(before.get_yticklabels()) if label.get_text().startswith(SMALL_SITE))
    for text in (before.get_yticklabels()[row], after.texts[row]):
        text.set(color=VERMILION, fontweight="bold")
    picture.suptitle(
        f"A site of {SMALL_SIZE} scans is harmonized too, and says how unsure it is",
        x=0.01, ha="left", fontsize=13, fontweight="bold",
    )  # fmt: skip
    picture.supxlabel(
        f"thickness of {feature.removesuffix('_thickness')} at the average age and sex (mm): the feature that site "
        f"explains best.\n{SMALL_SITE} was cut from 87 to {SMALL_SIZE} random scans for this picture; {CHILDREN} has "
        "children only.",
        fontsize=9,
    )  # fmt: skip
    picture.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
