"""The model: its forms are one posterior, every prior matters, and it starts where it can be sampled."""

import operator
from collections.abc import Callable
from dataclasses import fields, replace
from functools import reduce

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.mode import Mode

import bayescombat as bc
from bayescombat.factors import factors_of
from bayescombat.identification import estimable
from bayescombat.moments import Moments
from bayescombat.repeated import fixed_effects
from bayescombat.scores import sharing_of
from bayescombat.standard import standardise, starting_point
from tests.studies import small_study, without_cells

# Interpreted graphs as they are: compiling or rewriting them would take longer than evaluating them.
INTERPRETED = Mode(linker="py", optimizer=None)
# Those of subjects have a test beside them: scans of one subject each have none.
PRIOR_FIELDS = [field.name for field in fields(bc.Priors) if not field.name.startswith("subject")]

Point = dict[str, np.ndarray]
Density = Callable[[Point], tuple[float, dict[str, np.ndarray]]]


def with_software(study: bc.Study) -> bc.Study:
    """Return the study with a second batch variable, whose levels cross the sites."""
    frame = pd.DataFrame(study.y, columns=list(study.features)).assign(age=study.x[:, 0])
    sites = np.array(study.batches)[study.codes]
    return bc.Study.from_dataframe(
        frame.assign(site=sites, software=np.arange(len(frame)) % 2),
        batch=["site", "software"],
        covariates="age",
        features=study.features,
    )


def with_smooths(study: bc.Study, **smooth: int) -> bc.Study:
    """Return the study with curves of age, or of a second column, that some features follow."""
    frame = pd.DataFrame(study.y, columns=list(study.features)).assign(age=study.x[:, 0])
    frame["dose"] = np.random.default_rng(0).permutation(len(frame)) / len(frame)
    frame["feature_0"] += np.sin(frame["age"] / 8) * frame["feature_0"].std()
    labels = pd.DataFrame(np.array([label.split(" / ") for label in study.batches])[study.codes])
    labels.columns = list(study.spec.batch)
    return bc.Study.from_dataframe(
        pd.concat([frame, labels], axis=1), batch=study.spec.batch, features=study.features, smooth=smooth
    )


KINDS: dict[str, Callable[[], bc.Study]] = {
    "complete": small_study,
    "without covariates": lambda: small_study(covariates=""),
    "missing cells": lambda: without_cells(small_study()),
    "missing cells, without covariates": lambda: without_cells(small_study(covariates="")),
    "two batch variables": lambda: with_software(small_study()),
    "missing cells, two batch variables": lambda: with_software(without_cells(small_study())),
    "smooth, missing cells": lambda: with_smooths(without_cells(small_study()), age=6),
    "two smooths, two batch variables": lambda: with_smooths(with_software(small_study()), age=6, dose=5),
}


def density(model: pm.Model, extra: pt.TensorVariable | None = None, given: tuple = ()) -> Density:
    """Return the log-density of the free variables, plus `extra`, and its gradient."""
    values = list(model.value_vars)
    # One by one: an interpreted sum has at most 32 terms.
    total = reduce(operator.add, [part.sum() for part in model.logp(sum=False)])
    total += 0 if extra is None else model.replace_rvs_by_values([extra])[0]
    outputs = [total, *pytensor.grad(total, values)]
    function = pytensor.function([*values, *given], outputs, mode=INTERPRETED, on_unused_input="ignore")

    def evaluated(point: Point) -> tuple[float, dict[str, np.ndarray]]:
        found = function(*(point[variable.name] for variable in [*values, *given]))
        return float(found[0]), dict(zip([v.name for v in values], found[1:], strict=True))

    return evaluated


def random_points(model: pm.Model, count: int = 6) -> list[Point]:
    """Return points around the start, on the unconstrained scale."""
    rng = np.random.default_rng(7)
    start = model.initial_point()
    return [
        {name: value + 0.3 * rng.standard_normal(np.shape(value)) for name, value in start.items()}
        for _ in range(count)
    ]


