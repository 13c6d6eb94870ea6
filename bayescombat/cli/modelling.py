"""The options that say what is fitted, and how it is sampled."""

from dataclasses import dataclass
from typing import Annotated

from bayescombat.cli.options import flag, option
from bayescombat.empirical import Compat
from bayescombat.fit.contents import Method
from bayescombat.shrinkage import Shrinkage

__all__ = ["Model", "Sampling"]

MODEL, SAMPLING = "Model", "Sampling, for --method nuts"


@dataclass(frozen=True)
class Model:
    """What is fitted."""

    method: Annotated[
        Method,
        option(
            "Full Bayes by NUTS, or empirical Bayes, in closed form and at once.",
            "--method",
            "-m",
            panel=MODEL,
            show_default=True,
        ),
    ] = "nuts"
    mean_only: Annotated[
        bool, flag("Adjust means alone, and leave scales as they are.", "--mean-only", panel=MODEL)
    ] = False
    robust: Annotated[
        bool,
        flag("Noise of heavy tails, so that outlying values count less. NUTS only, and slow.", "--robust", panel=MODEL),
    ] = False
    shared_factors: Annotated[
        str | None,
        option(
            "How many factors the features share in their noise: a number or auto. By default auto for NUTS and 0 "
            "for eb.",
            "--shared-factors",
            metavar="NUMBER",
            panel=MODEL,
        ),
    ] = None
    factors: Annotated[
        str | None,
        option(
            "How many hidden factors to remove: a number or auto. By default none.",
            "--factors",
            metavar="NUMBER",
            panel=MODEL,
        ),
    ] = None
    factors_despite_covariates: Annotated[
        bool, flag("Remove them even if they carry a preserved covariate.", "--factors-despite-covariates", panel=MODEL)
    ] = False
    covariance: Annotated[
        float | None,
        option(
            "Harmonize how features vary together too (CovBat), by the principal components that explain this share "
            "of their variance; 0.95 is usual.",
            "--covariance",
            metavar="SHARE",
            panel=MODEL,
        ),
    ] = None
    shrinkage: Annotated[Shrinkage | None, option("For eb, by default parametric.", "--shrinkage", panel=MODEL)] = None
    compat: Annotated[
        Compat | None, option("For eb: reproduce this R package to the digit.", "--compat", panel=MODEL)
    ] = None


@dataclass(frozen=True)
class Sampling:
    """How NUTS samples."""

    draws: Annotated[
        int | None,
        option(
            "Draws kept of every chain, by default 1000, or 2000 where features of few batches share factors.",
            "--draws",
            metavar="NUMBER",
            min=4,
            panel=SAMPLING,
        ),
    ] = None
    tune: Annotated[
        int | None, option("Steps of warm-up, by default 500.", "--tune", metavar="NUMBER", min=1, panel=SAMPLING)
    ] = None
    chains: Annotated[int | None, option("By default 4.", "--chains", metavar="NUMBER", min=1, panel=SAMPLING)] = None
    cores: Annotated[
        int | None,
        option(
            "Chains sampled at a time, by default as many as there are cores.",
            "--cores",
            metavar="NUMBER",
            min=1,
            panel=SAMPLING,
        ),
    ] = None
    seed: Annotated[
        int | None,
        option(
            "The same seed gives the same numbers, on the same machine. Also for eb with --uncertainty.",
            "--seed",
            metavar="NUMBER",
            min=0,
            panel=SAMPLING,
        ),
    ] = None
    target_accept: Annotated[
        float | None,
        option(
            "Acceptance that steps are tuned to, by default 0.9, and 0.99 below 20 features.",
            "--target-accept",
            metavar="SHARE",
            panel=SAMPLING,
        ),
    ] = None
