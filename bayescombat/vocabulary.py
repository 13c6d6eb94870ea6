"""The parameters by name: what they are, their dims and their units."""

__all__ = ["ATTRS", "DIMS", "DRAWN", "HYPERPARAMETERS", "POPULATION"]

HYPERPARAMETERS = ("gamma_mean", "gamma_sd", "log_delta_mean", "log_delta_sd")
POPULATION = (
    "gamma_mean_spread",
    "gamma_sd_log_typical",
    "gamma_sd_spread",
    "log_delta_mean_spread",
    "log_delta_sd_log_typical",
    "log_delta_sd_spread",
)
# By prior (a field of `Priors` without its `_median`), what is drawn from it. What a typical batch or feature has is
# drawn as its logarithm.
DRAWN = {
    "gamma_mean": "gamma_mean_spread",
    "gamma_sd": "gamma_sd_log_typical",
    "gamma_sd_spread": "gamma_sd_spread",
    "log_delta_mean": "log_delta_mean_spread",
    "log_delta_sd": "log_delta_sd_log_typical",
    "log_delta_sd_spread": "log_delta_sd_spread",
    "smooth_sd": "smooth_sd_log_typical",
    "smooth_sd_spread": "smooth_sd_spread",
    "nu": "nu",
}
DIMS = {
    "alpha": ("feature",),
    "beta": ("feature", "covariate"),
    "gamma": ("batch", "feature"),
    "delta": ("batch", "feature"),
    "sigma": ("feature",),
    **dict.fromkeys(HYPERPARAMETERS, ("batch",)),
    **dict.fromkeys(("gamma_typical", "delta_typical"), ("batch_variable", "feature")),
    **dict.fromkeys(POPULATION, ("batch_variable",)),
    "subject_sd": ("feature",),
    **dict.fromkeys(("gamma_unshrunken", "delta_unshrunken", "observed", "freedom"), ("batch", "feature")),
    **dict.fromkeys(("delta2_mean", "delta2_variance"), ("batch",)),
    "smooth_sd": ("feature", "smooth"),
    **dict.fromkeys(("smooth_sd_log_typical", "smooth_sd_spread"), ("smooth",)),
    "nu": (),
}
ATTRS = {
    "alpha": ("feature units", "mean at the average covariates"),
    "beta": ("feature units per unit of the covariate", "slope of the covariate"),
    "gamma": ("feature units", "shift of the batch"),
    "delta": ("1", "scale of the batch, relative to sigma"),
    "sigma": ("feature units", "residual standard deviation"),
    "gamma_mean": ("sigma", "mean of the batch's shifts over the features"),
    "gamma_sd": ("sigma", "standard deviation of the batch's shifts over the features"),
    "log_delta_mean": ("log sigma", "mean of the batch's log scales over the features"),
    "log_delta_sd": ("log sigma", "standard deviation of the batch's log scales over the features"),
    "gamma_typical": ("feature units", "shift expected of a batch never seen"),
    "delta_typical": ("1", "scale of a batch never seen, relative to sigma, at its median"),
    "gamma_mean_spread": ("sigma of a typical batch", "spread of gamma_mean across batches"),
    "gamma_sd_log_typical": ("log sigma of a typical batch", "logarithm of gamma_sd in a typical batch"),
    "gamma_sd_spread": ("1", "spread of the logarithm of gamma_sd across batches"),
    "log_delta_mean_spread": ("log sigma", "spread of log_delta_mean across batches"),
    "log_delta_sd_log_typical": ("log log sigma", "logarithm of log_delta_sd in a typical batch"),
    "log_delta_sd_spread": ("1", "spread of the logarithm of log_delta_sd across batches"),
    "subject_sd": ("feature units", "standard deviation of the subjects' intercepts"),
    "gamma_unshrunken": ("feature units", "shift of the batch before shrinkage"),
    "delta_unshrunken": ("1", "scale of the batch before shrinkage"),
    "observed": ("1", "observed scans"),
    "freedom": ("1", "degrees of freedom behind the scale before shrinkage"),
    "delta2_mean": ("1", "mean of the batch's squared scales over the features"),
    "delta2_variance": ("1", "variance of the batch's squared scales over the features"),
    "smooth_sd": ("feature units", "expected bend of the curve: root mean square about its straight line"),
    "smooth_sd_log_typical": ("log sigma", "logarithm of smooth_sd in a typical feature"),
    "smooth_sd_spread": ("1", "spread of the logarithm of smooth_sd over the features"),
    "nu": ("1", "degrees of freedom of the noise"),
}
