"""Pixels, radial velocities and derivatives of a fitted generator."""

from copy import copy

import numpy as np
import pytest

from stellarhml.kernels.interpolation import interpolate_cubic
from stellarhml.kernels.rendering import line_components, line_windows, render_lines
from stellarhml.physics.wavelength import doppler_shift
from stellarhml.synthesis.evaluation import TOLERANCE

BETWEEN = np.array([[5120.0, 3.7, -0.35], [5480.0, 4.2, -0.1]])
SPAN = np.array([750.0, 1.0, 0.5])
RV = np.array([-35.0, 60.0])
MASK = np.zeros(400, dtype=bool)
MASK[[0, 3, 50, 51, 200, 399]] = True
FORMS = {
    "slice": slice(37, 210),
    "slice with steps": slice(10, 300, 7),
    "open slice": slice(-50, None),
    "all": slice(None),
    "mask": MASK,
    "list of mask": MASK.tolist(),
    "indices": np.flatnonzero(MASK),
    "list": [3, 50, 399],
    "short integers": np.array([3, 50, 51], dtype=np.int16),
    "unsigned": np.array([0, 255], dtype=np.uint8),
    "list of NumPy's": [np.int64(3), np.int32(9)],
    "one": [7],
    "none": [],
    "empty slice": slice(30, 10),
}


@pytest.mark.parametrize("name", ["generator", "lines_alone", "whole_windows"])
@pytest.mark.parametrize("pixels", FORMS.values(), ids=FORMS)
def test_pixels_are_cut_from_the_whole(request, name, pixels):
    model = request.getfixturevalue(name)
    index = np.asarray(pixels) if not isinstance(pixels, slice) else pixels
    index = index.astype(int) if not isinstance(pixels, slice) and not index.size else index
    for rv in (None, RV):
        ours, std = model.predict(BETWEEN, pixels=pixels, rv=rv, return_std=True)
        flux, whole_std = model.predict(BETWEEN, rv=rv, return_std=True)
        assert ours.shape == flux[:, index].shape
        # lines are rendered to TOLERANCE, which may be used up otherwise on other pixels
        np.testing.assert_allclose(ours, flux[:, index], rtol=0, atol=TOLERANCE)
        np.testing.assert_array_equal(std, whole_std[:, index])
        np.testing.assert_allclose(
            model.jacobian(BETWEEN, pixels=pixels, rv=rv) * SPAN,
            model.jacobian(BETWEEN, rv=rv)[:, index] * SPAN,
            rtol=0,
            atol=10 * TOLERANCE,
        )
        np.testing.assert_array_equal(model.predict_nearest(BETWEEN, pixels=pixels, rv=rv)[0], ours)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ([3, 2], "must increase strictly from 0 to at most 399, but they go from 3 to 2"),
        ([3, 3], "must increase strictly"),
        ([-1, 5], "must increase strictly"),
        ([5, 400], "go from 5 to 400"),
        ([0.0, 1.0], "dtype float64; it needs a slice, indices, or a mask"),
        ([[1, 2]], r"shape \(1, 2\)"),
        (3, r"shape \(\)"),
        ([True, False], r"shape \(2,\) and dtype bool"),
    ],
)
def test_other_pixels_are_refused(generator, pixels, message):
    for method in (generator.predict, generator.jacobian, generator.predict_nearest):
        with pytest.raises(ValueError, match=message):
            method(BETWEEN, pixels=pixels)


@pytest.mark.parametrize("rv", [np.nan, np.inf, 1e5, [1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]]])
def test_other_velocities_are_refused(generator, rv):
    with pytest.raises(ValueError, match="one finite radial velocity in km/s, of at most 30,000, for all or for each"):
        generator.predict(BETWEEN, rv=rv)


def test_shifted_lines_are_rendered_at_their_wavelengths(lines_alone):
    wavelength = lines_alone.wavelength_
    flux = lines_alone.predict(BETWEEN, rv=RV)
    for i, rv in enumerate(RV):
        rest = wavelength / doppler_shift(1.0, rv)
        inside = (rest >= wavelength[0]) & (rest <= wavelength[-1])
        lines = lines_alone.line_table(BETWEEN[i])[list(lines_alone.decomposer_.line_parameters)].to_numpy()
        profile = lines_alone.decomposer_.profile
        want = render_lines(rest, lines, profile=profile, wing_cut=None, tolerance=TOLERANCE)
        # nothing but rounding: the table sums over more nodes, for its derivatives
        np.testing.assert_allclose(flux[i, inside], want[inside], rtol=0, atol=1e-13)
        np.testing.assert_array_equal(np.isnan(flux[i]), ~inside)
        assert 0 < np.count_nonzero(~inside) < 60


