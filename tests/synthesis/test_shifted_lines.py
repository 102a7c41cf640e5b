"""Generators with shifted lines."""

from functools import partial

import numpy as np
import pytest

from stellarhml import SpectrumGenerator, VoigtLineDecomposer, load, save
from stellarhml.synthesis.line_changes import LineChanges
from stellarhml.synthesis.shifted_lines import shift_lines

LABELS = np.array([5310.0, 3.8, -0.2])
KINDS = ("strength", "velocity", "width", "wing")


@pytest.fixture(scope="module")
def with_profile(grid):
    """Generators of lines alone, by the name of the profile."""

    def fit(profile):
        decomposer = VoigtLineDecomposer(profile=profile, n_rounds=0, subsample=6)
        model = SpectrumGenerator(wavelength=grid.wavelength, decomposer=decomposer, n_factors=None, residual_rank=None)
        return model.fit(grid.labels, grid.flux)

    return fit


def _shifts(generator):
    rng, n = np.random.default_rng(0), len(generator.decomposer_.line_catalog_)
    scales = (0.3, 2.0, 0.1, 0.3)
    return {kind: scale * rng.normal(size=n) for kind, scale in zip(KINDS, scales, strict=True)}


def _require_shifted(generator):
    """The lines are shifted as in a spectrum with these changes of lines, and the generator is as it was."""
    shifts, before = _shifts(generator), generator.predict(LABELS[None])
    shifted = shift_lines(generator, shifts)
    change = partial(LineChanges(generator, offsets=shifts).apply, values={})
    expected = generator.render_rows(LABELS, slice(0, len(generator.wavelength_)), change=change)
    # windows of the lines are measured anew: 1e-7 of a line
    np.testing.assert_allclose(shifted.predict(LABELS[None]), expected, atol=3e-6)
    assert np.abs(expected - before).max() > 0.02
    np.testing.assert_array_equal(generator.predict(LABELS[None]), before)
    return shifted


def test_lines_in_factors(generator):
    assert type(_require_shifted(generator).interpolator_.table_).__name__ == "LineFactors"


@pytest.mark.parametrize("profile", ["minnaert", "saturated-voigt"])
def test_lines_in_a_bank(with_profile, profile):
    assert type(_require_shifted(with_profile(profile)).interpolator_.table_).__name__ == "LineBank"


def test_it_is_a_generator_like_any_other(generator, tmp_path):
    shifted = shift_lines(generator, _shifts(generator))
    again = load(save(shifted, tmp_path / "g.asdf"))
    flux, std = shifted.predict(LABELS[None], return_std=True)
    for found, expected in zip(again.predict(LABELS[None], return_std=True), (flux, std), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(std, generator.predict(LABELS[None], return_std=True)[1])
    numeric = (shifted.predict(LABELS[None] + [[1, 0, 0]]) - shifted.predict(LABELS[None] - [[1, 0, 0]])) / 2
    # a parabola over 1 K
    np.testing.assert_allclose(shifted.jacobian(LABELS[None])[0, :, 0], numeric[0], atol=1e-6)
    nothing = shift_lines(generator, {})
    np.testing.assert_array_equal(nothing.predict(LABELS[None]), generator.predict(LABELS[None]))
