"""The tables of the comparison."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

import bayescombat as bc
from benchmarks import tables

__all__ = ["DATASETS", "Dataset", "fcon1000", "logarithms", "openneuro"]

PEAKS = 200
# Skewness within sites: above the first a logarithm is tried, above the second a feature is left out.
SKEWED, HOPELESS = 1.0, 4.0


@dataclass(frozen=True, eq=False)
class Dataset:
    """A study, and how it is cross-validated.

    Parameters
    ----------
    study : Study
        Without subjects, since the published model knows none.
    about : str
        What is in it, in words.
    folds : int
        Of cross-validation.
    units : ndarray of str, (obs,), optional
        Subjects, if they have several scans: these share a fold and are compared.
    plain : bool
        Whether a plain support vector machine looks for the site too, as in earlier work on the table.
    """

    study: bc.Study
    about: str
    folds: int = 5
    units: np.ndarray | None = None
    plain: bool = False


def openneuro() -> Dataset:
    """Return the packaged table: 490 people of six sites, with age and sex."""
    features = "_G_.*_thickness$"
    study = tables.study_of(bc.datasets.load_openneuro(), batch="site", covariates="age + sex", features=features)
    return Dataset(study, "thickness of gyri; packaged with bayescombat")


def fcon1000() -> Dataset:
    """Return 1,078 scans of 23 sites, with age, its square and sex; and what baselines are known of."""
    return Dataset(tables.fcon1000(), "thickness", plain=True)


def abide1_fs6() -> Dataset:
    """Return 1,035 scans of 20 sites, with age, sex and diagnosis."""
    return Dataset(tables.abide1_fs6(), "thickness, with a diagnosis of autism")


def mriqc_abide() -> Dataset:
    """Return 1,101 scans of 17 sites, with age and sex: quality metrics, most of whose variance is site."""
    table = pd.read_csv(tables.FOLDER / "mriqc_abide" / "mriqc_abide.csv.gz", index_col="subject_id")
    metrics = list(table.columns[table.columns.get_loc("cjv") :])
    values, left_out = logarithms(table[metrics], table["site"])
    study = tables.study_of(
        values.join(table[["site", "age", "sex"]]), batch="site", covariates="age + sex", features=list(values.columns)
    )
    return Dataset(
        study,
        f"image quality, logarithms of what is skewed within sites; {len(left_out)} metrics of {len(metrics)} left out "
        "that stay so or hardly vary",
    )


def logarithms(values: pd.DataFrame, site: pd.Series) -> tuple[pd.DataFrame, list[str]]:
    """Return features with the logarithm where it makes them less skewed within sites; and those left out.

    Parameters
    ----------
    values : DataFrame, (obs, feature)
    site : Series, (obs,)
        Skewness is that of deviations from its medians.

    Returns
    -------
    DataFrame, list of str
        Features whose skewness stays above 4, and those constant inside a site, are left out.
    """

    def skewness(column: pd.Series) -> float:
        return abs(float(stats.skew(column - column.groupby(site).transform("median"))))

    kept, left_out = {}, []
    for name, column in values.items():
        found = column
        if skewness(column) > SKEWED and (column > 0).all() and skewness(np.log(column)) < skewness(column):
            found = np.log(column)
        if skewness(found) > HOPELESS or (found.groupby(site).nunique() < 2).any():
            left_out.append(str(name))
        else:
            kept[name] = found
    return pd.DataFrame(kept), left_out


def hawco() -> Dataset:
    """Return 29 scans of four people on six scanners: anisotropy and diffusivity of tracts."""
    table = pd.read_csv(tables.FOLDER / "hawco_traveling_longitudinal" / "hawco_t1_dti.csv.gz", index_col="session")
    table.index = table["subject"] + " " + table.index
    study = tables.study_of(table, batch="scanner", features="^DTI_mean_.*jhu_icbm")
    about = "diffusion in tracts of four travelling people, one held out at a time"
    return Dataset(study, about, folds=4, units=table["subject"].to_numpy())


def mtbls79() -> Dataset:
    """Return the injections of 20 animals in eight batches: 200 peaks on the log scale, with the species."""
    study, animals = tables.mtbls79(PEAKS)
    known = np.flatnonzero(animals.to_numpy() != "")
    table = pd.DataFrame(study.y[known], study.obs[known], list(study.features))
    table["batch"] = [study.batches[code] for code in study.codes[known]]
    table["class"] = [animal[0] for animal in animals.iloc[known]]
    found = tables.study_of(table, batch="batch", covariates="class", features=list(study.features), transform="log")
    about = (
        f"{PEAKS} peaks, chosen at random, of 20 animals measured in six to eight of eight batches; no pooled samples"
    )
    return Dataset(found, about, units=animals.iloc[known].to_numpy())


DATASETS: dict[str, Callable[[], Dataset]] = {
    "fcon1000": fcon1000,
    "abide1_fs6": abide1_fs6,
    "mriqc_abide": mriqc_abide,
    "hawco": hawco,
    "mtbls79": mtbls79,
    "openneuro": openneuro,
}