@pytest.mark.parametrize("name", ["generator", "lines_alone", "whole_windows"])
def test_light_from_beyond_the_band_is_nan_in_all_results(request, name):
    model = request.getfixturevalue(name)
    flux, std = model.predict(BETWEEN, rv=RV, return_std=True)
    lost = np.isnan(flux)
    assert np.all(lost.any(axis=1))
    # a star that recedes lacks what lies blueward of the band
    assert not lost[0, 0]
    assert lost[0, -1]
    assert lost[1, 0]
    np.testing.assert_array_equal(np.isnan(std), lost)
    np.testing.assert_array_equal(np.isnan(model.jacobian(BETWEEN, rv=RV)), np.repeat(lost[:, :, None], 3, axis=2))
    assert np.isnan(model.predict(BETWEEN, rv=-2e4)).all()


def test_one_velocity_serves_all_and_zero_is_none(generator):
    flux = generator.predict(BETWEEN)
    np.testing.assert_array_equal(generator.predict(BETWEEN, rv=0.0), flux)
    np.testing.assert_array_equal(generator.predict(BETWEEN, rv=20.0), generator.predict(BETWEEN, rv=[20.0, 20.0]))
    mixed = generator.predict(BETWEEN, rv=[0.0, 20.0])
    np.testing.assert_array_equal(mixed[0], flux[0])
    np.testing.assert_array_equal(mixed[1], generator.predict(BETWEEN, rv=20.0)[1])


@pytest.mark.parametrize("rv", [-40.0, 3.0, 40.0])
def test_a_star_shifted_and_shifted_back(generator, rv):
    wavelength = generator.wavelength_
    there = generator.predict(BETWEEN, rv=rv)
    for flux, shifted in zip(generator.predict(BETWEEN), there, strict=True):
        seen = np.isfinite(shifted)
        at = doppler_shift(wavelength, rv)
        inside = (at > wavelength[seen][2]) & (at < wavelength[seen][-3])
        back = interpolate_cubic(wavelength[seen], shifted[seen], at[inside])
        # the narrowest lines are two pixels wide, on which a cubic errs by 1 %
        np.testing.assert_allclose(back, flux[inside], rtol=0, atol=0.015)
        assert np.abs(shifted[seen] - flux[seen]).max() > 0.2


@pytest.mark.parametrize("pixels", [None, slice(60, 300), np.arange(20, 390, 9)], ids=["all", "slice", "indices"])
def test_jacobian_under_a_velocity_is_that_of_predict(whole_windows, pixels):
    options = {"pixels": pixels, "rv": RV}
    jacobian = whole_windows.jacobian(BETWEEN, **options) * SPAN
    for k in range(3):
        h = 1e-3 * SPAN * (np.arange(3) == k)
        up, down = (whole_windows.predict(BETWEEN + sign * h, **options) for sign in (1, -1))
        # (1e-3)^2 / 6 of third derivatives; residuals in single precision and cells of pixels, which jump by some 1e-8
        # within TOLERANCE, over a step of 2e-3
        np.testing.assert_allclose(jacobian[:, :, k], (up - down) / 2e-3, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["generator", "lines_alone", "whole_windows"])
@pytest.mark.parametrize("pixels", [None, slice(37, 210), [3, 50, 399], []], ids=["all", "slice", "list", "none"])
def test_the_kernels_of_the_gpu_give_the_same(request, name, pixels):
    model = request.getfixturevalue(name)
    torches = copy(model).set_params(device="cpu")
    for ours, theirs in zip(
        torches.predict(BETWEEN, pixels=pixels, return_std=True),
        model.predict(BETWEEN, pixels=pixels, return_std=True),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
    # shifted stars are rendered by the default
    np.testing.assert_array_equal(
        torches.predict(BETWEEN, pixels=pixels, rv=RV), model.predict(BETWEEN, pixels=pixels, rv=RV)
    )


def test_many_are_as_one_by_one(generator):
    flux = generator.predict(BETWEEN, rv=RV)
    for i in range(2):
        np.testing.assert_array_equal(generator.predict(BETWEEN[i : i + 1], rv=RV[i])[0], flux[i])


def test_the_span_of_a_line_holds_all_that_a_window_may_miss(generator):
    # a window takes the lines whose span it meets: what it leaves out must be small, as each line's window says
    model = generator.lines_
    table = model.interpolator.table_
    last = len(model.wavelength) - 1
    for node in (0, table.n_nodes - 1):
        lines, theta = table.at_node(node)
        start, stop = line_windows(model.wavelength, line_components(theta, model.profile), None, tolerance=1e-7)
        shown = stop > start
        low, high = model.wavelength[start[shown]], model.wavelength[np.minimum(stop[shown] - 1, last)]
        assert (model.span[lines[shown], 0] <= low).all()
        assert (model.span[lines[shown], 1] >= high).all()