def assert_equal_up_to_a_constant(one: Density, other: Density, points: list[Point], names: list[str]) -> None:
    found, expected = [one(point) for point in points], [other(point) for point in points]
    differences = [a[0] - b[0] for a, b in zip(found, expected, strict=True)]
    assert np.ptp(differences) <= 1e-8
    for a, b in zip(found, expected, strict=True):
        for name in names:
            scale = np.abs(b[1][name]).max()
            np.testing.assert_allclose(a[1][name], b[1][name], rtol=1e-6, atol=1e-6 * scale, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_moments_with_cell_means_equal_the_textbook_form(kind: str) -> None:
    study = KINDS[kind]()
    textbook = bc.build_model(study, likelihood="observations")
    moments = bc.build_model(study, cell_means="explicit")
    names = [variable.name for variable in textbook.value_vars]
    assert names == [variable.name for variable in moments.value_vars]
    assert_equal_up_to_a_constant(density(moments), density(textbook), random_points(textbook), names)


@pytest.mark.parametrize("kind", KINDS)
def test_integrated_form_and_conditional_draw_equal_the_joint_form(kind: str) -> None:
    study = KINDS[kind]()
    integrated, joint = bc.build_model(study), bc.build_model(study, cell_means="explicit")
    moments = estimable(Moments.from_study(study))
    several = len(moments.spec.batch) > 1
    suffix = "_1" if several else ""
    gamma = pt.matrix(f"gamma{suffix}")
    sites, levels = moments.positions[:, 0], moments.positions.T
    observed = moments.mean_y - integrated["alpha"]
    observed -= ((moments.mean_x - moments.center) * integrated["beta"]).sum(axis=-1)
    if several:
        observed -= integrated["gamma_2"][levels[1] - 4]
    scale = integrated["sigma"] * np.prod([integrated["delta"][level] for level in levels])
    # Cells of one site share its shift.
    member = (sites == np.arange(4)[:, None]).astype(float)
    information, weighted = pt.dot(member, moments.n / scale**2), pt.dot(member, moments.n / scale**2 * observed)
    prior_mean = integrated["sigma"] * integrated[f"gamma_mean{suffix}"][:, None]
    prior_variance = (integrated["sigma"] * integrated[f"gamma_sd{suffix}"][:, None]) ** 2
    precision = information + 1 / prior_variance
    mean = (weighted + prior_mean / prior_variance) / precision
    conditional = ((pt.log(precision) - precision * (gamma - mean) ** 2) / 2).sum()
    names = [variable.name for variable in integrated.value_vars]
    assert_equal_up_to_a_constant(
        density(integrated, conditional, (gamma,)), density(joint), random_points(joint), names
    )


@pytest.mark.parametrize(
    ("holes", "several"),
    [(False, False), (True, False), (True, True)],
    ids=["one batch variable", "holes", "holes, two batch variables"],
)
def test_forms_with_shared_factors_are_one_posterior(holes: bool, several: bool) -> None:
    study = small_study((12, 7, 5, 3), features=6)
    study = without_cells(study) if holes else study
    study = with_software(study) if several else study
    options, suffix = {"shared_factors": 2}, "_1" if several else ""
    integrated, joint = bc.build_model(study, **options), bc.build_model(study, cell_means="explicit", **options)
    moments = estimable(Moments.from_study(study, cross=True))
    factors, (sites, *software) = factors_of(moments, 2), moments.positions.T
    gamma = pt.matrix(f"gamma{suffix}")
    scale = integrated["sigma"] * np.prod([integrated["delta"][level] for level in moments.positions.T])
    observed = moments.mean_y - integrated["alpha"]
    observed -= ((moments.mean_x - moments.center) * integrated["beta"]).sum(axis=-1)
    observed -= sum(integrated["gamma_2"][level - 4] for level in software)
    observed -= scale * pt.dot(integrated["noise_factor"], factors.loadings.T)
    known = np.broadcast_to(moments.n > 0, moments.syy.shape)
    own = np.where(known, 1 / np.maximum(moments.n, 1) - factors.common / moments.scans[:, None], 1)
    # Cells of one site share its shift.
    member = (sites == np.arange(4)[:, None]).astype(float)
    information = known / (own * scale**2)
    weighted = pt.dot(member, information * observed)
    prior_mean = integrated[f"gamma_mean{suffix}"][:, None] + integrated[f"batch_pattern{suffix}"]
    prior_mean = integrated["sigma"] * prior_mean
    prior_variance = (integrated["sigma"] * integrated[f"gamma_sd{suffix}"][:, None]) ** 2
    precision = pt.dot(member, information) + 1 / prior_variance
    mean = (weighted + prior_mean / prior_variance) / precision
    conditional = ((pt.log(precision) - precision * (gamma - mean) ** 2) / 2).sum()
    names = [variable.name for variable in integrated.value_vars]
    assert_equal_up_to_a_constant(
        density(integrated, conditional, (gamma,)), density(joint), random_points(joint), names
    )


def test_prior_draws_of_what_features_share_have_the_documented_distribution() -> None:
    study = small_study((12, 7, 5, 3), features=6)
    model, moments = bc.build_model(study, shared_factors=2), estimable(Moments.from_study(study, cross=True))
    patterns = sharing_of(moments, fixed_effects(moments), factors_of(moments, 2)).patterns
    names = ["gamma_sd", "gamma_mean", "batch_pattern", "noise_factor", "delta", "log_delta_mean", "log_delta_sd"]
    drawn = pm.draw([model[name] for name in names], draws=4000, random_seed=1, mode=INTERPRETED)
    value = dict(zip(names, drawn, strict=True))
    noise = value["noise_factor"] * np.sqrt([12, 7, 5, 3])[:, None]
    log_delta = (np.log(value["delta"]) - value["log_delta_mean"][..., None]) / value["log_delta_sd"][..., None]
    for z_score in (noise, log_delta):
        assert abs(z_score.mean()) < 0.05
        assert abs(z_score.std() - 1) < 0.03
    # Each batch's shifts along the patterns less the average of the four, in units of the typical spread of a draw.
    unit = np.exp(np.log(value["gamma_sd"]).mean(axis=1))
    shift, spread = value["batch_pattern"] / unit[:, None, None], (value["gamma_sd"] / unit[:, None]) ** 2
    own = patterns.of_features @ patterns.of_features.swapaxes(1, 2)
    share = (np.eye(4) - 1 / 4) ** 2
    for i in range(4):
        expected = np.einsum("j,dj,jab->ab", share[i], spread, own) / len(spread)
        size = np.trace(expected)
        assert np.abs(shift[:, i].T @ shift[:, i] / len(shift) - expected).max() < 0.08 * size
        assert abs((shift[:, i] * noise[:, i, :1]).mean()) < 0.05 * np.sqrt(size)
        assert abs((shift[:, i] * value["gamma_mean"][:, [i]]).mean()) < 0.05 * np.sqrt(size)


def test_prior_draws_of_smooths_have_the_documented_distribution() -> None:
    study = with_smooths(small_study(), age=8, dose=6)
    model, scale = bc.build_model(study), standardise(estimable(Moments.from_study(study))).scale
    names = ["beta", "smooth_sd", "smooth_sd_log_typical", "smooth_sd_spread"]
    drawn = pm.draw([model[name] for name in names], draws=3000, random_seed=1, mode=INTERPRETED)
    value = dict(zip(names, drawn, strict=True))
    log_sd = np.log(value["smooth_sd"] / scale[:, None])
    scores = (log_sd - value["smooth_sd_log_typical"][:, None]) / value["smooth_sd_spread"][:, None]
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=5 / 3000**0.5)
    np.testing.assert_allclose(scores.std(axis=0), 1, atol=5 / 6000**0.5)
    for k, columns in enumerate(study.spec.penalised):
        coefficients = value["beta"][..., columns] / value["smooth_sd"][..., k, None]
        covariance = np.einsum("dvp,dvq->vpq", coefficients, coefficients) / 3000
        # The penalty is the identity in the design columns, however the model turns them.
        np.testing.assert_allclose(covariance, np.broadcast_to(np.eye(len(columns)), covariance.shape), atol=0.15)


