"""What the methods of a report cite, as text and as BibTeX."""

import re
from dataclasses import dataclass

__all__ = ["REFERENCES", "Citing", "Reference"]


@dataclass(frozen=True)
class Reference:
    """A publication.

    Parameters
    ----------
    short : str
        As the text names it.
    authors, title, journal : str
        Authors as "Johnson WE, Li C"; of a book `journal` is the publisher.
    year : int
    doi : str
    place : str
        Volume and pages, as "8:118-127".
    book : bool
    """

    short: str
    authors: str
    year: int
    title: str
    journal: str
    doi: str
    place: str = ""
    book: bool = False

    @property
    def text(self) -> str:
        """The reference without its DOI."""
        place = f" {self.place}" if self.place else ""
        return f"{self.authors} ({self.year}). {self.title}. {self.journal}{place}."

    def bibtex(self, key: str) -> str:
        """Return the entry of a BibTeX file."""
        people = [_person(name) for name in self.authors.split(", ")]
        volume, _, pages = self.place.rpartition(":")
        fields = {
            "author": " and ".join(people),
            "title": f"{{{self.title}}}",
            "publisher" if self.book else "journal": self.journal,
            "year": str(self.year),
            "volume": volume,
            "pages": pages.replace("-", "--"),
            "doi": self.doi,
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@{'book' if self.book else 'article'}{{{key},", *lines, "}"])


REFERENCES = {
    "abrilpla2023": Reference(
        "Abril-Pla et al. 2023",
        "Abril-Pla O, Andreani V, Carroll C, Dong L, Fonnesbeck CJ, et al.",
        2023,
        "PyMC: a modern, and comprehensive probabilistic programming framework in Python",
        "PeerJ Computer Science",
        "10.7717/peerj-cs.1516",
        "9:e1516",
    ),
    "beer2020": Reference(
        "Beer et al. 2020",
        "Beer JC, Tustison NJ, Cook PA, Davatzikos C, Sheline YI, Shinohara RT, Linn KA",
        2020,
        "Longitudinal ComBat: a method for harmonizing longitudinal multi-scanner imaging data",
        "NeuroImage",
        "10.1016/j.neuroimage.2020.117129",
        "220:117129",
    ),
    "betancourt2016": Reference(
        "Betancourt 2016",
        "Betancourt M",
        2016,
        "Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo",
        "arXiv",
        "10.48550/arXiv.1604.00695",
        "1604.00695",
    ),
    "boedigheimer2008": Reference(
        "Boedigheimer et al. 2008",
        "Boedigheimer MJ, Wolfinger RD, Bass MB, et al.",
        2008,
        "Sources of variation in baseline gene expression levels from toxicogenomics study control animals across "
        "multiple laboratories",
        "BMC Genomics",
        "10.1186/1471-2164-9-285",
        "9:285",
    ),
    "brodersen2010": Reference(
        "Brodersen et al. 2010",
        "Brodersen KH, Ong CS, Stephan KE, Buhmann JM",
        2010,
        "The balanced accuracy and its posterior distribution",
        "Proceedings of the 20th International Conference on Pattern Recognition",
        "10.1109/ICPR.2010.764",
        "3121-3124",
    ),
    "chen1979": Reference(
        "Chen 1979",
        "Chen C-F",
        1979,
        "Bayesian inference for a normal dispersion matrix and its application to stochastic multiple regression "
        "analysis",
        "Journal of the Royal Statistical Society: Series B",
        "10.1111/j.2517-6161.1979.tb01078.x",
        "41:235-248",
    ),
    "chen2022": Reference(
        "Chen et al. 2022",
        "Chen AA, Beer JC, Tustison NJ, Cook PA, Shinohara RT, Shou H",
        2022,
        "Mitigating site effects in covariance for machine learning in neuroimaging data",
        "Human Brain Mapping",
        "10.1002/hbm.25688",
        "43:1179-1195",
    ),
    "eilers1996": Reference(
        "Eilers and Marx 1996",
        "Eilers PHC, Marx BD",
        1996,
        "Flexible smoothing with B-splines and penalties",
        "Statistical Science",
        "10.1214/ss/1038425655",
        "11:89-121",
    ),
    "hoffman2014": Reference(
        "Hoffman and Gelman 2014",
        "Hoffman MD, Gelman A",
        2014,
        "The No-U-Turn sampler: adaptively setting path lengths in Hamiltonian Monte Carlo",
        "Journal of Machine Learning Research",
        "10.48550/arXiv.1111.4246",
        "15:1593-1623",
    ),
    "horn1965": Reference(
        "Horn 1965",
        "Horn JL",
        1965,
        "A rationale and test for the number of factors in factor analysis",
        "Psychometrika",
        "10.1007/BF02289447",
        "30:179-185",
    ),
    "johnson2007": Reference(
        "Johnson et al. 2007",
        "Johnson WE, Li C, Rabinovic A",
        2007,
        "Adjusting batch effects in microarray expression data using empirical Bayes methods",
        "Biostatistics",
        "10.1093/biostatistics/kxj037",
        "8:118-127",
    ),
    "leek2012": Reference(
        "Leek et al. 2012",
        "Leek JT, Johnson WE, Parker HS, Jaffe AE, Storey JD",
        2012,
        "The sva package for removing batch effects and other unwanted variation in high-throughput experiments",
        "Bioinformatics",
        "10.1093/bioinformatics/bts034",
        "28:882-883",
    ),
    "patterson1971": Reference(
        "Patterson and Thompson 1971",
        "Patterson HD, Thompson R",
        1971,
        "Recovery of inter-block information when block sizes are unequal",
        "Biometrika",
        "10.1093/biomet/58.3.545",
        "58:545-554",
    ),
    "plummer2015": Reference(
        "Plummer 2015",
        "Plummer M",
        2015,
        "Cuts in Bayesian graphical models",
        "Statistics and Computing",
        "10.1007/s11222-014-9503-z",
        "25:37-43",
    ),
    "reynolds2023": Reference(
        "Reynolds et al. 2023",
        "Reynolds M, Chaudhary T, Eshaghzadeh Torbati M, Tudorascu DL, Batmanghelich K, et al.",
        2023,
        "ComBat harmonization: empirical Bayes versus fully Bayes approaches",
        "NeuroImage: Clinical",
        "10.1016/j.nicl.2023.103472",
        "39:103472",
    ),
    "rubin1976": Reference(
        "Rubin 1976",
        "Rubin DB",
        1976,
        "Inference and missing data",
        "Biometrika",
        "10.1093/biomet/63.3.581",
        "63:581-592",
    ),
    "vehtari2021": Reference(
        "Vehtari et al. 2021",
        "Vehtari A, Gelman A, Simpson D, Carpenter B, Bürkner P-C",
        2021,
        "Rank-normalization, folding, and localization: an improved R-hat for assessing convergence of MCMC",
        "Bayesian Analysis",
        "10.1214/20-BA1221",
        "16:667-718",
    ),
    "wachinger2021": Reference(
        "Wachinger et al. 2021",
        "Wachinger C, Rieckmann A, Pölsterl S",
        2021,
        "Detect and correct bias in multi-site neuroimaging datasets",
        "Medical Image Analysis",
        "10.1016/j.media.2020.101879",
        "67:101879",
    ),
    "wood2017": Reference(
        "Wood 2017",
        "Wood SN",
        2017,
        "Generalized additive models: an introduction with R, second edition",
        "Chapman and Hall/CRC",
        "10.1201/9781315370279",
        book=True,
    ),
}


def _person(name: str) -> str:
    """Return a name as BibTeX takes it.

    Examples
    --------
    >>> _person("Eshaghzadeh Torbati M"), _person("Chen C-F"), _person("et al.")
    ('Eshaghzadeh Torbati, M.', 'Chen, C.-F.', 'others')
    """
    if name == "et al.":
        return "others"
    family, _, initials = name.rpartition(" ")
    return f"{family}, {' '.join(re.findall(r'-?[^-]', initials)).replace(' ', '. ').replace('. -', '.-')}."


class Citing:
    """Names publications in a text, and keeps which.

    Examples
    --------
    >>> citing = Citing()
    >>> citing("rubin1976", "horn1965"), citing.plain("horn1965"), list(citing.found)
    ('(Rubin 1976; Horn 1965)', 'Horn 1965', ['horn1965', 'rubin1976'])
    """

    def __init__(self) -> None:
        self._keys: set[str] = set()

    def __call__(self, *keys: str) -> str:
        """Return what stands in the text."""
        return f"({self.plain(*keys)})"

    def plain(self, *keys: str) -> str:
        """Return what stands in a text that is in brackets already."""
        self._keys.update(keys)
        return "; ".join(REFERENCES[key].short for key in keys)

    @property
    def found(self) -> dict[str, Reference]:
        """What was named, in the order of the authors."""
        return {key: REFERENCES[key] for key in sorted(self._keys)}
