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

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr

import bayescombat as bc

ROOT = Path(__file__).parents[1]
FEATURES = r"_thickness$"
SMALL_SITE, SMALL_SIZE = "ds003653", 5
CHILDREN = "ds003416"
SEED = 1
# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#5A5A5A"


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
    print("Full Bayes: the model is compiled, then sampled with 4 chains of 1000 + 1000 draws ...")
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
        draw_sites(fit, study, shown, path)
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


def draw_sites(fit: bc.Fit, study: bc.Study, feature: str, path: Path) -> None:
    """Draw every scan of one feature before and after, at the average covariates."""
    harmonized = fit.harmonized.sel(feature=feature)
    parameters = fit.parameters.sel(feature=feature).mean(("chain", "draw"))
    effects = (study.x - study.x.mean(axis=0)) @ parameters["beta"].values
    raw = study.y[:, study.features.index(feature)] - effects
    after, lower, upper = (harmonized[name].values - effects for name in ("mean", "lower", "upper"))

    plt.rcParams.update({"font.size": 10, "font.family": "DejaVu Sans", "axes.titlesize": 11})
    figure, panels = plt.subplots(1, 2, figsize=(12, 5.2), sharey=True, layout="constrained")
    average = float(parameters["alpha"])
    draw_panel(panels[0], study, raw, None, average)
    draw_panel(panels[1], study, after, (lower, upper), average)
    panels[0].set_title("Before harmonization: every scan", loc="left", color=GREY)
    panels[1].set_title("After: posterior mean and 90 % interval of every scan", loc="left", color=GREY)
    label_widths(panels[1], study, (upper - lower) / 2, lower)
    panels[0].set_ylabel("thickness at the average age and sex (mm)")
    figure.suptitle(
        f"A site of {SMALL_SIZE} scans is harmonized too, and says how unsure it is",
        x=0.01, ha="left", fontsize=14, fontweight="bold",
    )  # fmt: skip
    figure.supxlabel(
        f"{feature.removesuffix('_thickness')}, the feature that site explains best. {SMALL_SITE} was cut from 87 to "
        f"{SMALL_SIZE} random scans for this picture. Scans of a site in order of their values; bar: mean of the site.",
        x=0.01, ha="left", fontsize=9, color=GREY,
    )  # fmt: skip
    figure.savefig(path, dpi=110)
    plt.close(figure)


def label_widths(panel: plt.Axes, study: bc.Study, half_width: np.ndarray, lower: np.ndarray) -> None:
    """Write below the small site how wide its intervals are, against those of the largest site."""
    small = study.codes == study.batches.index(SMALL_SITE)
    largest = int(np.bincount(study.codes).argmax())
    width, other = np.median(half_width[small]), np.median(half_width[study.codes == largest])
    panel.annotate(
        f"± {width:.2f} mm a scan,\n{width / other:.1f} times as wide\nas at {study.batches[largest]}",
        (study.batches.index(SMALL_SITE) - 0.2, lower[small].min() - 0.02),
        ha="center", va="top", fontsize=9, color=VERMILION,
    )  # fmt: skip


def draw_panel(
    panel: plt.Axes,
    study: bc.Study,
    values: np.ndarray,
    interval: tuple[np.ndarray, np.ndarray] | None,
    average: float,
) -> None:
    """Draw the scans of every site, sorted, with the mean of the site."""
    panel.axhline(average, color="#BBBBBB", linewidth=1, zorder=0)
    labels = []
    for code, site in enumerate(study.batches):
        rows = np.flatnonzero(study.codes == code)
        rows = rows[np.argsort(values[rows])]
        place = code + np.linspace(-0.36, 0.36, len(rows))
        color = VERMILION if site == SMALL_SITE else BLUE
        label = f"{site}\nn = {len(rows)}" + (" children" if site == CHILDREN else "")
        if interval is not None:
            lower, upper = interval
            panel.vlines(place, lower[rows], upper[rows], color=color, linewidth=1.3, alpha=0.45)
            label += f"\n± {np.median(upper[rows] - lower[rows]) / 2:.2f} mm"
        panel.scatter(place, values[rows], s=11, color=color, linewidths=0, zorder=3)
        panel.hlines(values[rows].mean(), code - 0.42, code + 0.42, color="black", linewidth=1.8, zorder=4)
        labels.append(label)
    panel.set_xticks(range(len(labels)), labels, fontsize=8.5)
    for tick, site in zip(panel.get_xticklabels(), study.batches, strict=True):
        tick.set_color(VERMILION if site == SMALL_SITE else "black")
    panel.tick_params(axis="x", length=0)
    panel.spines[["top", "right", "bottom"]].set_visible(False)


if __name__ == "__main__":
    main()
