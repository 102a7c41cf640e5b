"""scikit-learn's whole check battery, with its length, on every public estimator."""

import inspect
import pkgutil
from importlib import import_module

import pytest
from sklearn.base import BaseEstimator, is_regressor
from sklearn.utils.estimator_checks import (
    check_param_validation,
    estimator_checks_generator,
    parametrize_with_checks,
)

import stellarhml
from stellarhml import (
    BayesianStellarRegressor,
    LineCalibrator,
    LineManifoldInterpolator,
    PhoenixPreprocessor,
    SpectrumGenerator,
    VoigtLineDecomposer,
)

# Random numbers are no spectra: their continua, lines and labels call for the package's own warnings.
pytestmark = [
    pytest.mark.filterwarnings("ignore::stellarhml.exceptions.StellarHMLWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

QUICK = {"max_iter": 3, "n_rounds": 1, "subsample": 8}
QUICK_GENERATOR = SpectrumGenerator(decomposer=VoigtLineDecomposer(**QUICK))
ESTIMATORS = [
    PhoenixPreprocessor(),
    VoigtLineDecomposer(**QUICK),
    VoigtLineDecomposer(solver="adam", profile="pseudo-voigt", n_lines=1, max_iter=2),
    LineManifoldInterpolator(),
    LineManifoldInterpolator(method="regression"),
]
SLOW_ESTIMATORS = [
    SpectrumGenerator(),
    BayesianStellarRegressor(generator=QUICK_GENERATOR, search="nodes", n_starts=1, random_state=0),
    BayesianStellarRegressor(generator=QUICK_GENERATOR, n_initial_points=2, n_calls=2, polish=False, random_state=0),
]

# The battery fits arrays; these take a fitted generator and observed spectra, each of its own length.
NOT_OF_ARRAYS = [LineCalibrator(SpectrumGenerator())]

# Checks that scikit-learn 1.6 to 1.9 have for each kind; a skipped estimator would be green with one.
N_CHECKS = {"transformer": 47, "regressor": 53}


def _name(estimator):
    return repr(estimator)


@parametrize_with_checks(ESTIMATORS)
def test_estimator_obeys_sklearn(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(SLOW_ESTIMATORS)
def test_slow_estimator_obeys_sklearn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS + SLOW_ESTIMATORS, ids=_name)
def test_battery_is_complete(estimator):
    kind = "regressor" if is_regressor(estimator) else "transformer"
    assert sum(1 for _ in estimator_checks_generator(estimator)) >= N_CHECKS[kind]


@pytest.mark.parametrize("estimator", ESTIMATORS + SLOW_ESTIMATORS + NOT_OF_ARRAYS, ids=_name)
def test_every_parameter_has_a_constraint(estimator):
    assert set(type(estimator)._parameter_constraints) == set(inspect.signature(type(estimator)).parameters)
    check_param_validation(type(estimator).__name__, estimator)


def test_every_public_estimator_is_in_the_list():
    found = set()
    for module in pkgutil.walk_packages(stellarhml.__path__, "stellarhml."):
        if module.name in ("stellarhml.kernels.gpu_triton", "stellarhml.cli.__main__"):
            continue  # triton need not be installed; the other runs the command line
        for _, cls in inspect.getmembers(import_module(module.name), inspect.isclass):
            if issubclass(cls, BaseEstimator) and cls.__module__.startswith("stellarhml"):
                found.add(cls)
    assert {type(estimator) for estimator in ESTIMATORS + SLOW_ESTIMATORS + NOT_OF_ARRAYS} == found