def test_prior_draws_have_the_documented_distribution() -> None:
    model = bc.build_model(small_study())
    names = ["delta", "log_delta_mean", "log_delta_sd", "gamma_sd", "gamma_sd_log_typical", "gamma_sd_spread"]
    names += ["log_delta_sd_log_typical", "log_delta_sd_spread"]
    drawn = pm.draw([model[name] for name in names], draws=2000, random_seed=1, mode=INTERPRETED)
    value = dict(zip(names, drawn, strict=True))
    scores = {
        "log_delta": (np.log(value["delta"]) - value["log_delta_mean"][..., None]) / value["log_delta_sd"][..., None]
    }
    for name in ("gamma_sd", "log_delta_sd"):
        typical, spread = value[f"{name}_log_typical"][:, None], value[f"{name}_spread"][:, None]
        scores[name] = (np.log(value[name]) - typical) / spread
    for name, score in scores.items():
        # 2,000 draws of each batch: five standard errors.
        np.testing.assert_allclose(score.mean(axis=0), 0, atol=5 / 2000**0.5, err_msg=name)
        np.testing.assert_allclose(score.std(axis=0), 1, atol=5 / 4000**0.5, err_msg=name)


def test_priors_of_the_tails_change_the_density() -> None:
    study, priors = small_study((12, 7, 5), features=2), bc.Priors()
    given = [priors, replace(priors, nu_median=13.0), replace(priors, nu_log_sd=1.3)]
    models = [bc.build_model(study, one, likelihood="observations", robust=True) for one in given]
    point = models[0].initial_point() | {"nu_log__": np.array(1.0)}
    assert len({float(model.compile_logp(mode=INTERPRETED)(point)) for model in models}) == 3


