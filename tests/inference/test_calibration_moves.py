"""Errors of corrected lines in the errors of results: shifts of lines move a fit as they are said to."""

import copy

import numpy as np
import pytest
from mock_line_grid import make_line_generator

from stellarhml import BayesianStellarRegressor
from stellarhml.forward.chain import ForwardChain
from stellarhml.forward.observation import Observation
from stellarhml.inference.line_faults import START, Faults
from stellarhml.kernels.line_columns import KINDS
from stellarhml.synthesis.calibration_errors import CalibrationErrors
from stellarhml.synthesis.line_changes import LineChanges

N_LINES, POWER, SNR = 60, 60_000, 150
TRUTH = {"teff": 5420.0, "logg": 4.05, "feh": -0.12, "rv": 3.0, "vsini": 4.0}
PIXELS = [np.arange(8504.0, 8535.0, 0.06), np.arange(8534.0, 8571.0, 0.06)]
NAMES = list(TRUTH)


@pytest.fixture(scope="module")
def generator():
    return make_line_generator(N_LINES, strongest=2.0)


def _with_errors(generator, modes=(), *, scatter=None, variances=None):
    """The generator as if it were calibrated."""
    calibrated = copy.copy(generator)
    scatter = np.array([START[kind] for kind in KINDS]) if scatter is None else scatter
    variances = np.zeros((len(KINDS), N_LINES)) if variances is None else variances
    modes = np.reshape(np.array(modes, dtype=np.float32), (-1, len(KINDS), N_LINES))
    calibrated.calibration_ = CalibrationErrors(scatter, variances, modes)
    return calibrated


def _star(generator, offsets, seed=0, noise=1.0):
    """Two orders of a star with shifted lines (n_kinds, n_lines)."""
    rng = np.random.default_rng(seed)
    changes = LineChanges(generator, offsets=dict(zip(KINDS, offsets, strict=True)))
    fluxes = ForwardChain(generator, Observation(PIXELS, resolving_power=POWER), changes=changes).flux(TRUTH)
    flux = [np.nan_to_num(flux, nan=1.0) + noise * rng.normal(size=len(flux)) / SNR for flux in fluxes]
    return list(PIXELS), flux, [np.full(len(x), 1 / SNR) for x in flux]


def _infer(generator, star, line_errors):
    regressor = BayesianStellarRegressor.from_generator(generator, generator_error=False, line_errors=line_errors)
    return regressor.infer(star, resolving_power=POWER)


def _values(result):
    return np.array([result.values[name] for name in NAMES])


@pytest.mark.parametrize("line_errors", [False, True])
@pytest.mark.parametrize("kind", ["strength", "velocity", "width"])
def test_a_shared_error_moves_a_star_as_it_is_quoted(generator, line_errors, kind):
    """The same star, and the same noise, with lines that are shifted by one mode."""
    rng = np.random.default_rng(2)
    size = {"strength": 0.02, "velocity": 0.03, "width": 0.01}[kind]
    mode = np.where(np.array(KINDS)[:, None] == kind, size * rng.normal(size=N_LINES), 0.0)
    faults = np.array([0.1, 0.1, 0.02, 0.05])[:, None] * rng.normal(size=(len(KINDS), N_LINES)) * line_errors
    calibrated = _with_errors(generator, [mode], scatter=np.full(4, 1e-6) if not line_errors else None)
    results = [_infer(calibrated, _star(generator, faults + sign * mode), line_errors) for sign in (-1, 1)]
    moved = 0.5 * (_values(results[1]) - _values(results[0]))
    names = results[0].names
    own = [names.index(name) for name in NAMES]
    part = results[0].covariances["calibration"][np.ix_(own, own)]
    quoted = np.sqrt(np.diag(part))
    noise = np.array([results[0].noise_errors[name] for name in NAMES])
    # the fit is not quite linear: a quarter of the move, or of the noise
    assert (quoted > 0.3 * noise).any()
    assert (np.abs(np.abs(moved) - quoted) < 0.25 * np.maximum(quoted, noise)).all()
    # all parameters together, in one direction
    direction = part[np.argmax(quoted / noise)] / quoted[np.argmax(quoted / noise)]
    direction *= np.sign(direction @ (moved / noise**2))
    assert (np.abs(moved - direction) < 0.25 * np.maximum(quoted, noise)).all()
    budget = results[0].error_budget()
    np.testing.assert_allclose(budget["calibration"].loc[NAMES], quoted, rtol=1e-6)
    assert (budget["total"] >= budget["calibration"]).all()


def test_errors_of_single_lines_hold_where_lines_are_taken_as_they_are(generator):
    """Stars whose lines scatter as the calibration says, without faults in the fit."""
    rng = np.random.default_rng(5)
    scatter, variances = np.array([0.06, 0.08, 0.01, 0.05]), np.zeros((len(KINDS), N_LINES))
    variances[0, ::3], variances[1, 1::3] = 0.2**2, 0.2**2
    calibrated = _with_errors(generator, scatter=scatter, variances=variances)
    off = []
    for seed in range(25):
        faults = np.sqrt(scatter[:, None] ** 2 + variances) * rng.normal(size=variances.shape)
        result = _infer(calibrated, _star(generator, faults, seed), False)
        errors = np.sqrt(np.diag(result.covariances["calibration"]))[: len(NAMES)]
        off.append((_values(result) - list(TRUTH.values())) / np.hypot(errors, list(result.noise_errors.values())))
    ratio = np.sqrt(np.mean(np.square(off)[:, :4], axis=0))
    assert (ratio > 0.5).all()
    assert (ratio < 1.4).all()


def test_faults_begin_with_what_the_calibration_knows(generator):
    variances = np.full((len(KINDS), N_LINES), 0.1**2)
    errors = _with_errors(generator, scatter=np.array([0.1, 0.05, 0.1, 0.1]), variances=variances).calibration_
    faults = Faults.none(N_LINES, errors)
    assert faults.scales == dict(zip(KINDS, errors.scatter, strict=True))
    for kind, scale in zip(KINDS, errors.scatter, strict=True):
        np.testing.assert_allclose(faults.prior_scale(kind), np.hypot(scale, 0.1))
    assert Faults.none(3).prior_scale("strength").tolist() == [START["strength"]] * 3


def test_lines_that_are_known_better_decide(generator):
    """Half of the lines have faults, which the calibration says: the labels are closer to those of the other half."""
    rng = np.random.default_rng(8)
    bad = np.arange(N_LINES) % 2 == 0
    variances = np.zeros((len(KINDS), N_LINES))
    variances[0, bad] = 0.5**2
    known = _with_errors(generator, scatter=np.array([0.02, 0.02, 0.005, 0.02]), variances=variances)
    errors = {True: [], False: []}
    for seed in range(6):
        faults = np.zeros((len(KINDS), N_LINES))
        faults[0, bad] = 0.5 * rng.normal(size=bad.sum())
        star = _star(generator, faults, seed)
        for told, model in ((True, known), (False, generator)):
            errors[told].append((_values(_infer(model, star, True)) - list(TRUTH.values()))[:3] / [100, 0.1, 0.1])
    rms = {told: np.sqrt(np.mean(np.square(part))) for told, part in errors.items()}
    assert rms[True] < 0.8 * rms[False]
