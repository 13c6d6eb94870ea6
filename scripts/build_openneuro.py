"""Build bayescombat/datasets/openneuro.csv.gz from the folder named by BAYESCOMBAT_DATA.

The result is the same to the byte on every run with the same zlib.
"""

import gzip
import os
from pathlib import Path

import pandas as pd

TARGET = Path(__file__).parents[1] / "bayescombat" / "datasets" / "openneuro.csv.gz"


def openneuro_table(folder: Path) -> pd.DataFrame:
    """Read the source table and keep what the package ships."""
    source = pd.read_csv(folder / "openneuro6" / "openneuro6.csv.gz")
    people = source.loc[source["dup_features"] == 0].drop(columns=["split", "dup_features"])
    people["sex"] = people["sex"].map({0: "F", 1: "M"})
    # Neighbouring rows of one site compress better, and a sorted table does not depend on the source's order.
    return people.sort_values(["site", "sub_id"]).set_index("sub_id")


def main() -> None:
    """Write the compressed table, without a time stamp in its header."""
    folder = Path(os.environ.get("BAYESCOMBAT_DATA", "../shared/data"))
    text = openneuro_table(folder).to_csv(lineterminator="\n")
    TARGET.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