@pytest.mark.parametrize("field", [name for name in PRIOR_FIELDS if not name.startswith("nu_")])
def test_every_prior_field_changes_the_density(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = with_smooths(small_study((12, 7, 5, 3), features=3), age=5)
    priors = bc.Priors()
    changed = replace(priors, **{field: 1.3 * getattr(priors, field)})
    # The start and the parametrisation lean on the priors as well: both models are given the same ones.
    moments = estimable(Moments.from_study(study, cross=True))
    start = starting_point(standardise(moments), priors)
    monkeypatch.setattr("bayescombat.model.model.starting_point", lambda *_: start)
    first, second = (bc.build_model(moments, given, shared_factors=1) for given in (priors, changed))
    point = first.initial_point()
    logps = [model.compile_logp(mode=INTERPRETED)(point) for model in (first, second)]
    assert np.isfinite(logps).all()
    assert logps[0] != logps[1]


@pytest.mark.parametrize("field", PRIOR_FIELDS)
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), "1", True])
def test_priors_must_be_positive_numbers(field: str, value: object) -> None:
    with pytest.raises(bc.BayesCombatError, match=field):
        bc.Priors(**{field: value})


@pytest.mark.parametrize(
    ("scans", "features", "covariates"),
    [((12, 7, 3, 1), 4, "age"), ((5, 5), 1, ""), ((1, 1, 2, 40), 3, "age + sex"), ((2, 3, 1, 20), 1, "age")],
)
@pytest.mark.filterwarnings("ignore::bayescombat.errors.OverlapWarning")
def test_start_has_a_finite_density_and_gradient(scans: tuple[int, ...], features: int, covariates: str) -> None:
    model = bc.build_model(small_study(scans, features, covariates))
    value, gradient = density(model)(model.initial_point())
    assert np.isfinite(value)
    for name, part in gradient.items():
        assert np.isfinite(part).all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_start_has_a_finite_density_and_gradient_for_every_kind_of_table(kind: str) -> None:
    model = bc.build_model(KINDS[kind]())
    value, gradient = density(model)(model.initial_point())
    assert np.isfinite(value)
    for name, part in gradient.items():
        assert np.isfinite(part).all(), name


@pytest.mark.parametrize(
    ("likelihood", "kind"),
    # In the textbook form of a table with holes, y is a list of what was observed.
    [*(("moments", kind) for kind in KINDS), ("observations", "complete"), ("observations", "two batch variables")],
)
def test_every_array_has_named_dims(likelihood: str, kind: str) -> None:
    model = bc.build_model(KINDS[kind](), likelihood=likelihood)
    variables = [*model.free_RVs, *model.deterministics, *model.potentials, *model.observed_RVs, *model.data_vars]
    unnamed = [v.name for v in variables if v.ndim != len(model.named_vars_to_dims.get(v.name, ()))]
    assert unnamed == []


def test_coords_are_the_labels_of_the_study() -> None:
    study = small_study()
    model = bc.build_model(study, likelihood="observations")
    assert {name: list(values) for name, values in model.coords.items()} == {
        "feature": list(study.features),
        "batch": list(study.batches),
        "covariate": ["age"],
        "direction": [0],
        "contrast": [0, 1, 2],
        "obs": list(study.obs),
    }


def test_features_set_aside_are_not_in_the_model() -> None:
    simulation = bc.datasets.simulate((12, 7), features=3)
    study = bc.Study.from_dataframe(
        simulation.table.assign(zero=0.0), batch="site", features=[*simulation.features, "zero"]
    )
    with pytest.warns(bc.FeatureWarning, match="zero"):
        model = bc.build_model(study)
    assert list(model.coords["feature"]) == list(simulation.features)


def test_textbook_form_predicts_in_feature_units() -> None:
    study = small_study()
    model = bc.build_model(study, likelihood="observations")
    without_batches = pm.do(model, {"gamma": np.zeros((4, 4)), "delta": np.ones((4, 4))})
    with without_batches:
        prior = pm.sample_prior_predictive(20, var_names=["y"], random_seed=1, compile_kwargs={"mode": INTERPRETED})
    drawn = prior["prior_predictive"]["y"]
    assert drawn.sizes["obs"] == len(study.obs)
    assert float(np.median(np.abs(drawn - study.y.mean(axis=0)))) < 20 * study.y.std()


def test_textbook_form_needs_rows() -> None:
    with pytest.raises(bc.DataError, match="rows"):
        bc.build_model(Moments.from_study(small_study()), likelihood="observations")


@pytest.mark.parametrize("argument", ["likelihood", "cell_means"])
def test_unknown_forms_are_refused(argument: str) -> None:
    with pytest.raises(bc.BayesCombatError, match=argument):
        bc.build_model(small_study(), **{argument: "other"})
