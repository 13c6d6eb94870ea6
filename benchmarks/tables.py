"""Real tables that are not part of the project, from the folder that BAYESCOMBAT_DATA names."""

import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd

import bayescombat as bc

FOLDER = Path(os.environ.get("BAYESCOMBAT_DATA", Path(__file__).parents[2] / "shared" / "data"))


def study_of(table: pd.DataFrame, **roles: object) -> bc.Study:
    """Return the study of a table whose oddities are known and stand in its description."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        return bc.Study.from_dataframe(table, **roles)


@cache
def read_fcon1000() -> pd.DataFrame:
    """Return the table of the 1000 Functional Connectomes Project, FreeSurfer."""
    return pd.read_csv(FOLDER / "fcon1000" / "fcon1000.csv.gz", index_col="sub_id")


@cache
def read_bladderbatch() -> tuple[pd.DataFrame, list[str]]:
    """Return gene expression with batch, cancer and age; and the names of the probes."""
    genes = pd.read_parquet(FOLDER / "bladderbatch" / "expr.parquet").T
    samples = pd.read_csv(FOLDER / "bladderbatch" / "pheno.csv").set_index("cel").loc[genes.index]
    return pd.concat([genes, samples[["batch", "cancer", "age"]]], axis=1), list(genes.columns)


def fcon1000() -> bc.Study:
    """Return 1,078 scans × 150 thickness features of 23 sites, with age, its square and sex."""
    return study_of(read_fcon1000(), batch="site", covariates="age + I(age**2) + sex", features="hickness")


def abide1_fs6() -> bc.Study:
    """Return 1,035 scans × 70 thickness features of 20 sites, with age, sex and diagnosis."""
    table = pd.read_csv(FOLDER / "abide1_fs6" / "abide1_fs6.csv.gz", index_col="sub_id")
    return study_of(table, batch="site", covariates="age + sex + dx", features="thickness")


def mriqc_abide() -> bc.Study:
    """Return the 1,101 scans × 68 image-quality metrics of 17 sites, with age and sex."""
    table = pd.read_csv(FOLDER / "mriqc_abide" / "mriqc_abide.csv.gz", index_col="subject_id")
    metrics = list(table.columns[table.columns.get_loc("cjv") :])
    return study_of(table, batch="site", covariates="age + sex", features=metrics)


def bladderbatch() -> bc.Study:
    """Return 57 samples × the 200 most variable genes of 5 batches, with cancer."""
    table, probes = read_bladderbatch()
    chosen = list(table[probes].var().nlargest(200).index)
    return study_of(table, batch="batch", covariates="cancer", features=chosen)


def mtbls79(features: int | None = None) -> tuple[bc.Study, pd.Series]:
    """Return 172 injections × 2,488 peaks of 8 batches on the log scale, 4.3 % missing; and the animal of each, or "".

    Parameters
    ----------
    features : int, optional
        How many peaks to choose at random; by default all.
    """
    peaks = pd.read_csv(FOLDER / "mtbls79" / "peaks.csv.gz", index_col=0).T.add_prefix("peak_")
    samples = pd.read_csv(FOLDER / "mtbls79" / "samples.csv", index_col=0).loc[peaks.index]
    names = list(peaks.columns)
    if features is not None:
        names = list(peaks.sample(features, axis=1, random_state=0).columns)
    table = pd.concat([peaks[names], samples[["batch", "class"]]], axis=1)
    animals = (samples["class"] + samples["sample_rep"].astype(str)).where(samples["class"] != "QC", "")
    return study_of(table, batch="batch", covariates="class", features=names, transform="log"), animals


TABLES: dict[str, Callable[[], bc.Study]] = {
    "fcon1000": fcon1000,
    "abide1_fs6": abide1_fs6,
    "mriqc_abide": mriqc_abide,
    "bladderbatch": bladderbatch,
}
