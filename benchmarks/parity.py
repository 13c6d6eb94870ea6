"""Largest differences of ``compat=`` from outputs of the R packages sva, neuroCombat, longCombat and ComBatFamily."""

import warnings
from functools import cache
from typing import Literal

import pandas as pd
import xarray as xr

import bayescombat as bc
from benchmarks.tables import FOLDER, read_bladderbatch, read_fcon1000, study_of

# Name of a configuration -> formula.
BLADDERBATCH = {
    "parametric_nomod": None,
    "parametric_cancer": "cancer",
    "parametric_cancer_age": "cancer + age",
    "parametric_cancer_meanonly": "cancer",
    "parametric_cancer_ref1": "cancer",
    "nonparametric_cancer_1000genes": "cancer",
    "parametric_cancer_1000genes": "cancer",
}
FCON1000 = {
    "neuroCombat_eb": "age + sex",
    "neuroCombat_noeb": "age + sex",
    "neuroCombat_meanonly": "age + sex",
    "neuroCombat_refCambridge": "age + sex",
    "neuroCombat_nomod": None,
}
TESTDATA = [
    f"{prior}_{design}{noeb}{mean}{reference}_r"
    for prior in ("parametric", "nonparametric")
    for design in ("adjusted", "unadjusted")
    for noeb in ("", "_noeb")
    for mean in ("", "_meanonly")
    for reference in ("", "_batchref")
]


def difference_on_testdata(configuration: str) -> float:
    """Return the largest difference from R neuroCombat on its own test data (10 scans × 200 features)."""
    folder = FOLDER / "neurocombat_testdata"
    outputs = pd.read_csv(folder / "reference_outputs_r_matlab.csv.gz", index_col="config")
    expected = outputs.loc[configuration].sort_values("feature").filter(like="Scan").T
    study = bc.Study.from_arrays(
        pd.read_csv(folder / "testdata.csv").to_numpy().T,
        batch=[1] * 5 + [2] * 5,
        covariates={"pheno": [1, 0] * 5} if "_adjusted" in configuration else None,
        reference="1" if "batchref" in configuration else None,
    )
    return float(abs(_harmonized(study, configuration).values - expected.to_numpy()).max())


def difference_on_bladderbatch(configuration: str) -> float:
    """Return the largest difference from sva on bladderbatch (57 samples × 22,283 probes, or 1,000 of them)."""
    some = configuration.endswith("1000genes")
    outputs = _outputs(f"bladderbatch/r_sva_combat_reference_{'1000genes' if some else 'every40th'}.parquet")
    expected = outputs.loc[configuration].set_index("probe").T
    table, probes = read_bladderbatch()
    study = study_of(
        table,
        batch="batch",
        covariates=BLADDERBATCH[configuration],
        features=list(expected.columns) if some else probes,
        reference="1" if configuration.endswith("ref1") else None,
    )
    return _difference(study, configuration, expected)


def difference_on_fcon1000(configuration: str) -> float:
    """Return the largest difference from R neuroCombat on fcon1000 (1,078 scans × 150 features)."""
    expected = _outputs("fcon1000/r_reference_outputs.parquet").loc[configuration].set_index("sub_id")
    study = study_of(
        read_fcon1000(),
        batch="site",
        covariates=FCON1000[configuration],
        features="hickness",
        reference="Cambridge_Buckner" if configuration.endswith("Cambridge") else None,
    )
    return _difference(study, configuration, expected)


def travelling_people() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return 29 scans of four people at six scanners, and longCombat's output for 62 thickness features of theirs."""
    folder = FOLDER / "hawco_traveling_longitudinal"
    rows = pd.read_csv(folder / "hawco_t1_dti.csv.gz")
    outputs = pd.read_csv(folder / "r_longCombat_reference_dktcortex_thickness.csv.gz")
    keys = ["subject", "year", "scanner"]
    outputs = rows[keys].merge(outputs, on=keys, validate="one_to_one")
    expected = outputs.drop(columns=keys).rename(columns=lambda name: name.removesuffix(".combat"))
    features = list(expected.columns.intersection(rows.columns.drop(["session", "site"], errors="ignore")))
    return rows[[*keys, *features]], expected[features]


def difference_on_travelling_people(configuration: Literal["longcombat"]) -> float:
    """Return the largest difference from longCombat on four travelling people (29 scans × 62 features)."""
    rows, expected = travelling_people()
    study = study_of(rows, batch="scanner", covariates="year", features=list(expected.columns), subject="subject")
    found = bc.fit(study, method="eb", compat=configuration).harmonized["mean"]
    return float(abs(found.values - expected.to_numpy()).max())


def difference_of_covariance(compat: Literal["sva"] | None) -> float:
    """Return the largest difference of ``covariance=True`` from ComBatFamily's covfam on fcon1000."""
    expected = _outputs("fcon1000/r_reference_outputs.parquet").loc["covfam_lm"].set_index("sub_id")
    study = study_of(read_fcon1000(), batch="site", covariates="age + sex", features="hickness")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.NegativeValueWarning)
        found = bc.fit(study, method="eb", compat=compat, covariance=True).harmonized["mean"]
    found = found.sel(obs=list(expected.index), feature=list(expected.columns))
    return float(abs(found.values - expected.to_numpy()).max())


@cache
def _outputs(name: str) -> pd.DataFrame:
    return pd.read_parquet(FOLDER / name).set_index("config")


def _harmonized(study: bc.Study, configuration: str) -> xr.DataArray:
    prior = "nonparametric" if configuration.startswith("non") else "parametric"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.NegativeValueWarning)
        fit = bc.fit(
            study,
            method="eb",
            compat="sva",
            mean_only="meanonly" in configuration,
            shrinkage="none" if "noeb" in configuration else prior,
        )
        return fit.harmonized["mean"]


def _difference(study: bc.Study, configuration: str, expected: pd.DataFrame) -> float:
    found = _harmonized(study, configuration)
    found = found.sel(obs=list(expected.index), feature=list(expected.columns))
    return float(abs(found.values - expected.to_numpy()).max())


def table() -> pd.DataFrame:
    """Return the largest difference over the configurations of each reference."""
    references = {
        "neurocombat_testdata (R)": (difference_on_testdata, TESTDATA),
        "bladderbatch (sva)": (difference_on_bladderbatch, BLADDERBATCH),
        "fcon1000 (R neuroCombat)": (difference_on_fcon1000, FCON1000),
        "hawco (longCombat)": (difference_on_travelling_people, ["longcombat"]),
    }
    covariance = {"fcon1000 (covfam)": "sva", "fcon1000 (covfam), compat=None": None}
    rows = [
        {"reference": name, "configurations": len(names), "difference": max(difference(c) for c in names)}
        for name, (difference, names) in references.items()
    ]
    rows += [
        {"reference": name, "configurations": 1, "difference": difference_of_covariance(compat)}
        for name, compat in covariance.items()
    ]
    return pd.DataFrame(rows).set_index("reference")
