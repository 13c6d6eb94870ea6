"""Cortical thickness and brain volumes of six open studies, each with its own scanner."""

from importlib.resources import as_file, files

import pandas as pd


def load_openneuro() -> pd.DataFrame:
    """Load FreeSurfer measures of 490 people from six OpenNeuro studies.

    Returns
    -------
    pandas.DataFrame
        One row per person, indexed by ``sub_id``. Column ``site`` is the accession number of the study,
        ``age`` is in years, ``sex`` is ``"F"`` or ``"M"``. The other 245 columns are features: thickness of
        the Destrieux parcels in mm (names ending in ``_thickness``), volumes in mm³, two ratios and
        three counts of surface holes.

    Notes
    -----
    The table is real, and has the oddities of real tables:

    - Age and site are confounded: site explains half of the variance of age. The 31 people of ds003416 are
      children of 5.4 to 6.8 years, and nobody elsewhere is younger than 11, so the effect of that site
      cannot be told from that of age.
    - 34 features are constant: columns of zeros under older names of the same measures, among them those
      ending in ``.1``. They are kept, because a harmonization has to cope with them. Two
      more, ``5th-Ventricle`` and ``non-WM-hypointensities``, are constant at some sites.
    - A few volumes are implausible, among them an intracranial volume of 5 litres.

    All six source studies are in the public domain (CC0 or PDDL). Their accession numbers, citations, and
    what was dropped stand in ``openneuro.md`` beside this module.

    Examples
    --------
    >>> from bayescombat.datasets import load_openneuro
    >>> table = load_openneuro()
    >>> table.shape
    (490, 248)
    >>> table["site"].value_counts().sort_index().to_dict()
    {'ds000115': 99, 'ds000222': 79, 'ds003416': 31, 'ds003469': 81, 'ds003653': 87, 'ds003826': 113}
    """
    with as_file(files(__package__) / "openneuro.csv.gz") as path:
        return pd.read_csv(path, index_col="sub_id")
